//! The settings of traces and of the log.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use bytesize::ByteSize;
use vespid_types::ModelName;

use super::error::Failure;
use super::target::Target;
use super::{Api, read_body};
use crate::wire::settings::{self, Settings};

/// More than all settings take.
const MAX_BODY: ByteSize = ByteSize::kib(64);

pub(super) async fn trace(State(api): State<Api>) -> Json<Settings> {
    Json(settings::trace_settings(&api.telemetry.trace_settings(None)))
}

pub(super) async fn change_trace(State(api): State<Api>, body: Body) -> Result<Json<Settings>, Failure> {
    change(&api, None, body).await
}

pub(super) async fn model_trace(
    State(api): State<Api>,
    Target(target): Target,
) -> Result<Json<Settings>, Failure> {
    api.predictor.check(&target)?;
    Ok(Json(settings::trace_settings(&api.telemetry.trace_settings(Some(&target.name)))))
}

pub(super) async fn change_model_trace(
    State(api): State<Api>,
    Target(target): Target,
    body: Body,
) -> Result<Json<Settings>, Failure> {
    api.predictor.check(&target)?;
    change(&api, Some(&target.name), body).await
}

async fn change(api: &Api, model: Option<&ModelName>, body: Body) -> Result<Json<Settings>, Failure> {
    let body = read_body(body, MAX_BODY, 0).await?;
    let change = settings::trace_change(&settings::read_settings(&body)?)?;
    Ok(Json(settings::trace_settings(&api.telemetry.change_trace(model, change)?)))
}

pub(super) async fn log(State(api): State<Api>) -> Result<Json<Settings>, Failure> {
    Ok(Json(settings::log_settings(&api.telemetry.log_settings()?)))
}

pub(super) async fn change_log(State(api): State<Api>, body: Body) -> Result<Json<Settings>, Failure> {
    let body = read_body(body, MAX_BODY, 0).await?;
    let change = settings::log_change(&settings::read_settings(&body)?)?;
    Ok(Json(settings::log_settings(&api.telemetry.change_log(change)?)))
}
