//! Jobs over files.

mod error;
mod mapping;
mod spec;

pub use error::BatchError;
pub use spec::{InputSpec, JobSpec, Keep, KeepWord, MaxErrors, OneOrMore, OutputSpec};
