//! Health and descriptions: of the server, and of its models.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use vespid_types::ModelRef;

use super::Api;
use super::error::Failure;
use super::target::Target;
use crate::wire::metadata::{ModelMetadata, ServerMetadata};

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let ready = api.repository.is_loaded();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"live": true, "ready": ready})))
}

pub(super) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "vespid".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["binary_tensor_data".to_owned(), "model_repository".to_owned()],
    })
}

/// KServe's list of models.
pub(super) async fn models(State(api): State<Api>) -> Json<Value> {
    let mut names: Vec<_> = api.predictor.index().into_iter().map(|entry| entry.name).collect();
    names.dedup();
    Json(json!({"models": names}))
}

pub(super) async fn model(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Json<ModelMetadata>, Failure> {
    let model = api.predictor.model(&target)?;
    let versions = match target {
        ModelRef { version: Some(version), .. } => vec![version],
        ModelRef { name, version: None } => api.predictor.ready_versions(&name),
    };
    Ok(Json(ModelMetadata::new(model.name().clone(), versions, model.platform(), model.signature())))
}

pub(super) async fn model_ready(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Json<Value>, Failure> {
    let model = api.predictor.model(&target)?;
    Ok(Json(json!({"name": model.name(), "ready": true})))
}
