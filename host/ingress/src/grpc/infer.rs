//! `ModelInfer`, and what it has in common with its sibling that streams.

use std::sync::Arc;

use vespid_serving::ReadyModel;
use vespid_types::{Deadline, Error, Parameter, Request, Response};

use super::decode::{Decoded, decode, target};
use super::encode::encode;
use super::proto::{ModelInferRequest, ModelInferResponse};
use crate::Api;
use crate::wire::OutputFormat;
use crate::wire::classification::classify_outputs;
use crate::wire::options::Options;

/// Triton's parameter by which a client asks for a response without outputs after a decoupled model's last.
const TELL_END: &str = "triton_enable_empty_final_response";

/// A request, and how it is to be answered.
pub(super) struct Asked {
    pub(super) model: Arc<ReadyModel>,
    pub(super) request: Request,
    /// Whether the end of a decoupled model's responses is to be told.
    pub(super) tells_end: bool,
    pub(super) format: OutputFormat,
}

/// Answers one request with one response.
pub(super) async fn infer(
    api: &Api,
    message: ModelInferRequest,
    deadline: Option<Deadline>,
) -> Result<ModelInferResponse, Error> {
    let Asked { model, request, format, .. } = prepare(api, message, deadline)?;
    let response = api.predictor.predict(&model, request).await?;
    to_wire(api, &model, &format, response)
}

/// The message of a response.
pub(super) fn to_wire(
    api: &Api,
    model: &ReadyModel,
    format: &OutputFormat,
    mut response: Response,
) -> Result<ModelInferResponse, Error> {
    classify_outputs(&mut response, format, |output| model.labels(output))?;
    encode(response, api.max_body)
}

/// Finds the model and reads the request. `deadline` is the call's own.
pub(super) fn prepare(
    api: &Api,
    message: ModelInferRequest,
    deadline: Option<Deadline>,
) -> Result<Asked, Error> {
    let target = target(&message.model_name, &message.model_version)?;
    let model = api.predictor.model(&target)?;
    let Decoded { id, mut parameters, inputs, outputs, format } = decode(message)?;
    let options = Options::take(&mut parameters)?;
    let tells_end = match parameters.remove(TELL_END) {
        None => false,
        Some(Parameter::Bool(tells)) => tells,
        Some(_) => return Err(Error::invalid(format!("parameters.{TELL_END}: expected true or false"))),
    };
    let request = Request {
        model: target,
        id,
        parameters,
        inputs,
        outputs,
        deadline: deadline.into_iter().chain(options.deadline).min(),
        priority: options.priority,
        sequence: options.sequence,
    };
    Ok(Asked { model, request, format, tells_end })
}
