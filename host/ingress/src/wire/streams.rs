//! What is told of streams.

use serde::Serialize;
use vespid_stream::{PartitionStatus, Status};

/// All of them.
#[derive(Serialize)]
pub(crate) struct Listed {
    streams: Vec<Told>,
}

impl From<Vec<Status>> for Listed {
    fn from(streams: Vec<Status>) -> Self {
        Self { streams: streams.into_iter().map(Told::from).collect() }
    }
}

/// One of them.
#[derive(Serialize)]
pub(crate) struct Told {
    model: String,
    state: &'static str,
    paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    sessions: u64,
    #[serde(flatten)]
    behind: Behind,
}

/// How far one is behind, which is what autoscalers read.
#[derive(Serialize)]
pub(crate) struct Behind {
    name: String,
    lag: Option<u64>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    topic: String,
    partition: i32,
    position: Option<i64>,
    lag: Option<u64>,
}

impl From<Status> for Told {
    fn from(status: Status) -> Self {
        let Status { name, model, state, paused, reason, lag, sessions, partitions } = status;
        let partitions = partitions.into_iter().map(Partition::from).collect();
        let behind = Behind { name, lag, partitions };
        Self { model, state: state.as_str(), paused, reason, sessions, behind }
    }
}

impl From<Status> for Behind {
    fn from(status: Status) -> Self {
        Told::from(status).behind
    }
}

impl From<PartitionStatus> for Partition {
    fn from(status: PartitionStatus) -> Self {
        let PartitionStatus { topic, partition, position, lag } = status;
        Self { topic, partition, position, lag }
    }
}
