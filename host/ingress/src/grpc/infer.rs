//! `ModelInfer`, and what it has in common with its sibling that streams.

use axum::http::HeaderMap;
use tonic::Status;
use vespid_auth::Action;
use vespid_serving::{Inference, ReadyModel};
use vespid_telemetry::Subject;
use vespid_types::{Deadline, Error, ModelRef, Parameter, Request, Response};

use super::access;
use super::decode::{Decoded, decode, target};
use super::encode::encode;
use super::observe::About;
use super::proto::{ModelInferRequest, ModelInferResponse};
use super::status::unlogged;
use crate::Api;
use crate::access::{Purpose, Rights};
use crate::observe::{GRPC, fault};
use crate::version::chosen;
use crate::wire::OutputFormat;
use crate::wire::classification::classify_outputs;
use crate::wire::options::Options;

/// Triton's parameter by which a client asks for a response without outputs after a decoupled model's last.
const TELL_END: &str = "triton_enable_empty_final_response";

/// What a call says of all of its requests.
pub(super) struct Caller {
    /// Its deadline, where it has one.
    pub(super) deadline: Option<Deadline>,
    /// Its metadata.
    pub(super) headers: HeaderMap,
    /// What it may do.
    pub(super) rights: Rights,
}

impl Caller {
    /// # Errors
    /// As [`access::rights`].
    pub(super) fn of<T>(api: &Api, request: &tonic::Request<T>) -> Result<Self, Error> {
        let headers: &HeaderMap = request.metadata().as_ref();
        let (deadline, rights) = (request.extensions().get().copied(), access::rights(api, request)?);
        Ok(Self { deadline, headers: headers.clone(), rights })
    }
}

/// A request, and how it is to be answered.
pub(super) struct Asked {
    pub(super) inference: Inference,
    pub(super) request: Request,
    /// Whether the end of a decoupled model's responses is to be told.
    pub(super) tells_end: bool,
    pub(super) format: OutputFormat,
}

/// Answers one request with one response.
pub(super) async fn infer(
    api: &Api,
    message: ModelInferRequest,
    caller: &Caller,
    about: Option<&About>,
) -> Result<ModelInferResponse, Status> {
    let asked = prepare(api, message, caller).await.map_err(|error| unlogged(&error))?;
    let Asked { inference, request, format, .. } = asked;
    let answered = async {
        let response = inference.predict(request).await?;
        inference.encode(|| to_wire(api, inference.model(), &format, response))
    };
    let answered = answered.await;
    if answered.is_err() || about.is_some() {
        let subject = Subject::of(&inference);
        if let Err(error) = &answered {
            fault(error, Some(&subject), None);
        }
        if let Some(About(about)) = about {
            about.get_or_init(|| subject);
        }
    }
    answered.map_err(|error| unlogged(&error))
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

/// Finds the model, which is loaded first where it is not, and reads the request. A failure is logged.
pub(super) async fn prepare(api: &Api, message: ModelInferRequest, caller: &Caller) -> Result<Asked, Error> {
    let found = async {
        caller.rights.permit(&Purpose::model(Action::Predict, &message.model_name)).await?;
        let target = target(&message.model_name, &message.model_version)?;
        Ok((api.predictor.resolve(&chosen(&target, &caller.headers)?).await?, target))
    };
    let (model, target) = found.await.inspect_err(|error| fault(error, None, None))?;
    let inference = api.begin(&GRPC, model, &caller.headers);
    let (request, tells_end, format) = inference
        .decode(|| read(message, target, caller.deadline))
        .inspect_err(|error| fault(error, Some(&Subject::of(&inference)), None))?;
    Ok(Asked { inference, request, tells_end, format })
}

/// The request, whether the end of its responses is to be told, and how it is to be answered.
fn read(
    message: ModelInferRequest,
    target: ModelRef,
    deadline: Option<Deadline>,
) -> Result<(Request, bool, OutputFormat), Error> {
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
    Ok((request, tells_end, format))
}
