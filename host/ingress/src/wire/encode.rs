//! From a [`Response`] to the body of the answer.
//!
//! Contract: floats are written with the fewest digits that read back as the same value. What JSON cannot hold (NaN,
//! infinity, text that is not UTF-8) is refused with the remedy, never replaced. Cost: binary outputs are handed on as
//! they are, in pieces of their own; the JSON is written straight from the tensors' bytes into one buffer.
//! Left out on purpose: nested data, for every client reads flat data and the shape.

use bytes::Bytes;
use half::{bf16, f16};
use vespid_types::{Datatype, Error, ErrorCode, NamedTensor, Parameter, Parameters, Response};

use super::fault::name;
use super::format::OutputFormat;

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
/// [`ErrorCode::InvalidArgument`] where an output has a value that JSON cannot hold and was not asked for as binary;
/// [`ErrorCode::PluginFailed`] where a parameter has.
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
            put_data(&mut json, output)?;
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

fn put_data(json: &mut Vec<u8>, output: &NamedTensor) -> Result<(), Error> {
    let data = output.tensor.data();
    match output.tensor.datatype() {
        Datatype::Bool => put_list(json, data.iter(), |json, value| {
            put(json, &[if *value == 0 { "false" } else { "true" }]);
        }),
        Datatype::Uint8 => put_list(json, data.iter(), |json, value| put_whole(json, *value)),
        Datatype::Int8 => put_list(json, data.iter(), |json, value| put_whole(json, value.cast_signed())),
        Datatype::Uint16 => put_numbers(json, data, |json, b| put_whole(json, u16::from_le_bytes(b))),
        Datatype::Uint32 => put_numbers(json, data, |json, b| put_whole(json, u32::from_le_bytes(b))),
        Datatype::Uint64 => put_numbers(json, data, |json, b| put_whole(json, u64::from_le_bytes(b))),
        Datatype::Int16 => put_numbers(json, data, |json, b| put_whole(json, i16::from_le_bytes(b))),
        Datatype::Int32 => put_numbers(json, data, |json, b| put_whole(json, i32::from_le_bytes(b))),
        Datatype::Int64 => put_numbers(json, data, |json, b| put_whole(json, i64::from_le_bytes(b))),
        Datatype::Fp16 => return put_floats(json, output, |b| f16::from_le_bytes(b).to_f32()),
        Datatype::Bf16 => return put_floats(json, output, |b| bf16::from_le_bytes(b).to_f32()),
        Datatype::Fp32 => return put_floats(json, output, f32::from_le_bytes),
        Datatype::Fp64 => return put_floats(json, output, f64::from_le_bytes),
        Datatype::Bytes => return put_texts(json, output),
    }
    Ok(())
}

fn put_numbers<const N: usize>(json: &mut Vec<u8>, data: &[u8], put_one: impl Fn(&mut Vec<u8>, [u8; N])) {
    put_list(json, data.as_chunks::<N>().0.iter(), |json, bytes| put_one(json, *bytes));
}

fn put_floats<const N: usize, F: Float>(
    json: &mut Vec<u8>,
    output: &NamedTensor,
    read: impl Fn([u8; N]) -> F,
) -> Result<(), Error> {
    let mut failed = None;
    let values = output.tensor.data().as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).enumerate();
    put_list(json, values, |json, (index, value)| {
        if value.is_finite() {
            json.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
        } else {
            failed.get_or_insert((index, value));
        }
    });
    match failed {
        None => Ok(()),
        Some((index, value)) => Err(Error::invalid(format!(
            "output '{}': data[{index}] is {value}, which JSON cannot hold: {ASK_BINARY}",
            name(&output.name)
        ))),
    }
}

const ASK_BINARY: &str = "ask for the output with the parameter binary_data: true";

fn put_texts(json: &mut Vec<u8>, output: &NamedTensor) -> Result<(), Error> {
    let mut failed = None;
    put_list(json, output.tensor.elements().contents().enumerate(), |json, (index, element)| {
        match std::str::from_utf8(element) {
            Ok(text) => put_text(json, text),
            Err(_) => {
                failed.get_or_insert(index);
            }
        }
    });
    match failed {
        None => Ok(()),
        Some(index) => Err(Error::invalid(format!(
            "output '{}': data[{index}] is not UTF-8 text, which is all that JSON can hold: {ASK_BINARY}",
            name(&output.name)
        ))),
    }
}

fn put_parameters(json: &mut Vec<u8>, parameters: &Parameters) -> Result<(), Error> {
    let mut failed = None;
    put(json, &["{"]);
    put_list(json, parameters.iter(), |json, (key, value)| {
        put_text(json, key);
        put(json, &[":"]);
        match value {
            Parameter::Bool(value) => put(json, &[if *value { "true" } else { "false" }]),
            Parameter::Int(value) => put_whole(json, *value),
            Parameter::Double(value) if value.is_finite() => {
                json.extend_from_slice(ryu::Buffer::new().format_finite(*value).as_bytes());
            }
            Parameter::Double(value) => {
                failed.get_or_insert((key, *value));
            }
            Parameter::Text(value) => put_text(json, value),
        }
    });
    put(json, &["}"]);
    match failed {
        None => Ok(()),
        Some((key, value)) => Err(Error::new(
            ErrorCode::PluginFailed,
            format!("response parameter '{}' is {value}, which JSON cannot hold", name(key)),
        )),
    }
}

fn put(json: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        json.extend_from_slice(piece.as_bytes());
    }
}

fn put_list<T>(json: &mut Vec<u8>, items: impl Iterator<Item = T>, mut put_one: impl FnMut(&mut Vec<u8>, T)) {
    for (position, item) in items.enumerate() {
        if position > 0 {
            json.push(b',');
        }
        put_one(json, item);
    }
}

fn put_whole(json: &mut Vec<u8>, value: impl itoa::Integer) {
    json.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn put_text(json: &mut Vec<u8>, text: &str) {
    // Writing a string into memory does not fail; were it to, the JSON would be unreadable rather than wrong.
    let written = serde_json::to_writer(&mut *json, text);
    debug_assert!(written.is_ok());
}

trait Float: ryu::Float + std::fmt::Display {
    fn is_finite(&self) -> bool;
}

impl Float for f32 {
    fn is_finite(&self) -> bool {
        f32::is_finite(*self)
    }
}

impl Float for f64 {
    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
}
