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
use crate::wire::statistics::{ModelStatistics, ModelStatisticsList};

pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    let ready = api.repository.is_loaded() && !*api.stopping.borrow();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"live": true, "ready": ready})))
}

pub(super) async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata {
        name: "vespid".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: ["binary_tensor_data", "model_repository", "statistics"].map(str::to_owned).to_vec(),
    })
}

/// KServe's list of models.
pub(super) async fn models(State(api): State<Api>) -> Json<Value> {
    Json(json!({"models": api.model_names()}))
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

/// What every version of every model has counted.
pub(super) async fn all_statistics(State(api): State<Api>) -> Json<ModelStatisticsList> {
    let versions = api.predictor.index().into_iter();
    let model_stats = versions
        .filter_map(|entry| {
            statistics_of(&api, &ModelRef { name: entry.name, version: Some(entry.version) }).ok()
        })
        .collect();
    Json(ModelStatisticsList { model_stats })
}

/// What a version has counted; of all versions where none is named.
pub(super) async fn statistics(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Json<ModelStatisticsList>, Failure> {
    let versions = match target.version {
        Some(version) => vec![version],
        None => api.predictor.ready_versions(&target.name),
    };
    if versions.is_empty() {
        // Says why there is none.
        api.predictor.model(&target)?;
    }
    let one = |version| statistics_of(&api, &ModelRef { name: target.name.clone(), version: Some(version) });
    let model_stats = versions.into_iter().map(one).collect::<Result<_, _>>()?;
    Ok(Json(ModelStatisticsList { model_stats }))
}

fn statistics_of(api: &Api, target: &ModelRef) -> vespid_types::Result<ModelStatistics> {
    let model = api.predictor.model(target)?;
    Ok(ModelStatistics::new(model.name().clone(), model.version(), model.statistics()))
}
