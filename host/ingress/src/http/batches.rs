//! Jobs over files in this process: taken, told of, cancelled. OpenAI's names of a batch where it has them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use bytesize::ByteSize;
use vespid_batch::{Batch, BatchId, Jobs};
use vespid_types::{Error, ErrorCode};

use super::error::Failure;
use super::{Api, drain, read_body};
use crate::wire::batches::{self, Batches};

/// More than a job takes.
const MAX_JOB: ByteSize = ByteSize::mib(1);

fn jobs(api: &Api) -> Result<&Jobs, Failure> {
    let none = || {
        let message =
            "this server runs no jobs over files: start it with --batch-root, or use `vespid batch`";
        Error::new(ErrorCode::Unsupported, message).into()
    };
    api.jobs.as_ref().ok_or_else(none)
}

fn id(text: &str) -> Result<BatchId, Failure> {
    // One that cannot be is not there either.
    let unknown =
        |_| Error::new(ErrorCode::NotFound, format!("there is no job '{}'", crate::wire::fault::name(text)));
    text.parse().map_err(|error: String| unknown(error).into())
}

pub(super) async fn create(
    State(api): State<Api>,
    body: Body,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Batch>), Failure> {
    let jobs = match jobs(&api) {
        Ok(jobs) => jobs,
        Err(failure) => {
            drain(body).await;
            return Err(failure);
        }
    };
    let body = read_body(body, MAX_JOB, 0).await?;
    let (job, told) = batches::decode(&body)?;
    let batch = jobs.create(job, told).await?;
    let place = format!("/v2/batches/{}", batch.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(batch)))
}

pub(super) async fn list(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Json<Batches>, Failure> {
    let page = batches::page(query.as_deref().unwrap_or_default())?;
    let after = page.after.as_deref().map(id).transpose()?;
    let (data, has_more) = jobs(&api)?.list(after.as_ref(), page.limit)?;
    Ok(Json(Batches::new(data, has_more)))
}

pub(super) async fn get(State(api): State<Api>, Path(text): Path<String>) -> Result<Json<Batch>, Failure> {
    Ok(Json(jobs(&api)?.get(&id(&text)?)?))
}

pub(super) async fn delete(State(api): State<Api>, Path(text): Path<String>) -> Result<Json<Batch>, Failure> {
    Ok(Json(jobs(&api)?.delete(&id(&text)?).await?))
}
