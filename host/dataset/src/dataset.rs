//! The files of a dataset, and the parts that they are divided into.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{Compression, DataError, Filter, Format, Pattern, RowStream, Wanted};

/// A file, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The position of the pattern that found it.
    pub input: usize,
    /// Its path in the store.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Its entity tag, or else the time that it was modified.
    pub stamp: String,
    /// Text files alone.
    #[serde(default)]
    pub compression: Compression,
    /// The values that its folders are named by (`year=2026/month=11/`), in the order of [`Dataset::partitions`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
}

/// What is read as a whole, and makes one file of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The position of the file in the dataset; of the first one for [`Slice::Files`].
    pub file: usize,
    /// Which of it.
    pub slice: Slice,
    /// Rows before any filter, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes of the file, about.
    pub bytes: u64,
}

/// What a part is of its file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slice {
    /// All of it.
    Whole,
    /// A row group of Parquet.
    RowGroup {
        /// Its position.
        index: usize,
        /// The number of its first row, from 1.
        first_row: u64,
    },
    /// Record batches of an Arrow file.
    Batches {
        /// The position of the first.
        start: usize,
        /// The position behind the last.
        end: usize,
        /// The number of the first row, from 1.
        first_row: u64,
    },
    /// Whole lines of a text file.
    Bytes {
        /// The first byte.
        start: u64,
        /// The byte behind the last.
        end: u64,
        /// The number of the first row, from 1.
        first_row: u64,
    },
    /// This file and those that follow it, a row each.
    Files {
        /// How many.
        count: usize,
    },
}

/// What is said of files beside where they are.
#[derive(Clone, Debug, Default)]
pub struct DatasetOptions {
    /// Their format; what their names say where it is none.
    pub format: Option<Format>,
    /// Types of columns of text formats, in the place of what is found.
    pub types: BTreeMap<String, DataType>,
}

/// Files of one format.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) files: Vec<File>,
    pub(crate) format: Format,
    /// The columns of the first file, and behind them those of the folders' names (as text).
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: Vec<String>,
}

impl Dataset {
    /// Looks for files, and reads the columns of the first one.
    ///
    /// # Errors
    /// [`DataError::Nothing`] where a pattern finds none, [`DataError::Setting`] where their formats differ or are not known.
    pub async fn open(patterns: Vec<Pattern>, options: &DatasetOptions) -> Result<Self, DataError> {
        let _ = (patterns, options);
        todo!()
    }

    /// The same dataset again, of files found before: for a job that goes on.
    #[must_use]
    pub fn of_files(
        patterns: Vec<Pattern>,
        files: Vec<File>,
        format: Format,
        schema: SchemaRef,
        partitions: Vec<String>,
    ) -> Self {
        Self { patterns, files, format, schema, partitions }
    }

    /// The files, in the order of their patterns and paths.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// A file as a URL or path.
    #[must_use]
    pub fn shown(&self, file: &File) -> String {
        let _ = file;
        todo!()
    }

    /// The format of all of them.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The columns of the first file, then those that its folders' names give.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns that folders' names give.
    #[must_use]
    pub fn partitions(&self) -> &[String] {
        &self.partitions
    }

    /// Divides the files into parts: a row group of Parquet each, record batches of Arrow and lines of text of about
    /// `part_bytes`, so many small files together where each file is a row. Files of which a filter's partitions or statistics show
    /// that no row is wanted have no part.
    ///
    /// # Errors
    /// What is wrong with a file, among it a column of another type than in the first.
    pub async fn parts(&self, filter: Option<&Filter>, part_bytes: u64) -> Result<Vec<Part>, DataError> {
        let _ = (filter, part_bytes);
        todo!()
    }

    /// Reads a part. Within a tokio runtime; reading goes no further than one batch ahead of who takes them.
    #[must_use]
    pub fn read(&self, part: &Part, wanted: Wanted) -> RowStream {
        let _ = (part, wanted);
        todo!()
    }
}
