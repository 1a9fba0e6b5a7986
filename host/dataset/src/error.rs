//! What goes wrong with files, with the file, the row and the column where it did.

use std::error::Error;
use std::io::{self, ErrorKind};

use vespid_types::ErrorCode;

/// Why files cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The store failed: it is not there, refuses the keys, is full.
    #[error("cannot {doing} {url}: {source}")]
    Object {
        /// What was tried, such as `read`.
        doing: &'static str,
        /// The file, as a URL or path.
        url: String,
        /// What the store says.
        #[source]
        source: object_store::Error,
    },
    /// The file is not what its format asks for.
    #[error("{file}{}: {reason}", at(*row, column.as_deref()))]
    Broken {
        /// The file.
        file: String,
        /// The row, from 1, where it is one.
        row: Option<u64>,
        /// The column, where it is one.
        column: Option<String>,
        /// What is wrong.
        reason: String,
    },
    /// A column that is asked for is not there.
    #[error("{file}: there is no column '{column}'; there are {}", listed(there))]
    NoColumn {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Those that are there.
        there: Vec<String>,
    },
    /// A column of one file has another type than in the first.
    #[error("{file}: column '{column}' is {got}; in the files before it is {expected}")]
    OtherType {
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Its type in the first file.
        expected: String,
        /// Its type here.
        got: String,
    },
    /// A file is no longer what it was when the job was planned.
    #[error(
        "{file} has changed since the job was planned (it was {planned}, and is {found}): put it back, or use another output"
    )]
    Changed {
        /// The file.
        file: String,
        /// Its size and stamp then.
        planned: String,
        /// Its size and stamp now.
        found: String,
    },
    /// Nothing is where files were to be.
    #[error("{pattern}: there are no files")]
    Nothing {
        /// What was looked for.
        pattern: String,
    },
    /// A pattern, format or other setting that cannot be.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

/// Whether the operating system lets nobody in.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::PermissionDenied)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

fn at(row: Option<u64>, column: Option<&str>) -> String {
    let row = row.map(|row| format!(", row {row}")).unwrap_or_default();
    let column = column.map(|column| format!(", column '{column}'")).unwrap_or_default();
    row + &column
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("'{name}'")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") + &more }
}

impl DataError {
    /// A closure that says what was tried, for `map_err`.
    pub fn object(doing: &'static str, url: impl Into<String>) -> impl FnOnce(object_store::Error) -> Self {
        let url = url.into();
        move |source| Self::Object { doing, url, source }
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Object { source, .. } => match source {
                object_store::Error::NotFound { .. } => ErrorCode::NotFound,
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => ErrorCode::PermissionDenied,
                // This machine's disk is full, or lets nobody in: it will not be the better for being asked again.
                object_store::Error::Generic { store: "LocalFileSystem", source } => {
                    if is_denied(source.as_ref()) { ErrorCode::PermissionDenied } else { ErrorCode::Internal }
                }
                _ => ErrorCode::Unavailable,
            },
            Self::Nothing { .. } => ErrorCode::NotFound,
            Self::Broken { .. }
            | Self::NoColumn { .. }
            | Self::OtherType { .. }
            | Self::Changed { .. }
            | Self::Setting { .. } => ErrorCode::InvalidArgument,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_not_asked_again_and_a_bucket_is() {
        let of = |store: &'static str, kind: ErrorKind| {
            let source = object_store::Error::Generic { store, source: Box::new(io::Error::from(kind)) };
            DataError::object("read", "a")(source).code()
        };
        assert_eq!(of("LocalFileSystem", ErrorKind::PermissionDenied), ErrorCode::PermissionDenied);
        assert_eq!(of("LocalFileSystem", ErrorKind::StorageFull), ErrorCode::Internal);
        assert_eq!(of("S3", ErrorKind::ConnectionRefused), ErrorCode::Unavailable);
    }
}
