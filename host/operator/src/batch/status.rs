//! What is said of a job over files.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;
use serde::Deserialize;
use vespid_resources::{BatchPrediction, BatchPredictionStatus, BatchReport, Reason, set_condition};

use super::Told;
use crate::pool::count;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Something is missing.
    Waiting,
    Running,
    /// It is held.
    Suspended,
    Complete,
    Failed,
}

impl State {
    const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Suspended, Self::Complete, Self::Failed];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
        }
    }

    pub(super) fn of(status: &BatchPredictionStatus) -> Option<Self> {
        let name = status.state.as_deref()?;
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing comes after it.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Self::Complete | Self::Failed)
    }
}

pub(super) fn status(
    batch: &BatchPrediction,
    job: Option<&Job>,
    version: Option<i64>,
    (state, reason, report): &Told,
) -> BatchPredictionStatus {
    let generation = batch.metadata.generation;
    let before = batch.status.as_ref();
    let mut conditions = before.map(|status| status.conditions.clone()).unwrap_or_default();
    set_condition(&mut conditions, "Complete", *state == State::Complete, reason.clone(), generation);
    let done = job.and_then(|job| job.status.as_ref()?.succeeded).unwrap_or(0);
    BatchPredictionStatus {
        observed_generation: generation,
        conditions,
        state: Some(state.name().to_owned()),
        workers: Some(format!("{done}/{}", batch.spec.parallelism)),
        version,
        report: report.clone().or_else(|| before?.report.clone()),
    }
}

/// A Job that was just made.
pub(super) fn begun(batch: &BatchPrediction) -> Told {
    match batch.spec.suspend {
        true => (State::Suspended, Reason::new("Suspended", "it is held: spec.suspend is true"), None),
        false => {
            let message = format!("{} begin", count(batch.spec.parallelism));
            (State::Running, Reason::new("Running", message), None)
        }
    }
}

/// A Job that goes on.
pub(super) fn running(batch: &BatchPrediction, job: &Job) -> Told {
    if batch.spec.suspend {
        return begun(batch);
    }
    let status = job.status.clone().unwrap_or_default();
    let (active, done) = (status.active.unwrap_or(0), status.succeeded.unwrap_or(0));
    let failed = match status.failed.unwrap_or(0) {
        0 => String::new(),
        failed => format!(", {} failed and had another in its place", count(failed)),
    };
    let message = format!("{done} of {} are done, {active} at work{failed}", count(batch.spec.parallelism));
    (State::Running, Reason::new("Running", message), None)
}

/// How a Job ended: well or not, and what Kubernetes says of it.
pub(super) struct Ended {
    well: bool,
    message: String,
}

/// How a Job ended, where it has.
pub(super) fn ended(job: &Job) -> Option<Ended> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        let well = match condition.type_.as_str() {
            "Complete" => true,
            "Failed" => false,
            _ => return None,
        };
        Some(Ended { well, message: condition.message.clone().unwrap_or_default() })
    })
}

/// What a pod leaves: the report, or why it failed.
#[derive(Deserialize)]
struct Left {
    rows: u64,
    errors: u64,
    parts: u64,
}

/// What came of a Job, by what its pods left.
pub(super) fn told(ended: &Ended, pods: &[Pod]) -> Told {
    if !ended.well {
        let said =
            pods.iter().filter_map(|pod| Some((pod, terminated(pod)?))).find(|(_, end)| end.exit_code != 0);
        let said = said.map(|(pod, end)| format!("; pod {}: {}", pod.name_any(), reason(end)));
        let message = format!("{}{}", ended.message, said.unwrap_or_default());
        return (State::Failed, Reason::new("Failed", message), None);
    }
    let left = pods.iter().filter_map(|pod| terminated(pod)?.message.as_deref());
    // Who finds all parts done writes it; where several do they write the same.
    let report = left.filter_map(|left| serde_json::from_str(left).ok()).next();
    let report = report.map(|Left { rows, errors, parts }| {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        BatchReport {
            rows: number(rows.saturating_sub(errors)),
            failed: number(errors),
            parts: number(parts),
        }
    });
    let message = match &report {
        Some(BatchReport { rows, failed, parts }) => {
            format!("{rows} rows were answered and {failed} failed, in {parts} parts")
        }
        None => "all parts are done; the report stands beside the output".to_owned(),
    };
    (State::Complete, Reason::new("Complete", message), report)
}

fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    container.state.as_ref()?.terminated.as_ref()
}

fn reason(end: &ContainerStateTerminated) -> String {
    let said = end.message.as_deref().map(str::trim).filter(|said| !said.is_empty());
    said.or(end.reason.as_deref())
        .map_or_else(|| format!("it ended with {}", end.exit_code), ToOwned::to_owned)
}
