//! The streams of this process: told of, paused, resumed.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use vespid_stream::{Behind, Status, Streams};
use vespid_types::{Error, ErrorCode};

use super::Api;
use super::error::Failure;

/// All of them.
#[derive(Serialize)]
pub(super) struct Listed {
    streams: Vec<Status>,
}

fn streams(api: &Api) -> Result<&Streams, Failure> {
    let none = || {
        let message = "this process has no streams: start it with --stream, or use `vespid stream`";
        Error::new(ErrorCode::Unsupported, message).into()
    };
    api.streams.as_ref().ok_or_else(none)
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<Listed>, Failure> {
    Ok(Json(Listed { streams: streams(&api)?.list() }))
}

pub(super) async fn get(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Status>, Failure> {
    Ok(Json(streams(&api)?.status(&name)?))
}

pub(super) async fn lag(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Behind>, Failure> {
    Ok(Json(streams(&api)?.lag(&name)?))
}

pub(super) async fn pause(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Status>, Failure> {
    Ok(Json(streams(&api)?.pause(&name, true)?))
}

pub(super) async fn resume(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Status>, Failure> {
    Ok(Json(streams(&api)?.pause(&name, false)?))
}
