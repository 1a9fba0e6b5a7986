//! The formats of files.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// What a file's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values (RFC 4180), the first line naming the columns.
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// Apache Arrow's IPC file format (Feather version 2).
    Arrow,
    /// Any file: a row each, with the columns `path`, `size`, `modified` and `content`.
    Files,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Parquet, Self::Csv, Self::Jsonl, Self::Arrow, Self::Files];

    /// Its name in a job.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Arrow => "arrow",
            Self::Files => "files",
        }
    }

    /// What a file's name says, compressed ones included; none where it says nothing.
    #[must_use]
    pub fn of_name(name: &str) -> Option<(Self, Compression)> {
        let lower = name.to_ascii_lowercase();
        let (stem, compression) = match lower.rsplit_once('.') {
            Some((stem, "gz")) => (stem, Compression::Gzip),
            Some((stem, "zst")) => (stem, Compression::Zstd),
            _ => (lower.as_str(), Compression::None),
        };
        let format = match stem.rsplit_once('.')?.1 {
            "parquet" | "pq" => Self::Parquet,
            "csv" => Self::Csv,
            "jsonl" | "ndjson" => Self::Jsonl,
            "arrow" | "feather" | "ipc" => Self::Arrow,
            _ => return None,
        };
        Some((format, compression))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| DataError::Setting {
            field: "format",
            reason: format!("'{text}' is no format: use parquet, csv, jsonl, arrow or files"),
        })
    }
}

/// How a text file as a whole is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// It is not.
    #[default]
    None,
    /// gzip, `.gz`.
    Gzip,
    /// Zstandard, `.zst`.
    Zstd,
}
