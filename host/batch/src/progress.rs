//! How far a job is: counters that its workers add to and anyone reads.
//!
//! Contract: rows and errors are counted when their part's work comes to them, and taken back where a part is given up; parts
//! that were done before are counted when the run begins.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// How far a job, or this worker's share of it, is.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    parts: AtomicU64,
    parts_done: AtomicU64,
    /// 0 where it is not known.
    rows: AtomicU64,
    rows_before: AtomicU64,
    rows_done: AtomicU64,
    failed: AtomicU64,
    bytes_written: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Default for Progress {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            started: Instant::now(),
            parts: zero(),
            parts_done: zero(),
            rows: zero(),
            rows_before: zero(),
            rows_done: zero(),
            failed: zero(),
            bytes_written: zero(),
            first: Mutex::default(),
        }
    }
}

/// Counters at a point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Parts of the share.
    pub parts: u64,
    /// Those that are done.
    pub parts_done: u64,
    /// Rows of the share; none where the files do not tell, or a filter chooses among them.
    pub rows: Option<u64>,
    /// Rows that have been answered or have failed.
    pub rows_done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Bytes of the parts that are done.
    pub bytes_written: u64,
    /// Rows a second, of this run.
    pub rows_per_second: f64,
    /// Seconds to go, where that can be told.
    pub seconds_left: Option<f64>,
}

impl Progress {
    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let (rows, rows_done) = (read(&self.rows), read(&self.rows_done));
        let rows_per_second = rows_done.saturating_sub(read(&self.rows_before)) as f64 / seconds.max(1e-3);
        let rows = (rows > 0).then_some(rows);
        let left = rows.filter(|_| rows_per_second > 0.0);
        Counts {
            parts: read(&self.parts),
            parts_done: read(&self.parts_done),
            rows,
            rows_done,
            failed: read(&self.failed),
            bytes_written: read(&self.bytes_written),
            rows_per_second,
            seconds_left: left.map(|rows| rows.saturating_sub(rows_done) as f64 / rows_per_second),
        }
    }

    pub(crate) fn begin(&self, parts: u64, rows: Option<u64>, done: impl Iterator<Item = (PartRecord, u64)>) {
        self.parts.store(parts, Ordering::Relaxed);
        self.rows.store(rows.unwrap_or_default(), Ordering::Relaxed);
        for (record, bytes) in done {
            self.rows_before.fetch_add(record.rows, Ordering::Relaxed);
            self.add(record.rows, record.failed);
            self.part_done(bytes);
        }
    }

    pub(crate) fn add(&self, rows: u64, failed: u64) {
        self.rows_done.fetch_add(rows, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    pub(crate) fn take_back(&self, rows: u64, failed: u64) {
        self.rows_done.fetch_sub(rows, Ordering::Relaxed);
        self.failed.fetch_sub(failed, Ordering::Relaxed);
    }

    pub(crate) fn part_done(&self, bytes: u64) {
        self.parts_done.fetch_add(1, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Keeps the first failure, to be told where there are too many.
    pub(crate) fn note(&self, failure: impl FnOnce() -> String) {
        if let Ok(mut first) = self.first.lock() {
            first.get_or_insert_with(failure);
        }
    }

    pub(crate) fn first(&self) -> Option<String> {
        self.first.lock().ok()?.clone()
    }
}

/// What a part counted, as it stands beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartRecord {
    /// Rows that were wanted, failed ones included.
    pub(crate) rows: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    /// The first failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<String>,
}
