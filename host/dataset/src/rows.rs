//! Rows as they are read, with where each came from.

use std::sync::Arc;

use arrow::array::RecordBatch;

/// Some rows of one part, in the order of the file.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns that were wanted, in the order wanted.
    pub batch: RecordBatch,
    /// Where each row of `batch` came from.
    pub origin: Origin,
    /// Rows between these that could not be read.
    pub refused: Vec<Refused>,
}

/// Where rows came from. Row numbers count from 1, and a CSV's header is no row.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Rows of one file, and the number of each.
    File {
        /// The file, as a URL or path.
        file: Arc<str>,
        /// A number a row.
        rows: Vec<u64>,
    },
    /// A file each.
    Files(Vec<Arc<str>>),
}

impl Origin {
    /// The file and row number of the row at `index`.
    #[must_use]
    pub fn at(&self, index: usize) -> (Arc<str>, u64) {
        match self {
            Self::File { file, rows } => (Arc::clone(file), rows.get(index).copied().unwrap_or_default()),
            Self::Files(files) => (files.get(index).cloned().unwrap_or_default(), 1),
        }
    }
}

/// A row that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub file: Arc<str>,
    /// The row's number, from 1.
    pub row: u64,
    /// The column, where it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub message: String,
}
