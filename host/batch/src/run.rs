//! A run of a job, or of one worker's share of it.
//!
//! Contract: after it has returned, each part is whole or not there. Parts that are there are not done again; which are is asked
//! of the store, so that a run can end at any moment, and the next one goes on. Whoever finds all parts there writes the report
//! and `_SUCCESS`. Cost: a listing and a few small objects for each part.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use vespid_serving::{Predictor, ReadyModel};
use vespid_types::ModelRef;

use crate::BatchError;
use crate::answer::{Answerer, for_jobs};
use crate::part::Work;
use crate::patience::patiently;
use crate::plan::{ModelIdentity, Plan, now};
use crate::progress::{PartRecord, Progress};
use crate::spec::JobSpec;

/// Parts that one worker does at once: while one is written, the next is read and asked for.
const PARTS_AT_ONCE: usize = 2;

/// How often it is looked whether a model is loaded: for a minute.
const LOOKS: usize = 300;

/// Records that are read at once.
const READS_AT_ONCE: usize = 16;

/// Which share of the parts a worker does: those whose position leaves the remainder `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// From 0.
    pub index: usize,
    /// How many workers there are, 1 or more.
    pub of: usize,
}

impl Worker {
    /// The one that does all.
    pub const ALONE: Self = Self { index: 0, of: 1 };

    fn does(self, part: usize) -> bool {
        part % self.of.max(1) == self.index
    }
}

/// How a run goes.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// This worker's share.
    pub worker: Worker,
    /// Calls of the model at once.
    pub calls: usize,
    /// How long parts in hand may take after the run is told to stop.
    pub grace: Duration,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The job is done, by this run or before it.
    Done(Report),
    /// This worker's share is done; others have so many parts to do.
    ShareDone {
        /// Parts that are not there yet.
        left: usize,
    },
    /// It was told to stop; running it again goes on.
    Stopped {
        /// Parts of the share that are not there yet.
        left: usize,
    },
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which model answered.
    pub model: ModelIdentity,
    /// Rows that were wanted.
    pub rows: u64,
    /// Those that failed.
    pub errors: u64,
    /// The first failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// Parts.
    pub parts: u64,
    /// Bytes of the output's parts.
    pub bytes: u64,
    /// From when the job was planned until it was done.
    pub seconds: f64,
    /// What its parts took, those done at once counted each.
    pub part_seconds: f64,
    /// `rows` by `seconds`.
    pub rows_per_second: f64,
}

/// Runs a job of a model, or goes on with it, until it is done, told to stop, or something is wrong.
///
/// # Errors
/// What is wrong with the job before any row is read, and what ends it later. What was done stays done.
pub async fn run(
    job: &JobSpec,
    predictor: Predictor,
    asked: &ModelRef,
    options: &RunOptions,
    progress: Arc<Progress>,
    mut stop: watch::Receiver<bool>,
) -> Result<Outcome, BatchError> {
    let model = loaded(&predictor, asked).await?;
    let plan = patiently(|| Plan::make(job, &model, &predictor)).await?;
    if let Some(report) = patiently(|| finished(&plan)).await? {
        return Ok(Outcome::Done(report));
    }
    let done = patiently(|| plan.layout.done(plan.format)).await?;
    let share: Vec<usize> =
        (0..plan.manifest.parts.len()).filter(|part| options.worker.does(*part)).collect();
    let before = patiently(|| before(&plan, &share, &done)).await?;
    let rows = share.iter().map(|part| plan.manifest.parts.get(*part)?.rows).sum::<Option<u64>>();
    progress.begin(share.len() as u64, rows.filter(|_| plan.filter.is_none()), before.into_iter());
    let model = ModelRef { name: model.name().clone(), version: Some(model.version()) };
    let rows = plan.rows_per_call();
    let answerer = Answerer::new(predictor, model, plan.mapping.clone(), for_jobs(options.calls, rows));
    let work = Arc::new(Work {
        plan,
        answerer: Arc::new(answerer),
        progress,
        calls: options.calls.div_ceil(PARTS_AT_ONCE) + 1,
    });
    let left = share.into_iter().filter(|part| !done.contains_key(part)).collect();
    let left = parts(&work, left, options.grace, &mut stop).await?;
    if left > 0 {
        return Ok(Outcome::Stopped { left });
    }
    patiently(|| finish(&work)).await
}

/// The model, once it is loaded: a server that has just started loads its models while jobs go on.
async fn loaded(predictor: &Predictor, asked: &ModelRef) -> Result<Arc<ReadyModel>, BatchError> {
    let pauses = ConstantBuilder::new().with_delay(Duration::from_millis(200)).with_max_times(LOOKS);
    let resolve = || predictor.resolve(asked);
    let found = resolve.retry(pauses).when(|error| error.code().may_pass()).await;
    Ok(found?)
}

/// Does the parts, some at a time; returns how many were not begun or not ended when it was told to stop.
async fn parts(
    work: &Arc<Work>,
    parts: Vec<usize>,
    grace: Duration,
    stop: &mut watch::Receiver<bool>,
) -> Result<usize, BatchError> {
    let mut left = parts.len();
    let mut parts = parts.into_iter();
    // Dropping the set ends what is in it.
    let mut running = JoinSet::new();
    for part in parts.by_ref().take(PARTS_AT_ONCE) {
        running.spawn(Arc::clone(work).part(part));
    }
    while !*stop.borrow() {
        tokio::select! {
            ended = running.join_next() => {
                let Some(ended) = ended else { return Ok(left) };
                ended.map_err(|error| BatchError::Internal(error.to_string()))??;
                left -= 1;
                if let Some(part) = parts.next() {
                    running.spawn(Arc::clone(work).part(part));
                }
            }
            // Whoever could tell it to stop is gone: it goes on.
            changed = stop.changed() => if changed.is_err() { std::future::pending::<()>().await },
        }
    }
    let ending = async {
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| BatchError::Internal(error.to_string()))??;
            left -= 1;
        }
        Ok(())
    };
    match tokio::time::timeout(grace, ending).await {
        Ok(ended) => ended.map(|()| left),
        Err(_) => Ok(left),
    }
}

/// What the parts of the share that are done have counted, and the bytes of each.
async fn before(
    plan: &Plan,
    share: &[usize],
    done: &BTreeMap<usize, u64>,
) -> Result<Vec<(PartRecord, u64)>, BatchError> {
    let ours: BTreeMap<usize, u64> =
        share.iter().filter_map(|part| Some((*part, *done.get(part)?))).collect();
    Ok(records(plan, &ours).await?.into_iter().zip(ours.into_values()).collect())
}

async fn records(plan: &Plan, parts: &BTreeMap<usize, u64>) -> Result<Vec<PartRecord>, BatchError> {
    let read = |part: usize| async move {
        let place = plan.layout.record(part);
        let missing = || BatchError::File {
            file: place.shown.to_string(),
            reason: "the part is there, and what it counted is not: use another output".to_owned(),
        };
        let text = place.get().await?.ok_or_else(missing)?;
        serde_json::from_slice(&text).map_err(|_| missing())
    };
    stream::iter(parts.keys().copied()).map(read).buffered(READS_AT_ONCE).try_collect().await
}

/// The report of a job that is done.
async fn finished(plan: &Plan) -> Result<Option<Report>, BatchError> {
    if plan.layout.success().get().await?.is_none() {
        return Ok(None);
    }
    let Some(text) = plan.layout.report().get().await? else { return Ok(None) };
    Ok(serde_json::from_slice(&text).ok())
}

/// Writes the report where all parts are there.
async fn finish(work: &Work) -> Result<Outcome, BatchError> {
    let plan = &work.plan;
    let done = plan.layout.done(plan.format).await?;
    let parts = plan.manifest.parts.len();
    if done.len() < parts {
        return Ok(Outcome::ShareDone { left: parts - done.len() });
    }
    let records = records(plan, &done).await?;
    let (rows, failed) =
        (records.iter().map(|part| part.rows).sum(), records.iter().map(|part| part.failed).sum());
    let first_error = records.iter().find_map(|part| part.first.clone());
    if plan.manifest.job.max_errors.exceeded(failed, rows) {
        work.progress.note(|| first_error.unwrap_or_default());
        return Err(work.too_many(failed, rows));
    }
    let seconds = now().saturating_sub(plan.manifest.planned) as f64 / 1e3;
    let report = Report {
        model: plan.manifest.model.clone(),
        rows,
        errors: failed,
        first_error,
        parts: parts as u64,
        bytes: done.values().sum(),
        seconds,
        part_seconds: records.iter().map(|part| part.seconds).sum(),
        rows_per_second: rows as f64 / seconds.max(1e-3),
    };
    let text = serde_json::to_vec_pretty(&report).map_err(|error| BatchError::Internal(error.to_string()))?;
    plan.layout.report().put(text.into()).await?;
    if !plan.layout.success().put_new(Default::default()).await? {
        // Another worker was quicker.
        return Ok(Outcome::Done(finished(plan).await?.unwrap_or(report)));
    }
    tidy(plan).await;
    Ok(Outcome::Done(report))
}

/// Takes away what only a run that goes on would need. What stays is in nobody's way.
async fn tidy(plan: &Plan) {
    for folder in [plan.layout.leases(), plan.layout.staging()] {
        for (name, _) in folder.list().await.unwrap_or_default() {
            let _ = folder.child(&name).delete().await;
        }
    }
}
