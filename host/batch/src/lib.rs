//! Jobs over files: each row of a dataset asked of a model, and its answer written, exactly once.
//!
//! Contract: a [`JobSpec`] says what; [`run`] does it, or goes on with it. What is wrong with the job is told before any row is read,
//! what is wrong with a row in a file of errors. The output is divided into parts, each of which appears whole or not at all
//! ([`run`], `part`), from a plan that is written first (`plan`). Calls are those of [`vespid_serving::Predictor`], at the priority of
//! jobs, so that one process may serve online beside them. Left out on purpose: joins and aggregates, which are a query engine's.

mod answer;
mod error;
mod layout;
mod mapping;
mod metrics;
mod part;
mod patience;
mod places;
mod plan;
mod probe;
mod progress;
mod run;
mod service;
mod spawned;
mod spec;

pub use answer::{Answerer, AnswererOptions, Answers, RowFault};
pub use error::BatchError;
pub use mapping::{Choices, Columns, Mapping, MappingOptions, object_columns};
pub use metrics::{Metrics, Running};
pub use patience::growing;
pub use places::place;
pub use plan::ModelIdentity;
pub use progress::{Counts, Progress};
pub use run::{Outcome, Report, RunOptions, Worker, run};
pub use service::{Batch, BatchId, Jobs, JobsOptions, Problem, Problems, RequestCounts, Roots, Status, Told};
pub use spawned::Spawned;
pub use spec::{InputSpec, JobSpec, Keep, KeepWord, MaxErrors, OneOrMore, OutputSpec};
