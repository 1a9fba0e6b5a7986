//! From the body of an inference request to a [`Request`].
//!
//! Contract: see [`decode`]. Cost: one pass over the JSON, and one over each tensor's data in it; binary tensors are
//! slices of the body. Left out on purpose: the check against the signature, for the core does it on every way in.

use std::collections::BTreeSet;

use bytes::Bytes;
use vespid_types::{
    Datatype, Error, ErrorCode, ModelRef, NamedTensor, Parameter, Parameters, Priority, Request, Signature,
    Tensor,
};

use super::fault::{self, InputAt, name};
use super::format::OutputFormat;
use super::json::{Count, InferRequest, Input, Object, Output};
use super::options::Options;
use super::{data, raw};

/// Reads the (inflated) body of an inference request for `target`, whose signature is needed only where the body is
/// nothing but a raw tensor. `header_length` is the value of [`HEADER_LENGTH`](super::HEADER_LENGTH), where it was sent.
/// Answers how each output is to be written, too.
///
/// # Errors
/// [`ErrorCode::InvalidArgument`] with the field and the remedy; [`ErrorCode::Unsupported`] for shared memory.
pub fn decode(
    body: Bytes,
    header_length: Option<&str>,
    target: ModelRef,
    signature: &Signature,
) -> Result<(Request, OutputFormat), Error> {
    let length = header_length.map(|text| json_length(text, body.len())).transpose()?;
    // Nothing may be the content of a file.
    if body.is_empty() && (length.is_none() || !raw::takes_bytes(signature)) {
        return Err(Error::invalid(
            "request body is empty: send an inference request, such as {\"inputs\": [{\"name\": ..., \"shape\": \
             [1], \"datatype\": \"FP32\", \"data\": [0.5]}]}",
        ));
    }
    if length == Some(0) {
        let request = Request {
            model: target,
            id: None,
            parameters: Parameters::new(),
            inputs: vec![raw::decode(body, signature)?],
            outputs: Vec::new(),
            deadline: None,
            priority: Priority::ONLINE,
            sequence: None,
        };
        return Ok((request, OutputFormat::binary()));
    }

    let mut binary = length.map(|length| body.slice(length..));
    let json = body.get(..length.unwrap_or(body.len())).unwrap_or_default();
    let json = std::str::from_utf8(json).map_err(|error| fault::not_utf8(error, length))?;
    let Object(wire): InferRequest<'_> =
        serde_json::from_str(json).map_err(|error| fault::not_a_request(json, length, &error))?;

    let mut inputs = Vec::with_capacity(wire.inputs.0.len());
    for (index, Object(input)) in wire.inputs.0.into_iter().enumerate() {
        let tensor = read_input(index, &input, &mut binary)?;
        inputs.push(NamedTensor { name: input.name, tensor });
    }
    if let Some(left) = binary.as_ref().map(Bytes::len).filter(|left| *left > 0) {
        return Err(Error::invalid(format!(
            "request body is longer than the JSON and the inputs' binary data together, by {left}: check \
             Inference-Header-Content-Length and each binary_data_size"
        )));
    }

    let mut parameters = wire.parameters.map(|parameters| parameters.0).unwrap_or_default();
    let mut format = match parameters.remove("binary_data_output") {
        None | Some(Parameter::Bool(false)) => OutputFormat::json(),
        Some(Parameter::Bool(true)) => OutputFormat::binary(),
        Some(_) => return Err(Error::invalid("parameters.binary_data_output: expected true or false")),
    };
    let Options { deadline, priority, sequence } = Options::take(&mut parameters)?;
    let outputs = read_outputs(wire.outputs.map(|outputs| outputs.0).unwrap_or_default(), &mut format)?;
    let request =
        Request { model: target, id: wire.id, parameters, inputs, outputs, deadline, priority, sequence };
    Ok((request, format))
}

/// Whether a body that does not say what it is reads as the JSON of an inference request.
#[must_use]
pub fn is_request(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<InferRequest<'_>>(body).is_ok()
}

/// The length of the JSON, no more than that of the body.
fn json_length(text: &str, body: usize) -> Result<usize, Error> {
    let refuse = |reason: String| Error::invalid(format!("header Inference-Header-Content-Length: {reason}"));
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refuse(format!("expected the number of bytes of the JSON, got '{}'", name(digits))));
    }
    match digits.parse::<usize>() {
        Ok(length) if length <= body => Ok(length),
        _ => Err(refuse(format!(
            "{} bytes of JSON in a body of {body} bytes (of an inflated body, where it came compressed)",
            name(digits)
        ))),
    }
}

fn read_input(index: usize, input: &Input<'_>, binary: &mut Option<Bytes>) -> Result<Tensor, Error> {
    let at = InputAt(index, &input.name);
    let datatype: Datatype =
        input.datatype.parse().map_err(|error| Error::invalid(format!("{at}: {error}")))?;
    let parameters = input.parameters.as_ref().map(|parameters| &parameters.0);
    if parameters.is_some_and(|parameters| parameters.shared_memory_region.is_some()) {
        return Err(no_shared_memory(format_args!("{at}")));
    }
    let shape = &input.shape.0;
    let bytes = match (input.data, parameters.and_then(|parameters| parameters.binary_data_size.as_ref())) {
        (Some(data), None) => data::parse(data.get(), datatype, shape)
            .map_err(|reason| Error::invalid(format!("{at}: {reason}")))?
            .into(),
        (None, Some(Count(size))) => take_binary(binary, *size)
            .map_err(|reason| Error::invalid(format!("{at}: parameters.binary_data_size: {reason}")))?,
        (None, None) => {
            return Err(Error::invalid(format!(
                "{at}: no data: give the elements in 'data', or parameters.binary_data_size and the bytes after the JSON"
            )));
        }
        (Some(_), Some(_)) => {
            return Err(Error::invalid(format!(
                "{at}: both 'data' and parameters.binary_data_size are given: leave one out"
            )));
        }
    };
    Tensor::new(datatype, shape.clone(), bytes).map_err(|error| Error::invalid(format!("{at}: {error}")))
}

fn take_binary(binary: &mut Option<Bytes>, size: u64) -> Result<Bytes, String> {
    match binary {
        None => Err(
            "the bytes cannot be found without the header Inference-Header-Content-Length, which gives the \
                     length of the JSON before them"
                .to_owned(),
        ),
        Some(rest) => match usize::try_from(size) {
            Ok(size) if size <= rest.len() => Ok(rest.split_to(size)),
            _ => Err(format!("{size} bytes are claimed, but only {} are left in the body", rest.len())),
        },
    }
}

fn read_outputs(outputs: Vec<Object<Output>>, format: &mut OutputFormat) -> Result<Vec<String>, Error> {
    let mut names = Vec::with_capacity(outputs.len());
    for (index, Object(output)) in outputs.into_iter().enumerate() {
        if let Some(Object(parameters)) = output.parameters {
            let at = format_args!("outputs[{index}] '{}'", name(&output.name));
            if parameters.shared_memory_region.is_some() {
                return Err(no_shared_memory(at));
            }
            if let Some(Count(classes)) = parameters.classification.filter(|Count(classes)| *classes > 0) {
                format.set_classes(&output.name, classes);
            }
            if let Some(binary) = parameters.binary_data {
                format.set(&output.name, binary);
            }
        }
        names.push(output.name);
    }
    check_repeats(&names)?;
    Ok(names)
}

/// Refuses outputs of which one is asked for twice.
pub(crate) fn check_repeats(outputs: &[String]) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    if outputs.len() > 1
        && let Some(repeated) = outputs.iter().find(|output| !seen.insert(output.as_str()))
    {
        return Err(Error::invalid(format!("outputs: '{}' is asked for twice", name(repeated))));
    }
    Ok(())
}

fn no_shared_memory(at: std::fmt::Arguments<'_>) -> Error {
    Error::new(
        ErrorCode::Unsupported,
        format!("{at}: parameters.shared_memory_region is not supported: send tensors in the body"),
    )
}
