//! A job as it is written: in `job.yaml`, in the body of a request, or put together from a command line.
//!
//! Contract: every key is one of these, and what can be checked without the model and the files is checked when it is read.
//! The defaults are the fields' own. Left out on purpose: where the model comes from, and who works at the job.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vespid_dataset::Format;
use vespid_types::{Datatype, Version};

use crate::BatchError;

/// A job over files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The model's name; on a command line also a package.
    pub model: String,
    /// Its version; the one that requests without a version are led to when the job is planned, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What is read.
    pub input: InputSpec,
    /// The columns that make each input of the model; the column of the input's name where it is not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, OneOrMore>,
    /// The outputs of the model that are written, and the column of each; all of them by their own names where it is empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Outputs of datatype BYTES that are written as bytes; the others as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binary: Vec<String>,
    /// The columns that are written beside the outputs; all of them where it is not said, but for the `content` of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// What is written.
    pub output: OutputSpec,
    /// How many rows may fail.
    #[serde(default, skip_serializing_if = "MaxErrors::is_none")]
    pub max_errors: MaxErrors,
    /// Rows of one call of the model, at most.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub rows_per_call: Option<u32>,
    /// Whether the first dimension of the model's tensors is one of rows; what the signature suggests where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batched: Option<bool>,
}

/// JSON's `8.0` is a whole number.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let whole = vespid_types::whole(number);
    whole
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("{number} is not a whole number, 0 or more")))
}

/// The files that a job reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Files, folders, or globs: paths, `file://`, `s3://`, `gs://` or `az://`.
    pub url: OneOrMore,
    /// Their format; what their names say where it is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The rows that are wanted: a condition as after WHERE in SQL.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Types of columns of CSV and JSON Lines, in the place of text and of what is found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, Datatype>,
}

/// The files that a job writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// A folder, as a path, `file://`, `s3://`, `gs://` or `az://`.
    pub url: String,
    /// Their format; that of the input where it is not here, and Parquet for a folder of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// A text or a list of some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum OneOrMore {
    /// One alone.
    One(String),
    /// A list.
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

/// The columns of the input that are written beside the outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected all, none, or a list of columns")]
pub enum Keep {
    /// All or none of them.
    Word(KeepWord),
    /// These.
    Columns(Vec<String>),
}

/// `all` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepWord {
    /// Every column.
    All,
    /// No column.
    None,
}

/// How many rows may fail before the job does: a number, or a part of the rows such as `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum MaxErrors {
    /// So many.
    Rows(u64),
    /// Of a hundred.
    Percent(f64),
}

impl Default for MaxErrors {
    fn default() -> Self {
        Self::Rows(0)
    }
}

impl MaxErrors {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether so many of so many rows are too many.
    pub(crate) fn exceeded(self, failed: u64, rows: u64) -> bool {
        match self {
            Self::Rows(allowed) => failed > allowed,
            Self::Percent(percent) => failed as f64 * 100.0 > percent * rows as f64,
        }
    }
}

impl fmt::Display for MaxErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => rows.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for MaxErrors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("'{text}' is neither a number of rows nor a percentage such as 0.5%");
        match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().map_err(|_| expected())?;
                if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(expected()) }
            }
            None => text.trim().parse().map(Self::Rows).map_err(|_| expected()),
        }
    }
}

/// As it stands in a job.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of rows, or a percentage such as \"0.5%\"")]
enum Written {
    Number(u64),
    Real(f64),
    Text(String),
}

impl TryFrom<Written> for MaxErrors {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(rows) => Ok(Self::Rows(rows)),
            Written::Real(rows) => {
                let whole = vespid_types::whole(rows);
                whole
                    .map(|rows| Self::Rows(rows.into()))
                    .ok_or_else(|| format!("{rows} is not a whole number of rows"))
            }
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<MaxErrors> for Written {
    fn from(max: MaxErrors) -> Self {
        match max {
            MaxErrors::Rows(rows) => Self::Number(rows),
            MaxErrors::Percent(_) => Self::Text(max.to_string()),
        }
    }
}

impl JobSpec {
    /// Reads a job from YAML.
    ///
    /// # Errors
    /// [`BatchError::File`] with the place in the file; as [`JobSpec::check`].
    pub fn from_yaml(file: &str, text: &str) -> Result<Self, BatchError> {
        let wrong = |error: serde_saphyr::Error| BatchError::File {
            file: file.to_owned(),
            reason: error.to_string(),
        };
        let spec: Self = serde_saphyr::from_str(text).map_err(wrong)?;
        spec.check()?;
        Ok(spec)
    }

    /// Reads a job from JSON.
    ///
    /// # Errors
    /// [`BatchError::Job`] with the field; as [`JobSpec::check`].
    pub fn from_json(text: &[u8]) -> Result<Self, BatchError> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let spec: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| BatchError::job(error.path().to_string(), error.inner().to_string()))?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks what can be without the model and the files.
    ///
    /// # Errors
    /// [`BatchError::Job`] with the field.
    pub fn check(&self) -> Result<(), BatchError> {
        if self.input.url.as_slice().is_empty() {
            return Err(BatchError::job("input.url", "it is empty: name files, folders or globs"));
        }
        if self.rows_per_call == Some(0) {
            return Err(BatchError::job("rows_per_call", "use 1 or more"));
        }
        if self.output.format == Some(Format::Files) {
            return Err(BatchError::job("output.format", "use parquet, csv, jsonl or arrow"));
        }
        for (input, columns) in &self.inputs {
            if columns.as_slice().is_empty() {
                return Err(BatchError::job(
                    format!("inputs.{input}"),
                    "it is empty: name a column, or several",
                ));
            }
        }
        Ok(())
    }
}
