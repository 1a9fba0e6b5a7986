//! See [`crate::fuzzing`].

use bytes::Bytes;
use prost::Message;
use vespid_types::{Error, Request};

use super::codec::check_fields;
use super::decode::{Decoded, decode, target};
use super::proto::ModelInferRequest;
use crate::wire::options::Options;

/// Reads the message of an inference request, as the service does.
///
/// # Errors
/// What is wrong with it.
pub fn infer_message(message: Bytes) -> Result<Request, Error> {
    check_fields(&message).map_err(|status| Error::invalid(status.message()))?;
    let message = ModelInferRequest::decode(message).map_err(|error| Error::invalid(error.to_string()))?;
    let model = target(&message.model_name, &message.model_version)?;
    let Decoded { id, mut parameters, inputs, outputs, .. } = decode(message)?;
    let Options { deadline, priority, sequence } = Options::take(&mut parameters)?;
    Ok(Request { model, id, parameters, inputs, outputs, deadline, priority, sequence })
}
