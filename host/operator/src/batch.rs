//! A job over files: an Indexed Job, whose pods share the parts.
//!
//! The Job and what its pods are told are made once: what a job is does not change while it runs. Of a Job that is there only whether it
//! is held, and how long it stays when it has ended, are changed. A job that has ended is not begun again, also where its Job is gone.

mod job;
mod render;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use serde_json::json;
use vespid_resources::names::FIELD_MANAGER;
use vespid_resources::{BatchPrediction, BatchPredictionStatus, Model, ModelPool, Reason, names};

pub(crate) use self::render::Keep;
pub use self::render::job_yaml;
use self::status::State;
use crate::apply::{Making, apply_status};
use crate::context::Context;
use crate::controller::Reconcile;
use crate::error::code;
use crate::metadata::{self, Component};
use crate::network::policy;
use crate::package::{Package, package};
use crate::{OperatorError, pods};

/// After how long what was refused is tried again, where nothing changes.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(120);

impl Reconcile for BatchPrediction {
    const KIND: &'static str = "batchprediction";

    async fn reconcile(self: Arc<Self>, context: Arc<Context>) -> Result<Action, OperatorError> {
        let before = self.status.clone().unwrap_or_default();
        if self.metadata.deletion_timestamp.is_some() || State::of(&before).is_some_and(State::is_end) {
            return Ok(Action::await_change());
        }
        let name = names::of_batch(&self.name_any());
        let mut version = before.version;
        let state = match context.find(&context.stores.jobs, &name) {
            Some(job) => {
                version = version.or_else(|| job::version(&job));
                go_on(&self, &context, &job).await?
            }
            None => match around(&self, &context, version) {
                Ok((package, pool)) => {
                    version = Some(package.version);
                    begin(&self, &context, &package, &pool).await?
                }
                Err(reason) => (State::Waiting, reason, None),
            },
        };
        let job = context.find(&context.stores.jobs, &name);
        let status = status::status(&self, job.as_deref(), version, &state);
        if status != before {
            apply_status(&context, &*self, &status, None).await?;
            tell(&self, &context, &before, &state).await;
        }
        let again = matches!(state, (State::Waiting, Reason { reason: "Refused", .. }, _)).then_some(REFUSED);
        Ok(again.map_or_else(Action::await_change, Action::requeue))
    }
}

type Told = (State, Reason, Option<vespid_resources::BatchReport>);

/// The package that is asked and the pool whose pods its own are like; what is missing.
fn around(
    batch: &BatchPrediction,
    context: &Context,
    version: Option<i64>,
) -> Result<(Package, Arc<ModelPool>), Reason> {
    let (model, pool) = model_and_pool(context, &batch.spec.model)?;
    let package = package(&model, version.or(batch.spec.version), context.options.packages.as_deref())?;
    Ok((package, pool))
}

/// A model and its pool, as jobs and streams need them; which is missing.
pub(crate) fn model_and_pool(context: &Context, name: &str) -> Result<(Arc<Model>, Arc<ModelPool>), Reason> {
    let missing = || Reason::new("ModelMissing", format!("there is no model '{name}' in this namespace"));
    let model = context.find(&context.stores.models, name).ok_or_else(missing)?;
    let pool = &model.spec.pool;
    let missing =
        || Reason::new("PoolMissing", format!("there is no pool '{pool}', which the model '{name}' names"));
    let pool = context.find(&context.stores.pools, pool).ok_or_else(missing)?;
    Ok((model, pool))
}

/// Makes the Job.
async fn begin(
    batch: &BatchPrediction,
    context: &Context,
    package: &Package,
    pool: &ModelPool,
) -> Result<Told, OperatorError> {
    let mut making = Making::of(batch, context);
    making.apply(&config(batch, package)?).await?;
    protect(&mut making, batch, context).await?;
    if let Some(refused) = making.refused() {
        return Ok((State::Waiting, Reason::new("Refused", refused), None));
    }
    let settings = pods::over(&batch.spec.pods, &pool.spec.pods);
    let job = job::job(batch, package, &settings, &context.options);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match context.api::<Job>().create(&params, &job).await {
        Ok(job) => {
            let note = format!("Job {} was made, with {} pods", job.name_any(), batch.spec.parallelism);
            context.tell(batch, EventType::Normal, "Created", note).await;
        }
        // It was made before this process was started, and the watch has not told of it yet.
        Err(error) if code(&error) == Some(409) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 404 | 422) => {
            let message = format!("Job {}: {}", names::of_batch(&batch.name_any()), status.message);
            return Ok((State::Waiting, Reason::new("Refused", message), None));
        }
        Err(error) => return Err(OperatorError::kube("the Job")(error)),
    }
    Ok(status::begun(batch))
}

/// Nobody reaches the pods but for their metrics.
async fn protect(
    making: &mut Making<'_, BatchPrediction>,
    batch: &BatchPrediction,
    context: &Context,
) -> Result<(), OperatorError> {
    let name = names::of_batch(&batch.name_any());
    making.apply(&policy(batch, Component::Batch, name, &context.options.peers)).await
}

fn config(batch: &BatchPrediction, package: &Package) -> Result<ConfigMap, OperatorError> {
    let yaml = job_yaml(batch, package)?;
    Ok(ConfigMap {
        metadata: metadata::of(batch, Component::Batch, names::of_batch(&batch.name_any())),
        data: Some([(job::FILE.to_owned(), yaml)].into()),
        ..ConfigMap::default()
    })
}

/// Holds a Job that is there, or lets it go on, and sees how far it is.
async fn go_on(batch: &BatchPrediction, context: &Context, job: &Job) -> Result<Told, OperatorError> {
    let spec = job.spec.as_ref();
    let held = spec.and_then(|spec| spec.suspend).unwrap_or(false);
    let stays = spec.and_then(|spec| spec.ttl_seconds_after_finished);
    let ended = status::ended(job);
    let suspend = if ended.is_some() { held } else { batch.spec.suspend };
    if (held, stays) != (suspend, batch.spec.ttl_seconds) {
        let name = job.name_any();
        let patch = json!({"spec": {"suspend": suspend, "ttlSecondsAfterFinished": batch.spec.ttl_seconds}});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match context.api::<Job>().patch(&name, &params, &Patch::Merge(&patch)).await {
            // It is gone; when the watch has told of it, it is made again.
            Err(error) if code(&error) == Some(404) => {}
            patched => drop(patched.map_err(OperatorError::kube(format!("Job {name}")))?),
        }
    }
    let Some(ended) = ended else {
        protect(&mut Making::of(batch, context), batch, context).await?;
        return Ok(status::running(batch, job));
    };
    // What pods said is asked for at once: a watch of theirs may be behind that of the Job.
    let label = format!("{}={}", names::BATCH_LABEL, batch.name_any());
    let listed = context.api::<Pod>().list(&ListParams::default().labels(&label)).await;
    let pods = listed.map_err(OperatorError::kube("the pods of the Job"))?.items;
    Ok(status::told(&ended, &pods))
}

async fn tell(batch: &BatchPrediction, context: &Context, before: &BatchPredictionStatus, told: &Told) {
    let (state, reason, _) = told;
    if State::of(before) == Some(*state) {
        return;
    }
    let kind = match state {
        State::Failed | State::Waiting => EventType::Warning,
        _ => EventType::Normal,
    };
    context.tell(batch, kind, state.name(), reason.message.clone()).await;
}
