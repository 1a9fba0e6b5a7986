//! What reads bytes of clients and is private otherwise: for `tests/fuzz` alone, and no interface.

use vespid_serving::LoadOptions;
use vespid_types::{Error, ModelName};

pub use crate::grpc::fuzzing::infer_message;
use crate::wire::{batches, repository};

/// Reads the body of a request to load a model.
///
/// # Errors
/// What is wrong with it.
pub fn load(model: &ModelName, body: &[u8]) -> Result<LoadOptions, Error> {
    repository::decode_load(model, body)
}

/// Reads the body of a request for a job over files.
///
/// # Errors
/// What is wrong with it.
pub fn job(body: &[u8]) -> Result<(), Error> {
    batches::decode(body).map(drop)
}
