//! The task that runs jobs, one after the other.

use std::sync::{Arc, Weak};

use tokio::sync::{mpsc, watch};
use vespid_types::{ErrorCode, ModelRef};

use super::{BatchId, Inner, JobsOptions, Status};
use crate::{BatchError, Outcome, Progress, RunOptions, Worker};

/// Runs what waits until the server stops.
pub(super) async fn work(jobs: Weak<Inner>, mut waiting: mpsc::Receiver<BatchId>, options: JobsOptions) {
    let mut stopping = options.stopping.clone();
    loop {
        let id = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return,
            id = waiting.recv() => id,
        };
        let (Some(id), Some(jobs)) = (id, jobs.upgrade()) else { return };
        if let Err(error) = one(&jobs, &id, &options).await {
            tracing::error!(job = %id, "the job's state cannot be written: {error}");
        }
    }
}

async fn one(jobs: &Inner, id: &BatchId, options: &JobsOptions) -> vespid_types::Result<()> {
    let progress = Arc::new(Progress::default());
    let (spec, cancelled) = {
        let mut known = jobs.known();
        let Some(known) = known.get_mut(id) else { return Ok(()) };
        known.progress = Some(Arc::clone(&progress));
        (known.batch.job.clone(), known.cancel.subscribe())
    };
    let cancelling =
        |jobs: &Inner| jobs.known().get(id).is_some_and(|known| known.batch.status == Status::Cancelling);
    if cancelling(jobs) {
        return jobs.change(id, super::Batch::cancelled).await.map(drop);
    }
    jobs.change(id, super::Batch::begun).await?;
    let (stop, stopped) = watch::channel(false);
    let run = async {
        let name = spec.model.parse().map_err(|error| BatchError::Job {
            field: "model".to_owned(),
            reason: format!("{error}: a server's job names one of its models"),
        })?;
        let model = ModelRef { name, version: spec.version };
        let run = RunOptions { worker: Worker::ALONE, calls: options.calls, grace: options.grace };
        crate::run(&spec, options.predictor.clone(), &model, &run, Arc::clone(&progress), stopped).await
    };
    let tell = async {
        let (mut cancelled, mut stopping) = (cancelled, options.stopping.clone());
        tokio::select! {
            _ = cancelled.wait_for(|cancelled| *cancelled) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        stop.send_replace(true);
        std::future::pending::<std::convert::Infallible>().await
    };
    let outcome = tokio::select! {
        outcome = run => outcome,
        never = tell => match never {},
    };
    match &outcome {
        Ok(Outcome::Done(report)) => {
            tracing::info!(job = %id, rows = report.rows, errors = report.errors, "the job is done");
        }
        Ok(outcome) => tracing::info!(job = %id, ?outcome, "the job has stopped"),
        Err(error) => tracing::warn!(job = %id, code = %error.code(), "the job has failed: {error}"),
    }
    let counts = progress.counts();
    let ended = jobs.change(id, |batch| {
        *batch = batch.clone().with(&counts);
        match outcome {
            Ok(Outcome::Done(report)) => batch.completed(report),
            _ if batch.status == Status::Cancelling => batch.cancelled(),
            // The server stops: it goes on when there is one again.
            Ok(_) => {}
            Err(error) if error.code() == ErrorCode::Unavailable && *options.stopping.borrow() => {}
            Err(error) => batch.failed(&error),
        }
    });
    ended.await?;
    if let Some(known) = jobs.known().get_mut(id) {
        known.progress = None;
    }
    Ok(())
}
