//! From a [`Response`] to the body of the answer.
//!
//! Contract: floats are written with the fewest digits that read back as the same value. What JSON cannot hold (NaN,
//! infinity, text that is not UTF-8) is refused with the remedy, never replaced. Cost: binary outputs are handed on as
//! they are, in pieces of their own; the JSON is written straight from the tensors' bytes into one buffer.
//! Left out on purpose: nested data, for every client reads flat data and the shape.

use bytes::Bytes;
use vespid_types::{Error, Parameters, Response};

use super::format::OutputFormat;
use super::write::{Style, put, put_data, put_list, put_parameter, put_text, put_whole};

/// A body in pieces, with the headers that go with it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedBody {
    /// The value of [`HEADER_LENGTH`](super::HEADER_LENGTH); none where the body is JSON alone.
    pub header_length: Option<usize>,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The JSON.
    pub head: Bytes,
    /// The binary outputs that follow it, in order.
    pub tail: Vec<Bytes>,
}

impl EncodedBody {
    /// The number of bytes of the whole body.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether there is no body. There always is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes the answer to a request, each output as `format` says.
///
/// # Errors
/// `INVALID_ARGUMENT` where an output has a value that JSON cannot hold and was not asked for as binary;
/// `PLUGIN_FAILED` where a parameter has.
pub fn encode(response: &Response, format: &OutputFormat) -> Result<EncodedBody, Error> {
    let mut json = Vec::with_capacity(estimate(response, format));
    let mut tail = Vec::new();

    // Names and versions of models need no escapes.
    put(&mut json, &["{\"model_name\":\"", response.model.as_str(), "\",\"model_version\":\""]);
    put(&mut json, &[&response.version.to_string(), "\""]);
    if let Some(id) = &response.id {
        put(&mut json, &[",\"id\":"]);
        put_text(&mut json, id);
    }
    if !response.parameters.is_empty() {
        put(&mut json, &[",\"parameters\":"]);
        put_parameters(&mut json, &response.parameters)?;
    }
    put(&mut json, &[",\"outputs\":["]);
    let mut separator = "";
    for output in &response.outputs {
        put(&mut json, &[separator, "{\"name\":"]);
        put_text(&mut json, &output.name);
        put(&mut json, &[",\"datatype\":\"", output.tensor.datatype().as_str(), "\",\"shape\":["]);
        put_list(&mut json, output.tensor.shape().iter(), |json, extent| put_whole(json, *extent));
        if format.is_binary(&output.name) {
            put(&mut json, &["],\"parameters\":{\"binary_data_size\":"]);
            put_whole(&mut json, output.tensor.data().len());
            put(&mut json, &["}}"]);
            tail.push(output.tensor.data().clone());
        } else {
            put(&mut json, &["],\"data\":["]);
            put_data(&mut json, output, &Style::INFER)?;
            put(&mut json, &["]}"]);
        }
        separator = ",";
    }
    put(&mut json, &["]}"]);

    let binary = !tail.is_empty();
    Ok(EncodedBody {
        header_length: binary.then_some(json.len()),
        content_type: if binary { "application/octet-stream" } else { "application/json" },
        head: json.into(),
        tail,
    })
}

/// The protocol's body for a failure: `{"error": message}`.
#[must_use]
pub fn error_body(message: &str) -> Bytes {
    let mut json = Vec::with_capacity(message.len() + 16);
    put(&mut json, &["{\"error\":"]);
    put_text(&mut json, message);
    put(&mut json, &["}"]);
    json.into()
}

/// Room for the JSON: measured text takes about three characters for each byte of a tensor at most.
fn estimate(response: &Response, format: &OutputFormat) -> usize {
    response.outputs.iter().fold(160, |total, output| {
        let data = if format.is_binary(&output.name) { 0 } else { output.tensor.data().len() };
        total + 96 + output.name.len() + data.saturating_mul(3)
    })
}

fn put_parameters(json: &mut Vec<u8>, parameters: &Parameters) -> Result<(), Error> {
    let mut failed = None;
    put(json, &["{"]);
    put_list(json, parameters.iter(), |json, (key, value)| {
        put_text(json, key);
        put(json, &[":"]);
        if let Err(error) = put_parameter(json, key, value) {
            failed.get_or_insert(error);
        }
    });
    put(json, &["}"]);
    failed.map_or(Ok(()), Err)
}
