//! Why a job cannot go on.

use vespid_dataset::DataError;
use vespid_types::{Error, ErrorCode};

/// What ends a job, or keeps it from starting. What is wrong with a row alone is no such thing: it is told in the error files.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The job asks for what cannot be.
    #[error("{field}: {reason}")]
    Job {
        /// The setting, as it is written in a job.
        field: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A job file cannot be read.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Files cannot be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A store cannot be opened.
    #[error(transparent)]
    Place(#[from] vespid_package::PackageError),
    /// The model cannot be asked.
    #[error("{0}")]
    Model(#[from] Error),
    /// The output is another job's.
    #[error("{output} is the output of another job: {}; use another output, or delete what is there", differs.join(", "))]
    OtherJob {
        /// The output.
        output: String,
        /// What differs, with both values.
        differs: Vec<String>,
    },
    /// More rows failed than may.
    #[error(
        "{failed} of {rows} rows failed, and {allowed} may; the first: {first}. Their errors are in {errors}; run the job again with another --max-errors to go on"
    )]
    TooManyErrors {
        /// Rows that failed.
        failed: u64,
        /// Rows seen.
        rows: u64,
        /// What was allowed, as the job has it.
        allowed: String,
        /// The first of them.
        first: String,
        /// Where they are told.
        errors: String,
    },
    /// Somebody else works at a part of this worker's share.
    #[error(
        "part {part} is being written by {holder}; wait until that has ended, or give each worker its own number (--worker)"
    )]
    Held {
        /// The part.
        part: usize,
        /// Who has it.
        holder: String,
    },
    /// The right to write a part was lost to somebody else, and what this worker had of it was thrown away.
    #[error("the lease of part {part} was lost: this process stood still for too long; run the job again")]
    Lost {
        /// The part.
        part: usize,
    },
    /// A part's work ended otherwise than by an error.
    #[error("{0}")]
    Internal(String),
}

impl BatchError {
    pub(crate) fn job(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Job { field: field.into(), reason: reason.into() }
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Job { .. } | Self::File { .. } | Self::TooManyErrors { .. } => ErrorCode::InvalidArgument,
            Self::Data(error) => error.code(),
            Self::Place(_) => ErrorCode::InvalidArgument,
            Self::Model(error) => error.code(),
            Self::OtherJob { .. } => ErrorCode::AlreadyExists,
            Self::Held { .. } | Self::Lost { .. } => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}
