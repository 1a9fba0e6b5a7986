//! Version 1 of the protocol: rows in, rows out; and the list of models, which is OpenAI's as well.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use vespid_serving::Inference;
use vespid_types::{Error, ErrorCode, ModelName, ModelRef};

use super::Api;
use super::body::{drain, read_for};
use super::error::Failure;
use super::target::Verbed;
use super::{observe, openai};
use crate::access::Rights;
use crate::observe::HTTP;
use crate::wire::openai::{ModelList, ModelObject};
use crate::wire::v1;

/// KServe's `GET /`, by which it sees whether the server lives.
pub(super) async fn alive() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// The models, for KServe by `models` and for OpenAI by `data`.
#[derive(Serialize)]
pub(super) struct Models {
    models: Vec<ModelName>,
    #[serde(flatten)]
    list: ModelList,
}

pub(super) async fn models(State(api): State<Api>, rights: Rights) -> Json<Models> {
    Json(Models { models: api.model_names(&rights), list: openai::list(&api, &rights) })
}

/// A model, for KServe by `ready` and for OpenAI by the rest.
#[derive(Serialize)]
pub(super) struct Model {
    name: ModelName,
    ready: bool,
    #[serde(flatten)]
    object: ModelObject,
}

pub(super) async fn model(
    State(api): State<Api>,
    Verbed { name, verb }: Verbed,
) -> Result<Json<Model>, Failure> {
    match verb.as_deref() {
        None => {}
        Some("predict") => return Err(wrong_method(verb.as_deref())),
        Some(verb) => return Err(unknown(verb)),
    }
    let object = openai::model_object(&api, &name)?;
    Ok(Json(Model { name, ready: true, object }))
}

pub(super) async fn predict(
    State(api): State<Api>,
    Verbed { name, verb }: Verbed,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    match verb.as_deref() {
        Some("predict") => {}
        Some(verb) => {
            drain(body).await;
            return Err(unknown(verb));
        }
        None => {
            drain(body).await;
            return Err(wrong_method(verb.as_deref()));
        }
    }
    let target = ModelRef { name, version: None };
    let (model, body) = read_for(&api, &target, &headers, body).await?;
    let inference = api.begin(&HTTP, model, &headers);
    let answered = answer(&inference, &body, target).await;
    Ok(observe::about(&inference, answered.map_err(Failure::from)))
}

async fn answer(inference: &Inference, body: &[u8], target: ModelRef) -> Result<Response, Error> {
    let request = inference.decode(|| v1::decode(body, target, inference.model().signature()))?;
    let response = inference.predict(request).await?;
    let json = inference.encode(|| v1::encode(&response))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

pub(super) async fn other_method(Verbed { verb, .. }: Verbed) -> Failure {
    wrong_method(verb.as_deref())
}

/// Two kinds of paths are one to the router, which does not know what each takes.
fn wrong_method(verb: Option<&str>) -> Failure {
    Failure::method_not_allowed(Some(if verb.is_some() { "POST" } else { "GET,HEAD" }))
}

fn unknown(verb: &str) -> Failure {
    let message = format!(
        "':{}' is not supported: a model takes ':predict'",
        verb.chars().take(60).collect::<String>()
    );
    Error::new(ErrorCode::Unsupported, message).into()
}
