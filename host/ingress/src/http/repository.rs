//! The model repository: its index, uploads and removals.
//!
//! Uploads are Vespid's own: `PUT` of a package as a tar to `/v2/repository/models/{model}/versions/{version}`.

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::{StreamExt, TryStreamExt};
use vespid_types::{BoxError, Error, ErrorCode};

use super::error::Failure;
use super::target::VersionedTarget;
use super::{Api, drain};
use crate::wire::metadata::{ModelState, RepositoryIndexEntry, RepositoryIndexRequest};

pub(super) async fn index(
    State(api): State<Api>,
    body: Bytes,
) -> Result<Json<Vec<RepositoryIndexEntry>>, Failure> {
    let request = if body.is_empty() {
        RepositoryIndexRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Error::invalid(format!("the index request is not {{\"ready\": bool}}: {error}"))
        })?
    };
    Ok(Json(api.index(request.ready)))
}

pub(super) async fn upload(
    State(api): State<Api>,
    VersionedTarget { name, version }: VersionedTarget,
    body: Body,
) -> Result<(StatusCode, Json<RepositoryIndexEntry>), Failure> {
    let limit = api.repository.max_package();
    if body.size_hint().lower() > limit.as_u64() {
        drain(body).await;
        let message = format!("the package is larger than the limit of {limit}");
        return Err(Error::new(ErrorCode::TooLarge, message).into());
    }
    let mut chunks = body.into_data_stream().map_err(|error| -> BoxError { error.into() });
    if let Err(error) = api.repository.upload(name.clone(), version, &mut chunks).await {
        // Where it was refused before all had come, the client may still be sending.
        drain(Body::from_stream(chunks.boxed())).await;
        return Err(error.into());
    }
    let entry = RepositoryIndexEntry {
        name,
        version: Some(version),
        state: ModelState::Ready,
        reason: String::new(),
    };
    Ok((StatusCode::CREATED, Json(entry)))
}

pub(super) async fn remove(
    State(api): State<Api>,
    VersionedTarget { name, version }: VersionedTarget,
) -> Result<StatusCode, Failure> {
    api.repository.remove(name, version).await?;
    Ok(StatusCode::NO_CONTENT)
}
