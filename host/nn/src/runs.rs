//! What a lane's runs took, by their rows.
//!
//! Contract: a run that succeeded is counted once, by all of its rows; one that failed is not. Cost: a lock for each run,
//! which nothing but a reader of the counters contends for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Runs of one number of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTimes {
    /// How many.
    pub count: u64,
    /// Joining the inputs of their calls.
    pub input: Duration,
    /// The backend.
    pub infer: Duration,
    /// Splitting the outputs.
    pub output: Duration,
}

impl RunTimes {
    /// Adds other runs to these.
    pub fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.input = self.input.saturating_add(other.input);
        self.infer = self.infer.saturating_add(other.infer);
        self.output = self.output.saturating_add(other.output);
    }
}

/// Runs of more rows are counted as runs of so many: callers choose the rows of a run that is theirs alone.
const MAX_ROWS: u64 = 1024;

/// The runs of a lane.
#[derive(Default)]
pub(crate) struct Runs(Mutex<BTreeMap<u64, RunTimes>>);

impl Runs {
    /// Counts a run, with the time for joining, running and splitting.
    pub(crate) fn add(&self, rows: u64, [input, infer, output]: [Duration; 3]) {
        let run = RunTimes { count: 1, input, infer, output };
        self.lock().entry(rows.min(MAX_ROWS)).or_default().add(run);
    }

    pub(crate) fn read(&self) -> BTreeMap<u64, RunTimes> {
        self.lock().clone()
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, RunTimes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
