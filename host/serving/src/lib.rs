//! The serving core: a catalog of ready models, the one way to predict with them, and the repository that fills it.
//!
//! Contract: [`Predictor`] answers requests from a snapshot of the catalog; [`Repository`] is the only writer. Only a
//! [`ReadyModel`] can be called, and it exists only compiled, loaded and described. Cost: a prediction takes no lock.
//! Left out on purpose: wire formats (`ingress`), and where requests come from (online, batch, stream are the same here).

mod catalog;
mod inference;
mod memory;
mod meter;
mod model;
mod predictor;
mod repository;
mod sequences;
mod shelf;
mod sources;
mod stats;
mod traffic;

pub use catalog::{IndexEntry, State};
pub use inference::Inference;
pub use model::{CaseReader, ReadyModel};
pub use predictor::{Memory, Predictor, PredictorOptions, ResponseStream};
pub use repository::{
    Agreement, Control, DEFAULT_POLL, LoadOptions, Loading, Repository, RepositoryOptions, Supplier, Supply,
};
pub use sources::Sources;
pub use stats::{LATENCY_BOUNDS, Reason, Statistics, Times};
pub use traffic::{Outcome, Shadow, ShadowCounts, Traffic};
pub use vespid_engine::PluginUsage;
pub use vespid_nn::RunTimes;
pub use vespid_package::{
    Batching, GraphManifest, InstanceGroup, Manifest, Overrides, PackageFiles, PackagePath, SequenceOverride,
    Sequences, VersionPolicy, Waiting,
};
