//! What a cluster is told about models: custom resources, the names that go with them, and where models are placed.
//!
//! Contract: the resources of `vespid.dev/v1alpha1` as Rust types, from which their definitions are made, rules included: what
//! the API server lets in, this crate can read. The operator, the gateway and the hosts share nothing else. Cost: none; these are
//! values. Left out on purpose: whoever talks to an API server.

#![allow(unreachable_pub, reason = "what is derived repeats each struct where nobody reaches it")]

mod batch;
mod condition;
mod definitions;
mod grants;
mod model;
pub mod names;
mod placement;
mod pods;
mod pool;
mod stream;

pub use batch::{
    BatchInput, BatchOutput, BatchPrediction, BatchPredictionSpec, BatchPredictionStatus, BatchReport,
};
pub use condition::{Condition, Conditions, Reason, set_condition};
pub use definitions::definitions;
pub use grants::{GrantedSecret, Grants};
pub use model::{
    Model, ModelSpec, ModelStatus, ModelVersion, PackageSource, PodModel, PodVersion, PodVersionState,
    Shadow, VersionStatus,
};
pub use placement::{Placement, rank};
pub use pods::PodSettings;
pub use pool::{Autoscaling, CacheVolume, Disruption, ModelPool, ModelPoolSpec, ModelPoolStatus, Rollout};
pub use stream::{
    Action, Codec, KafkaSink, KafkaSource, LagScaling, NatsSink, NatsSource, OnError, Order, SecretValue,
    Sessions, Start, StreamPrediction, StreamPredictionSpec, StreamPredictionStatus, StreamSink,
    StreamSource,
};
