//! What is said of a stream.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use vespid_resources::{Reason, StreamPrediction, StreamPredictionStatus, set_condition};

use super::scaling::Measured;
use super::{Answer, counted};
use crate::metadata::{Component, selector_text};
use crate::pods;
use crate::pool::{accepted, count};
use kube::ResourceExt as _;

/// What there is of a stream.
pub(super) struct Seen<'a> {
    pub(super) deployment: Option<&'a Deployment>,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) answers: &'a [Answer],
    pub(super) measured: Option<Measured>,
    /// How many pods there are to be.
    pub(super) replicas: i32,
}

/// Its status. `made` is the version that is asked and what the cluster refuses, or what is missing.
pub(super) fn status(
    stream: &StreamPrediction,
    seen: &Seen<'_>,
    made: Result<(i64, Option<String>), Reason>,
) -> StreamPredictionStatus {
    let generation = stream.metadata.generation;
    let before = stream.status.clone().unwrap_or_default();
    let mut conditions = before.conditions;
    let (replicas, _) = counted(seen.deployment);
    let (version, (holds, reason)) = match made {
        Err(missing) => (before.version, (false, missing)),
        Ok((version, refused)) => {
            let ready = match refused {
                Some(refused) => accepted(Some(refused)),
                None => ready(seen),
            };
            (Some(version), ready)
        }
    };
    set_condition(&mut conditions, "Ready", holds, reason, generation);
    StreamPredictionStatus {
        observed_generation: generation,
        conditions,
        replicas: Some(replicas),
        selector: Some(selector_text(Component::Stream, &stream.name_any())),
        // With no pods nobody knows; what was known last is no news.
        lag: seen.measured.map(|measured| measured.lag),
        partitions: seen.measured.and_then(|measured| measured.partitions).or(before.partitions),
        version,
    }
}

fn ready(seen: &Seen<'_>) -> (bool, Reason) {
    let (replicas, ready) = counted(seen.deployment);
    if seen.replicas == 0 && replicas == 0 {
        return (true, Reason::new("Asleep", "nothing waits, and it has no pods"));
    }
    let waits = seen.answers.iter().find_map(|answer| {
        let said = answer.said.as_ref().filter(|said| matches!(said.state.as_str(), "waiting" | "failed"))?;
        Some(format!("pod {}: {}", answer.pod, said.reason.as_deref().unwrap_or(&said.state)))
    });
    if let Some(waits) = waits {
        return (false, Reason::new("Waiting", waits));
    }
    if ready > 0 {
        return (true, Reason::new("Running", format!("{ready} of {} answer messages", count(replicas))));
    }
    match pods::why_not(seen.pods.iter().map(|pod| &**pod)) {
        Some(why) => {
            (false, Reason::new("PodsNotReady", format!("none of {} is ready: {why}", count(replicas))))
        }
        None => (false, Reason::new("Starting", format!("none of {} is ready yet", count(replicas.max(1))))),
    }
}
