//! The task that runs jobs, one after the other.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use vespid_types::ModelRef;

use super::{BatchId, Inner, JobsOptions, Known, Status};
use crate::{BatchError, Outcome, Progress, RunOptions, Worker};

/// How long after a job's document could not be written it is tried again.
const AGAIN: Duration = Duration::from_secs(5);

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
        // What was done of it stays done, and so it is done again where its document could not be written.
        while let Err(error) = one(&jobs, &id, &options).await {
            tracing::error!(job = %id, "the job's state cannot be written: {error}");
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

async fn one(jobs: &Inner, id: &BatchId, options: &JobsOptions) -> vespid_types::Result<()> {
    let found = |known: &Known| (known.batch.job.clone(), known.batch.status, known.cancel.subscribe());
    let Some((spec, status, cancelled)) = jobs.known().get(id).map(found) else { return Ok(()) };
    if status == Status::Cancelling {
        return jobs.change(id, super::Batch::cancelled).await.map(drop);
    }
    jobs.change(id, super::Batch::begun).await?;
    let progress = Arc::new(Progress::default());
    jobs.set_progress(id, Some(Arc::clone(&progress)));
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
    jobs.set_progress(id, None);
    let counts = progress.counts();
    let ended = jobs.change(id, |batch| {
        *batch = batch.clone().with(&counts);
        match outcome {
            Ok(Outcome::Done(report)) => batch.completed(report),
            _ if batch.status == Status::Cancelling => batch.cancelled(),
            // The server stops: it goes on when there is one again.
            Ok(_) => {}
            Err(error) if error.code().may_pass() && *options.stopping.borrow() => {}
            Err(error) => batch.failed(&error),
        }
    });
    ended.await.map(drop)
}
