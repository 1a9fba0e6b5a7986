//! How many pods a stream has at which lag.
//!
//! Contract: as many as the lag has the wished-for lag of one pod, never more than there are partitions. More come at once; fewer one by
//! one, a minute apart, for each pod that goes has the partitions of all stand still. None are left where nothing waited and nothing
//! was answered for long enough, and then one looks for messages from time to time. Pure: what time it is comes from outside.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use vespid_resources::{LagScaling, StreamPrediction};

use super::Answer;

/// How long fewer pods have to be enough before one goes.
const LOWERED_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// What all pods say together. There is none where one of them does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    /// Messages that wait.
    pub(super) lag: i64,
    /// How many partitions there are, where a pod can have no less than one.
    pub(super) partitions: Option<i32>,
    /// Something that moves when messages are answered.
    pub(super) position: i64,
}

impl Measured {
    pub(super) fn of(stream: &StreamPrediction, answers: &[Answer]) -> Option<Self> {
        if answers.is_empty() {
            return None;
        }
        // While partitions move two pods may tell of one, and all members of a consumer of NATS tell of the same messages.
        let mut partitions: BTreeMap<(&str, i32), (i64, i64)> = BTreeMap::new();
        for answer in answers {
            let said = answer.said.as_ref()?;
            said.lag?;
            for partition in &said.partitions {
                let (lag, position) = (partition.lag?, partition.position.unwrap_or(0));
                let known = partitions.entry((&partition.topic, partition.partition)).or_default();
                *known = (known.0.max(lag), known.1.max(position));
            }
        }
        let count = i32::try_from(partitions.len()).ok().filter(|count| *count > 0);
        Some(Self {
            lag: partitions.values().map(|(lag, _)| lag).sum(),
            partitions: count.filter(|_| stream.spec.source.kafka.is_some()),
            position: partitions.values().map(|(_, position)| position).sum(),
        })
    }
}

/// What is remembered of a stream from one look to the next. Where the operator was started again it begins anew: pods come and go
/// later then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    busy: Option<Timestamp>,
    position: Option<i64>,
    /// Since when fewer are enough.
    fewer: Option<Timestamp>,
    /// Since when there are none.
    empty: Option<Timestamp>,
    /// Whether the one that is there only looks.
    looking: bool,
    pub(super) partitions: Option<i32>,
    /// How many pods there were to be.
    pub(super) decided: Option<i32>,
}

/// How many pods there are to be, where there are `current`, or no Deployment yet.
pub(super) fn decide(
    scaling: &LagScaling,
    memory: &mut Memory,
    current: Option<i32>,
    measured: Option<&Measured>,
    now: Timestamp,
) -> i32 {
    memory.partitions = memory.partitions.max(measured.and_then(|measured| measured.partitions));
    let least = scaling.min_replicas.max(1);
    let most = scaling.max_replicas.min(memory.partitions.unwrap_or(i32::MAX)).max(least);
    let Some(current) = current else { return least };
    if current == 0 {
        return if scaling.min_replicas > 0 { least } else { look(scaling, memory, now) };
    }
    memory.empty = None;
    let held = current.clamp(least, most);
    let Some(measured) = measured else { return held };
    if is_over(scaling, memory, measured, now) {
        *memory = Memory { empty: Some(now), partitions: memory.partitions, ..Memory::default() };
        return 0;
    }
    let wanted = measured.lag.div_euclid(scaling.lag) + i64::from(measured.lag.rem_euclid(scaling.lag) > 0);
    let wanted = i32::try_from(wanted).unwrap_or(i32::MAX).clamp(least, most);
    if wanted >= held {
        memory.fewer = None;
        return wanted;
    }
    let since = *memory.fewer.get_or_insert(now);
    if now.duration_since(since) < LOWERED_EVERY {
        return held;
    }
    memory.fewer = Some(now);
    held - 1
}

/// Where there are no pods: one from time to time.
fn look(scaling: &LagScaling, memory: &mut Memory, now: Timestamp) -> i32 {
    let since = *memory.empty.get_or_insert(now);
    if now.duration_since(since) < SignedDuration::from_secs(scaling.look_seconds.into()) {
        return 0;
    }
    *memory = Memory { looking: true, partitions: memory.partitions, ..Memory::default() };
    1
}

/// Whether the last pods are to go: nothing waited, and nothing was answered, for long enough; or one only looked, and found nothing.
fn is_over(scaling: &LagScaling, memory: &mut Memory, measured: &Measured, now: Timestamp) -> bool {
    let moved = memory.position.is_some_and(|before| before != measured.position);
    memory.position = Some(measured.position);
    if measured.lag > 0 || moved {
        memory.busy = Some(now);
        memory.looking = false;
        return false;
    }
    let since = *memory.busy.get_or_insert(now);
    let idle = SignedDuration::from_secs(scaling.idle_seconds.into());
    scaling.min_replicas == 0 && (memory.looking || now.duration_since(since) >= idle)
}

#[cfg(test)]
mod tests;
