//! From the message of an inference request to a [`Request`].
//!
//! Contract: every refusal names the field and the remedy, in REST's words where there are such. Tensors are well formed;
//! whether they suit the model is the signature check's business. Cost: raw contents are slices of the message, never
//! copied; typed contents are converted in one pass. Left out on purpose: shared memory, which is refused, and input
//! parameters that this server does not know, which are ignored.

use std::vec;

use bytes::Bytes;
use vespid_types::{Datatype, Error, ErrorCode, ModelRef, NamedTensor, Parameters, Shape, Tensor, note_copy};

use super::contents;
use super::parameters::{self, Messages};
use super::proto::ModelInferRequest;
use super::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use crate::wire::fault::{InputAt, name};
use crate::wire::{MAX_ENTRIES, MAX_RANK, OutputFormat, check_repeats};

/// What a request asks, before it is known who asks it.
pub(super) struct Decoded {
    pub(super) id: Option<String>,
    pub(super) parameters: Parameters,
    pub(super) inputs: Vec<NamedTensor>,
    pub(super) outputs: Vec<String>,
    pub(super) format: OutputFormat,
}

/// The model that a message names; the version may be empty.
pub(super) fn target(model: &str, version: &str) -> Result<ModelRef, Error> {
    let model = model.parse().map_err(|error| Error::invalid(format!("{error}")))?;
    // In Triton's words.
    let unread = |error| {
        let version = name(version);
        Error::invalid(format!(
            "failed to get model version from specified version string '{version}': {error}"
        ))
    };
    let version = (!version.is_empty()).then(|| version.parse()).transpose().map_err(unread)?;
    Ok(ModelRef { name: model, version })
}

/// Reads everything but the model's name.
///
/// # Errors
/// [`ErrorCode::InvalidArgument`] with the field and the remedy; [`ErrorCode::Unsupported`] for shared memory.
pub(super) fn decode(message: ModelInferRequest) -> Result<Decoded, Error> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = message;
    for (list, count) in
        [("inputs", inputs.len()), ("outputs", outputs.len()), ("parameters", parameters.len())]
    {
        if count > MAX_ENTRIES {
            return Err(Error::invalid(format!("{list}: more than {MAX_ENTRIES} entries")));
        }
    }
    let (outputs, format) = read_outputs(outputs)?;
    Ok(Decoded {
        id: (!id.is_empty()).then_some(id),
        parameters: parameters::decode(parameters)?,
        inputs: read_inputs(inputs, raw)?,
        outputs,
        format,
    })
}

fn read_inputs(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>) -> Result<Vec<NamedTensor>, Error> {
    // The transport has put the message together from the frames that it came in: the one copy on the way in.
    note_copy(raw.iter().map(Bytes::len).sum());
    let is_raw = !raw.is_empty();
    let (count, expected) = (raw.len(), inputs.len());
    let mut raw = raw.into_iter();
    let tensors = inputs
        .into_iter()
        .enumerate()
        .map(|(index, input)| {
            let at = InputAt(index, &input.name);
            let tensor = read_input(&input, is_raw.then_some(&mut raw))
                .map_err(|(code, reason)| Error::new(code, format!("{at}: {reason}")))?;
            Ok(NamedTensor { name: input.name, tensor })
        })
        .collect::<Result<_, Error>>()?;
    if is_raw && count != expected {
        return Err(Error::invalid(format!(
            "raw_input_contents: {count} for {expected} inputs: give one for each, in the order of the inputs"
        )));
    }
    Ok(tensors)
}

/// A kind of failure, and why.
type Refusal = (ErrorCode, String);

fn invalid(reason: impl Into<String>) -> Refusal {
    (ErrorCode::InvalidArgument, reason.into())
}

fn read_input(input: &InferInputTensor, raw: Option<&mut vec::IntoIter<Bytes>>) -> Result<Tensor, Refusal> {
    refuse_shared_memory(&input.parameters)?;
    let datatype: Datatype = input.datatype.parse().map_err(|error| invalid(format!("{error}")))?;
    let shape = read_shape(&input.shape)?;
    let contents = input.contents.as_ref().filter(|contents| !contents::is_empty(contents));
    let data = match (raw, contents) {
        (Some(_), Some(_)) => {
            return Err(invalid(
                "both contents and raw_input_contents are given: leave one out, for all inputs",
            ));
        }
        (Some(raw), None) => match raw.next() {
            Some(data) => data,
            None => return Err(invalid("it has no entry in raw_input_contents: give one for each input")),
        },
        (None, Some(contents)) => contents::encode(contents, datatype, &shape).map_err(invalid)?,
        (None, None) if shape.elements() == Some(0) => Bytes::new(),
        (None, None) => {
            let typed =
                contents::field(datatype).map_or(String::new(), |field| format!(", or in contents.{field}"));
            return Err(invalid(format!("no data: give the elements in raw_input_contents{typed}")));
        }
    };
    Tensor::new(datatype, shape, data).map_err(|error| invalid(error.to_string()))
}

fn read_shape(extents: &[i64]) -> Result<Shape, Refusal> {
    if extents.len() > MAX_RANK {
        return Err(invalid(format!("shape: more than {MAX_RANK} dimensions")));
    }
    let read = |(index, extent): (usize, &i64)| {
        u64::try_from(*extent).map_err(|_| {
            invalid(format!("shape[{index}]: expected a number of elements, 0 or more, got {extent}"))
        })
    };
    extents.iter().enumerate().map(read).collect()
}

fn read_outputs(outputs: Vec<InferRequestedOutputTensor>) -> Result<(Vec<String>, OutputFormat), Error> {
    let mut names = Vec::with_capacity(outputs.len());
    let mut format = OutputFormat::binary();
    for (index, InferRequestedOutputTensor { name: output, parameters }) in outputs.into_iter().enumerate() {
        let at = |(code, reason)| Error::new(code, format!("outputs[{index}] '{}': {reason}", name(&output)));
        refuse_shared_memory(&parameters).map_err(at)?;
        if let Some(classes) = parameters.get("classification") {
            let expected = || at(invalid("parameters.classification: expected a whole number, 0 or more"));
            let classes = parameters::whole(classes).ok_or_else(expected)?;
            if classes > 0 {
                format.set_classes(&output, classes);
            }
        }
        names.push(output);
    }
    check_repeats(&names)?;
    Ok((names, format))
}

fn refuse_shared_memory(parameters: &Messages) -> Result<(), Refusal> {
    if parameters.contains_key("shared_memory_region") {
        let reason = "parameters.shared_memory_region is not supported: send tensors in the message";
        return Err((ErrorCode::Unsupported, reason.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
