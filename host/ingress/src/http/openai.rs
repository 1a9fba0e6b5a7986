//! OpenAI's API: `POST /v1/embeddings`, and the list of models; the same below `/openai`.
//!
//! What fails on these paths does so in OpenAI's shape, whatever it was: see [`is_its`].

use std::time::UNIX_EPOCH;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use vespid_auth::Action;
use vespid_serving::Inference;
use vespid_types::{ModelName, ModelRef, Result};

use super::Api;
use super::body::read_body;
use super::error::{Failed, Failure};
use super::observe;
use super::target::Target;
use crate::access::{Purpose, Rights};
use crate::observe::HTTP;
use crate::version::chosen;
use crate::wire::openai::{EmbeddingsRequest, Fault, ModelList, ModelObject, error_body};

pub(super) async fn embeddings(
    State(api): State<Api>,
    rights: Rights,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let body = read_body(body, api.max_body, 0).await?;
    let asked = EmbeddingsRequest::read(&body)?;
    rights.permit(&Purpose::model(Action::Predict, asked.model.as_str())).await?;
    let target = ModelRef { name: asked.model.clone(), version: None };
    let chosen = chosen(&target, &headers)?;
    let model = api.predictor.resolve(&chosen).await;
    let model = model.map_err(|error| Failure::from(error).in_field("model"))?;
    let inference = api.begin(&HTTP, model, &headers);
    let answered = answer(&inference, asked).await;
    Ok(observe::about(&inference, answered))
}

async fn answer(inference: &Inference, asked: EmbeddingsRequest<'_>) -> Result<Response, Failure> {
    let decoded = asked.decode(inference.model().signature());
    let (request, answer) = decoded.inspect_err(|Fault { error, .. }| inference.fail(error))?;
    let response = inference.predict(request).await?;
    let json = inference.encode(|| answer.encode(&response))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

pub(super) async fn models(State(api): State<Api>, rights: Rights) -> Json<ModelList> {
    Json(list(&api, &rights))
}

pub(super) async fn model(
    State(api): State<Api>,
    Target(ModelRef { name, .. }): Target,
) -> Result<Json<ModelObject>, Failure> {
    Ok(Json(model_object(&api, &name)?))
}

/// The models that can be asked.
pub(super) fn list(api: &Api, rights: &Rights) -> ModelList {
    ModelList::new(api.model_names(rights).iter().filter_map(|name| model_object(api, name).ok()).collect())
}

pub(super) fn model_object(api: &Api, name: &ModelName) -> Result<ModelObject> {
    let since = api.predictor.since(name)?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ModelObject::new(name.clone(), since.as_secs()))
}

impl From<Fault> for Failure {
    fn from(Fault { error, field }: Fault) -> Self {
        let failure = Self::from(error);
        match field {
            Some(field) => failure.in_field(field),
            None => failure,
        }
    }
}

/// Whether errors of a path have OpenAI's shape. KServe's client shows them too where the path is of both.
pub(super) fn is_its(path: &str) -> bool {
    let of_both = || path.starts_with("/v1/models/") && !path.contains(':');
    path.starts_with("/openai/") || path == "/v1/embeddings" || of_both()
}

/// An answer of such a path.
pub(super) fn reshape(response: Response) -> Response {
    let Some(Failed { error, field }) = response.extensions().get().cloned() else { return response };
    let (mut parts, _) = response.into_parts();
    let body = error_body(&error, field);
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response::from_parts(parts, Body::from(body))
}
