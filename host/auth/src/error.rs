//! Why access cannot be set up, or read again.

use std::fmt;
use std::path::{Path, PathBuf};

/// What keeps [`Access`](crate::Access) from starting. None of these quotes a key or a token.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be read, or is not what it should be.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A setting asks for what cannot be.
    #[error("{}: {field}: {reason}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The setting, as it is written in the file.
        field: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Policies that cannot be read, or do not fit the schema: each fault in a line.
    #[error("{}", lines(.0))]
    Policies(Vec<PolicyFault>),
    /// The process cannot do what it must.
    #[error("{0}")]
    Internal(String),
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// The file.
    pub file: PathBuf,
    /// The line, where it is known; the first is 1.
    pub line: Option<usize>,
    /// What is wrong, and with which policy.
    pub reason: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

fn lines(faults: &[PolicyFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl AccessError {
    pub(crate) fn file(file: &Path, reason: impl fmt::Display) -> Self {
        Self::File { file: file.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn config(file: &Path, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { file: file.to_owned(), field: field.into(), reason: reason.into() }
    }
}
