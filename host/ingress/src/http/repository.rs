//! The model repository: its index, what is loaded and unloaded, uploads and removals; and how a version is configured.
//!
//! Uploads are Vespid's own: `PUT` of a package as a tar to `/v2/repository/models/{model}/versions/{version}`, or of JSON
//! that names where in a registry the package is.

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use bytesize::ByteSize;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::task::spawn_blocking;
use tower_http::timeout::TimeoutBody;
use vespid_auth::Action;
use vespid_serving::Traffic;
use vespid_types::{BoxError, Error, ErrorCode, ModelName, ModelRef, Version};

use super::body::PAUSE;
use super::error::Failure;
use super::target::{Target, VersionedTarget};
use super::{Api, drain, read_body};
use crate::access::{Purpose, Rights};
use crate::wire;
use crate::wire::metadata::{ModelState, RepositoryIndexEntry};

/// More than anyone's versions take.
const MAX_TRAFFIC: ByteSize = ByteSize::kib(64);

pub(super) async fn index(
    State(api): State<Api>,
    rights: Rights,
    body: Body,
) -> Result<Json<Vec<RepositoryIndexEntry>>, Failure> {
    let body = read_body(body, api.max_body, 0).await?;
    let request = wire::repository::decode_index(&body)?;
    Ok(Json(api.index(request.ready, &rights)))
}

pub(super) async fn upload(
    State(api): State<Api>,
    VersionedTarget { name, version }: VersionedTarget,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<RepositoryIndexEntry>), Failure> {
    if is_json(&headers) {
        let source = wire::repository::decode_source(&read_body(body, api.max_body, 0).await?)?;
        api.sources.pull(name.clone(), version, &source).await?;
        return Ok(created(name, version));
    }
    if let Err(error) = api.sources.allow_upload() {
        drain(body).await;
        return Err(error.into());
    }
    let limit = api.repository.max_package();
    if body.size_hint().lower() > limit.as_u64() {
        drain(body).await;
        let message = format!("the package is larger than the limit of {limit}");
        return Err(Error::new(ErrorCode::TooLarge, message).into());
    }
    let body = Body::new(TimeoutBody::new(PAUSE, body));
    let mut chunks = body.into_data_stream().map_err(|error| -> BoxError { error.into() });
    if let Err(error) = api.repository.upload(name.clone(), version, &mut chunks).await {
        // Where it was refused before all had come, the client may still be sending.
        drain(Body::from_stream(chunks.boxed())).await;
        return Err(error.into());
    }
    Ok(created(name, version))
}

fn created(name: ModelName, version: Version) -> (StatusCode, Json<RepositoryIndexEntry>) {
    let (version, state, reason) = (Some(version), ModelState::Ready, String::new());
    (StatusCode::CREATED, Json(RepositoryIndexEntry { name, version, state, reason }))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

pub(super) async fn remove(
    State(api): State<Api>,
    VersionedTarget { name, version }: VersionedTarget,
) -> Result<StatusCode, Failure> {
    api.repository.remove(name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Brings a model back into service, as it is stored or otherwise.
pub(super) async fn load(
    State(api): State<Api>,
    rights: Rights,
    Target(ModelRef { name, .. }): Target,
    body: Body,
) -> Result<StatusCode, Failure> {
    let body = read_body(body, api.max_body, 0).await?;
    let model = name.clone();
    // Files may be large.
    let options = spawn_blocking(move || wire::repository::decode_load(&model, &body))
        .await
        .map_err(|error| Error::internal("a task failed").with_source(error))??;
    if !options.files.is_empty() {
        rights.permit(&Purpose::model(Action::Upload, name.as_str())).await?;
        api.sources.allow_upload()?;
    }
    api.repository.load(name, options).await?;
    Ok(StatusCode::OK)
}

/// Takes a model out of service.
pub(super) async fn unload(
    State(api): State<Api>,
    Target(ModelRef { name, .. }): Target,
    body: Body,
) -> Result<StatusCode, Failure> {
    let body = read_body(body, api.max_body, 0).await?;
    wire::repository::check_unload(&body)?;
    api.repository.unload(name).await?;
    Ok(StatusCode::OK)
}

/// Which of a model's versions are served, and how requests are led to them.
pub(super) async fn traffic(
    State(api): State<Api>,
    Target(ModelRef { name, .. }): Target,
) -> Result<Json<Traffic>, Failure> {
    Ok(Json(api.repository.traffic(&name)?))
}

/// Sets it. What the document does not say is as usual.
pub(super) async fn set_traffic(
    State(api): State<Api>,
    Target(ModelRef { name, .. }): Target,
    body: Body,
) -> Result<Json<Traffic>, Failure> {
    let body = read_body(body, MAX_TRAFFIC, 0).await?;
    let traffic = Traffic::parse(&body).map_err(Error::from)?;
    api.repository.set_traffic(name, traffic.clone()).await?;
    Ok(Json(traffic))
}

/// How a version is configured, in Triton's words.
pub(super) async fn config(
    State(api): State<Api>,
    Target(target): Target,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    Ok(Json(wire::config::to_json(&api.config(&target, &headers).await?)?))
}
