//! What reads files and headers and is private otherwise: for `tests/fuzz` alone, and no interface.

use std::path::Path;
use std::time::SystemTime;

use crate::keys::KeyRing;
use crate::{AccessConfig, AccessError, Denied};

pub use crate::oidc::fuzzing::token;

/// Reads what stands in `access.yaml`.
///
/// # Errors
/// What is wrong with it.
pub fn access(text: &str) -> Result<AccessConfig, AccessError> {
    AccessConfig::parse(Path::new("access.yaml"), text)
}

/// Reads a file of keys, and looks `key` up.
///
/// # Errors
/// What is wrong with the file; whether the key is none of its own.
pub fn keys(text: &str, key: &str) -> Result<Result<(), Denied>, AccessError> {
    let ring = KeyRing::parse(Path::new("keys.yaml"), text)?;
    Ok(ring.find(key, SystemTime::UNIX_EPOCH).map(drop))
}
