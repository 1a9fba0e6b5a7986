//! Continuous consumers: messages in, predictions out, none lost.
//!
//! Contract: each message of a source is answered by the model, goes where failed messages go, or is skipped because its policy says so; its
//! offset is committed after that is acknowledged (`run`), in one transaction with it where that is asked for (`sink/kafka/transactions`).
//! The order of a partition, or of a key, is kept (`pipeline`, `worker`). Memory is bounded: what has no room is not read. Calls are those of
//! [`vespid_serving::Predictor`], at the priority of streams, by the mapping of fields that jobs have. Left out on purpose: joins,
//! windows and aggregates, which are a stream processor's.

mod asker;
mod codec;
mod error;
mod failure;
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod metrics;
mod pipeline;
mod run;
mod service;
mod sessions;
mod sink;
mod source;
mod spec;
mod status;
mod tracker;
mod worker;

pub use error::StreamError;
pub use metrics::Metrics;
pub use service::Streams;
pub use spec::{
    Action, Codec, FileSink, FileSource, KafkaSink, KafkaSource, NatsSink, NatsSource, OnError, Order,
    SessionSpec, SinkKind, SinkSpec, SourceKind, SourceSpec, Start, StreamSpec, Value,
};
pub use status::{PartitionStatus, State, Status};
