//! Why a stream cannot go on.

use vespid_batch::BatchError;
use vespid_dataset::DataError;
use vespid_types::{Error, ErrorCode};

/// What keeps a stream from starting, or ends it. What is wrong with a message alone is no such thing.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The stream asks for what cannot be.
    #[error("{field}: {reason}")]
    Config {
        /// The setting, as it is written in the file.
        field: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A file of a stream cannot be read.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model cannot be asked, or does not fit the stream.
    #[error("the model: {0}")]
    Model(#[source] Error),
    /// What brings the messages failed.
    #[error("the source: {0}")]
    Source(String),
    /// What takes the answers failed.
    #[error("the sink: {0}")]
    Sink(String),
    /// Snapshots of sessions cannot be read or written.
    #[error("sessions.snapshots: {0}")]
    Snapshots(#[from] DataError),
    /// A message failed, and the stream is to stop where one does.
    #[error(
        "{at} failed ({code}: {reason}), and on_error.{class} is stop: mend it and start the stream again, which begins with this message"
    )]
    Message {
        /// Topic, partition and offset.
        at: String,
        /// The class of the failure.
        class: &'static str,
        /// Its code.
        code: ErrorCode,
        /// What is wrong.
        reason: String,
    },
    /// A defect.
    #[error("{0}")]
    Internal(String),
}

impl StreamError {
    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { field: field.into(), reason: reason.into() }
    }

    /// Whether the stream is begun anew after a while.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Config { .. } | Self::File { .. } | Self::Message { .. } => false,
            // One that is not there may be pushed yet.
            Self::Model(_) | Self::Source(_) | Self::Sink(_) | Self::Snapshots(_) | Self::Internal(_) => true,
        }
    }
}

/// What a mapping says of a job is said of a stream's settings of the same names.
impl From<BatchError> for StreamError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Job { field, reason } => Self::Config { field, reason },
            BatchError::Model(error) => Self::Model(error),
            BatchError::Data(error) => Self::Snapshots(error),
            BatchError::Place(error) => Self::config("sessions.snapshots", error.to_string()),
            error => Self::Internal(error.to_string()),
        }
    }
}
