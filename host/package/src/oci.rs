//! Registries: packages are pushed to them and pulled from them as OCI artifacts.
//!
//! Contract: an artifact is the package's record as its manifest and the record's blobs, so that a store and a registry
//! hold the same bytes and a package has one digest everywhere. A tag is resolved to a digest once; from then on the digest
//! is what counts. What comes is checked by size and digest before anybody sees it. Credentials are Docker's. Cost: a
//! client for each push and pull; blobs go by stream. Left out: the referrers API of OCI 1.1, which many registries lack;
//! mounting blobs from other repositories.

mod credentials;
mod error;
mod keys;
mod pull;
mod push;
mod reference;
mod session;
mod signature;
mod trust;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytesize::ByteSize;

pub use error::RegistryError;
pub use keys::{PublicKey, SigningKey};
pub use pull::{Pulled, Wanted};
pub use push::{Outgoing, Pushed};
pub use reference::{InvalidReference, Reference, SCHEME};
pub use trust::{PlacePattern, TrustPolicy};

/// How registries are asked, and what is taken from them.
#[derive(Debug)]
pub struct RegistryOptions {
    /// Hosts, with their ports, that are spoken to by plain HTTP; those of this machine always are.
    pub insecure: BTreeSet<String>,
    /// Whose artifacts are taken; anybody's where there is no policy.
    pub trust: Option<TrustPolicy>,
    /// How large a package may be.
    pub max_package: ByteSize,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { insecure: BTreeSet::new(), trust: None, max_package: ByteSize::gib(4) }
    }
}

/// The way to registries. Clones share it.
#[derive(Clone, Debug)]
pub struct Registry(Arc<RegistryOptions>);

/// Is told how a transfer goes.
pub trait Progress: Send + Sync {
    /// All that there is to move.
    fn total(&self, bytes: u64) {
        let _ = bytes;
    }

    /// So much more is there.
    fn moved(&self, bytes: u64) {
        let _ = bytes;
    }

    /// So much of what was there has to come again.
    fn lost(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// Nobody watches.
impl Progress for () {}

impl Registry {
    /// A way to registries.
    #[must_use]
    pub fn new(options: RegistryOptions) -> Self {
        Self(Arc::new(options))
    }

    pub(crate) fn options(&self) -> &RegistryOptions {
        &self.0
    }

    /// Whether clients may upload packages, as the trust policy says.
    #[must_use]
    pub fn allows_uploads(&self) -> bool {
        self.0.trust.as_ref().is_none_or(TrustPolicy::allows_uploads)
    }
}
