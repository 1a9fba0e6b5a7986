//! A job as a server keeps it and tells of it.
//!
//! The names are those of OpenAI's batch object where it has them (`object`, `status` and its values, `request_counts`, the times in
//! seconds since 1970, `errors`, `metadata`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::now;
use crate::{BatchError, Counts, JobSpec, Report};

/// The name of a job: `batch_` and 24 hexadecimal digits, the first half of them the time in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BatchId(String);

const PREFIX: &str = "batch_";
const DIGITS: usize = 24;

impl BatchId {
    /// A new one, greater than those before it.
    fn new() -> Self {
        let random = fastrand::u64(..) >> 16;
        Self(format!("{PREFIX}{:012x}{random:012x}", now()))
    }

    pub(super) fn file(&self) -> String {
        format!("{self}.json")
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BatchId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix(PREFIX).unwrap_or_default();
        let right =
            digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if right { Ok(Self(text.to_owned())) } else { Err("a job's id is batch_ and 24 digits".to_owned()) }
    }
}

impl TryFrom<String> for BatchId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BatchId> for String {
    fn from(id: BatchId) -> Self {
        id.0
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for those before it.
    Validating,
    /// It runs, or goes on when the server has started.
    InProgress,
    /// All is done.
    Completed,
    /// Something was wrong; the parts that were done are there.
    Failed,
    /// It is about to stop.
    Cancelling,
    /// It was stopped; the parts that were done are there.
    Cancelled,
}

impl Status {
    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// Rows of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// All of them, where that is known before the end; else those that have been answered or have failed.
    pub total: u64,
    /// Answered.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// What a client says of a job beside the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Texts of its own by its own names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The error's code.
    pub code: String,
    /// What was wrong.
    pub message: String,
}

/// A list, as OpenAI writes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    object: String,
    data: Vec<Problem>,
}

/// A job of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// Always `batch`.
    object: String,
    /// Where it is.
    pub status: Status,
    /// When it was taken.
    pub created_at: u64,
    /// When it first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_progress_at: Option<u64>,
    /// When it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<u64>,
    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<u64>,
    /// When it was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<u64>,
    /// Its rows.
    pub request_counts: RequestCounts,
    /// What was wrong with it as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Problems>,
    /// Texts of the client's.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The job.
    pub job: JobSpec,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

impl Batch {
    pub(super) fn new(job: JobSpec, told: Told) -> Self {
        Self {
            id: BatchId::new(),
            object: "batch".to_owned(),
            status: Status::Validating,
            created_at: seconds(),
            in_progress_at: None,
            completed_at: None,
            failed_at: None,
            cancelled_at: None,
            request_counts: RequestCounts::default(),
            errors: None,
            metadata: told.metadata,
            job,
            report: None,
        }
    }

    pub(super) fn with(mut self, counts: &Counts) -> Self {
        self.request_counts = RequestCounts {
            total: counts.rows.unwrap_or(counts.rows_done),
            completed: counts.rows_done.saturating_sub(counts.failed),
            failed: counts.failed,
        };
        self
    }

    pub(super) fn begun(&mut self) {
        // One that is cancelled meanwhile stays so.
        if self.status == Status::Validating {
            self.status = Status::InProgress;
        }
        self.in_progress_at.get_or_insert_with(seconds);
    }

    pub(super) fn completed(&mut self, report: Report) {
        self.status = Status::Completed;
        self.completed_at = Some(seconds());
        let Report { rows, errors, .. } = report;
        self.request_counts =
            RequestCounts { total: rows, completed: rows.saturating_sub(errors), failed: errors };
        self.report = Some(report);
    }

    pub(super) fn failed(&mut self, error: &BatchError) {
        self.status = Status::Failed;
        self.failed_at = Some(seconds());
        let problem = Problem { code: error.code().to_string(), message: error.to_string() };
        self.errors = Some(Problems { object: "list".to_owned(), data: vec![problem] });
    }

    pub(super) fn cancelling(&mut self) {
        if !self.status.has_ended() {
            self.status = Status::Cancelling;
        }
    }

    pub(super) fn cancelled(&mut self) {
        self.status = Status::Cancelled;
        self.cancelled_at = Some(seconds());
    }
}

fn seconds() -> u64 {
    now() / 1000
}
