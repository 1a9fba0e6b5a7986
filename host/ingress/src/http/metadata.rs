//! Health and descriptions: of the server, and of its models.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::Api;
use super::error::Failure;
use super::target::Target;
use crate::access::Rights;
use crate::describe;
use crate::version::chosen;
use crate::wire::metadata::{ModelMetadata, ServerMetadata};
use crate::wire::statistics::ModelStatisticsList;

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let ready = api.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"live": true, "ready": ready})))
}

pub(super) async fn server() -> Json<ServerMetadata> {
    Json(describe::server())
}

/// KServe's list of models.
pub(super) async fn models(State(api): State<Api>, rights: Rights) -> Json<Value> {
    Json(json!({"models": api.model_names(&rights)}))
}

pub(super) async fn model(
    State(api): State<Api>,
    Target(target): Target,
    headers: HeaderMap,
) -> Result<Json<ModelMetadata>, Failure> {
    Ok(Json(api.metadata(target, &headers).await?))
}

pub(super) async fn model_ready(
    State(api): State<Api>,
    Target(target): Target,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    api.predictor.check(&chosen(&target, &headers)?)?;
    Ok(Json(json!({"name": target.name, "ready": true})))
}

/// What every version of every model has counted.
pub(super) async fn all_statistics(State(api): State<Api>, rights: Rights) -> Json<ModelStatisticsList> {
    Json(ModelStatisticsList { model_stats: api.all_statistics(&rights) })
}

/// What a version has counted; of all versions where none is named.
pub(super) async fn statistics(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Json<ModelStatisticsList>, Failure> {
    Ok(Json(ModelStatisticsList { model_stats: api.statistics(&target)? }))
}
