//! The streams of this process: told of, paused, resumed.
//!
//! A stream is seen by who may read of its model or manage its streams; for others it is not there.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use vespid_auth::Action;
use vespid_stream::{Status, Streams};
use vespid_types::{Error, ErrorCode};

use super::Api;
use super::error::Failure;
use crate::access::{Purpose, Rights};
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

/// Those that the caller sees.
fn seen(api: &Api, rights: &Rights) -> Result<Vec<Status>, Failure> {
    let is_seen = |status: &Status| {
        [Action::ReadMetadata, Action::ManageStream].iter().any(|&action| rights.has(action, &status.model))
    };
    Ok(streams(api)?.list().into_iter().filter(is_seen).collect())
}

fn find(api: &Api, rights: &Rights, name: &str) -> Result<Status, Failure> {
    let mut seen = seen(api, rights)?;
    match seen.iter().position(|status| status.name == name) {
        Some(index) => Ok(seen.swap_remove(index)),
        None => {
            let names: Vec<_> = seen.iter().map(|status| format!("'{}'", status.name)).collect();
            let others =
                if names.is_empty() { String::new() } else { format!("; there are {}", names.join(", ")) };
            let message = format!("there is no stream of that name here{others}");
            Err(Error::new(ErrorCode::NotFound, message).into())
        }
    }
}

async fn list(State(api): State<Api>, rights: Rights) -> Result<Json<Listed>, Failure> {
    Ok(Json(seen(&api, &rights)?.into()))
}

async fn one(
    State(api): State<Api>,
    rights: Rights,
    Path(name): Path<String>,
) -> Result<Json<Told>, Failure> {
    Ok(Json(find(&api, &rights, &name)?.into()))
}

async fn lag(
    State(api): State<Api>,
    rights: Rights,
    Path(name): Path<String>,
) -> Result<Json<Behind>, Failure> {
    Ok(Json(find(&api, &rights, &name)?.into()))
}

async fn pause(
    State(api): State<Api>,
    rights: Rights,
    Path(name): Path<String>,
) -> Result<Json<Told>, Failure> {
    change(&api, &rights, &name, true).await
}

async fn resume(
    State(api): State<Api>,
    rights: Rights,
    Path(name): Path<String>,
) -> Result<Json<Told>, Failure> {
    change(&api, &rights, &name, false).await
}

async fn change(api: &Api, rights: &Rights, name: &str, paused: bool) -> Result<Json<Told>, Failure> {
    let Status { model, .. } = find(api, rights, name)?;
    let streams = streams(api)?;
    let purpose = Purpose::model(Action::ManageStream, &model);
    let changed = async { streams.pause(name, paused) };
    Ok(Json(rights.change(&purpose, StatusCode::OK.as_u16(), changed).await?.into()))
}
