//! The streams of this process: told of, paused, resumed.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use vespid_stream::Streams;
use vespid_types::{Error, ErrorCode};

use super::Api;
use super::error::Failure;
use crate::wire::streams::{Behind, Listed, Told};

/// The routes of streams.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v2/streams", get(list))
        .route("/v2/streams/{stream}", get(one))
        .route("/v2/streams/{stream}/lag", get(lag))
        .route("/v2/streams/{stream}/pause", post(pause))
        .route("/v2/streams/{stream}/resume", post(resume))
}

fn streams(api: &Api) -> Result<&Streams, Failure> {
    let none = || {
        let message = "this process has no streams: start it with --stream, or use `vespid stream`";
        Error::new(ErrorCode::Unsupported, message)
    };
    let not_yet = || Error::new(ErrorCode::Unavailable, "the models of the streams are being loaded");
    Ok(api.streams.as_ref().ok_or_else(none)?.get().ok_or_else(not_yet)?)
}

async fn list(State(api): State<Api>) -> Result<Json<Listed>, Failure> {
    Ok(Json(streams(&api)?.list().into()))
}

async fn one(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Told>, Failure> {
    Ok(Json(streams(&api)?.status(&name)?.into()))
}

async fn lag(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Behind>, Failure> {
    Ok(Json(streams(&api)?.status(&name)?.into()))
}

async fn pause(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Told>, Failure> {
    Ok(Json(streams(&api)?.pause(&name, true)?.into()))
}

async fn resume(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Told>, Failure> {
    Ok(Json(streams(&api)?.pause(&name, false)?.into()))
}
