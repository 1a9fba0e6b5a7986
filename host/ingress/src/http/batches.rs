//! Jobs over files in this process: taken, told of, cancelled. OpenAI's names of a batch where it has them.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderName, StatusCode, header};
use bytesize::ByteSize;
use vespid_auth::Action;
use vespid_batch::{Batch, BatchId, Jobs};
use vespid_types::{Error, ErrorCode};

use super::error::Failure;
use super::{Api, drain, read_body};
use crate::access::{Purpose, Rights};
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

/// The job of that name, where the caller may have one of its model. The rest are not there for them.
fn find(api: &Api, rights: &Rights, text: &str) -> Result<Batch, Failure> {
    let id = id(text)?;
    let batch = jobs(api)?.get(&id)?;
    match rights.has(Action::RunBatch, &batch.job.model) {
        true => Ok(batch),
        false => Err(Jobs::not_found(&id).into()),
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    rights: Rights,
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
    let model = job.model.clone();
    let purpose = Purpose { action: Action::RunBatch, model: Some(&model), version: job.version };
    let batch = rights.change(&purpose, StatusCode::ACCEPTED.as_u16(), jobs.create(job, told)).await?;
    let place = format!("/v2/batches/{}", batch.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(batch)))
}

/// Those that the caller may have.
pub(super) async fn list(
    State(api): State<Api>,
    rights: Rights,
    RawQuery(query): RawQuery,
) -> Result<Json<Batches>, Failure> {
    let page = batches::page(query.as_deref().unwrap_or_default())?;
    let after = page.after.as_deref().map(id).transpose()?;
    let is_shown = |batch: &Batch| rights.has(Action::RunBatch, &batch.job.model);
    let (data, has_more) = jobs(&api)?.list(after.as_ref(), page.limit, is_shown)?;
    Ok(Json(Batches::new(data, has_more)))
}

pub(super) async fn get(
    State(api): State<Api>,
    rights: Rights,
    Path(text): Path<String>,
) -> Result<Json<Batch>, Failure> {
    Ok(Json(find(&api, &rights, &text)?))
}

pub(super) async fn delete(
    State(api): State<Api>,
    rights: Rights,
    Path(text): Path<String>,
) -> Result<Json<Batch>, Failure> {
    let Batch { id, job, .. } = find(&api, &rights, &text)?;
    let purpose = Purpose::model(Action::RunBatch, &job.model);
    Ok(Json(rights.change(&purpose, StatusCode::OK.as_u16(), jobs(&api)?.delete(&id)).await?))
}
