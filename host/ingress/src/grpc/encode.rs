//! From a [`Response`] to its message.
//!
//! Contract: outputs are raw, whatever the request's inputs were; clients read both. An answer beyond the limit of a
//! message is refused here, where the limit can be named. Cost: tensors are handed on; the codec copies them into the message.

use bytesize::ByteSize;
use prost::Message;
use vespid_types::{Error, ErrorCode, NamedTensor, Response, note_copy};

use super::parameters;
use super::proto::ModelInferResponse;
use super::proto::model_infer_response::InferOutputTensor;

/// The answer to a request.
///
/// # Errors
/// [`ErrorCode::TooLarge`] where it has more than `limit` bytes.
pub(super) fn encode(response: Response, limit: ByteSize) -> Result<ModelInferResponse, Error> {
    let Response { model, version, id, parameters, outputs } = response;
    let mut message = ModelInferResponse {
        model_name: model.into(),
        model_version: version.to_string(),
        id: id.unwrap_or_default(),
        parameters: parameters::encode(parameters),
        ..ModelInferResponse::default()
    };
    for NamedTensor { name, tensor } in outputs {
        message.outputs.push(InferOutputTensor {
            name,
            datatype: tensor.datatype().as_str().to_owned(),
            // An extent that large belongs to a tensor without elements.
            shape: tensor.shape().iter().map(|extent| i64::try_from(*extent).unwrap_or(i64::MAX)).collect(),
            ..InferOutputTensor::default()
        });
        message.raw_output_contents.push(tensor.into_data());
    }
    let length = message.encoded_len() as u64;
    if length > limit.as_u64() {
        return Err(Error::new(
            ErrorCode::TooLarge,
            format!(
                "the answer has {length} bytes, and a message may have {limit}: ask for fewer outputs or rows"
            ),
        ));
    }
    note_copy(message.raw_output_contents.iter().map(bytes::Bytes::len).sum());
    Ok(message)
}
