//! What a version of a model has done, counted since it was loaded.
//!
//! Contract: as the statistics extension of Triton's protocol defines the counters: `queue` is the time in the lanes of the
//! model's graphs and `compute` the time of the backend's runs, summed over the requests, so that a run of eight requests
//! counts its time eight times; `batches` counts each run once, by the request that it began with, if that was answered.
//! Times are nanoseconds. Cost: a few relaxed additions a
//! request, and a short lock for each run of a graph. Left out so far: the time for turning requests into tensors and back,
//! which belongs to `ingress`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vespid_engine::PluginUsage;
use vespid_nn::Run;

/// How often something happened, and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// How often.
    pub count: u64,
    /// How long, in nanoseconds.
    pub ns: u64,
}

impl Span {
    fn add(&mut self, time: Duration) {
        self.count = self.count.saturating_add(1);
        self.ns = self.ns.saturating_add(nanoseconds(time));
    }
}

/// The counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When the last request was answered, in milliseconds since 1970; 0 for never.
    pub last_inference: u64,
    /// Rows of the requests that were answered.
    pub inference_count: u64,
    /// Runs of the model's graphs.
    pub execution_count: u64,
    /// Requests that were answered, from their admission on.
    pub success: Span,
    /// Requests that failed.
    pub fail: Span,
    /// Waiting in the lanes of graphs.
    pub queue: Span,
    /// Runs of graphs.
    pub compute: Span,
    /// Runs by their rows.
    pub batches: BTreeMap<u64, Span>,
    /// What the plugin has used up; none where there is no plugin.
    pub plugin: Option<PluginUsage>,
}

#[derive(Default)]
struct Counter {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Counter {
    fn add(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(nanoseconds(time), Ordering::Relaxed);
    }

    fn read(&self) -> Span {
        Span { count: self.count.load(Ordering::Relaxed), ns: self.ns.load(Ordering::Relaxed) }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs of more rows are counted as runs of so many: callers choose the rows of a run that is theirs alone.
const MAX_BATCH: u64 = 1024;

/// The counters of one version.
#[derive(Default)]
pub(crate) struct Counters {
    last_inference: AtomicU64,
    inference_count: AtomicU64,
    execution_count: AtomicU64,
    success: Counter,
    fail: Counter,
    queue: Counter,
    compute: Counter,
    batches: Mutex<BTreeMap<u64, Span>>,
}

impl Counters {
    /// Counts a request of `rows` that took `time`.
    pub(crate) fn request(&self, rows: u64, time: Duration, answered: bool) {
        if !answered {
            self.fail.add(time);
            return;
        }
        self.success.add(time);
        // Rows of a tensor without elements are whatever the caller says.
        self.inference_count.fetch_add(rows.min(u64::from(u32::MAX)), Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts a request's part in runs of graphs.
    pub(crate) fn runs(&self, runs: &[Run]) {
        for run in runs {
            self.queue.add(run.queued);
            self.compute.add(run.computed);
            if run.leads {
                self.execution_count.fetch_add(1, Ordering::Relaxed);
                let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
                batches.entry(run.rows.min(MAX_BATCH)).or_default().add(run.computed);
            }
        }
    }

    pub(crate) fn read(&self, plugin: Option<PluginUsage>) -> Statistics {
        Statistics {
            last_inference: self.last_inference.load(Ordering::Relaxed),
            inference_count: self.inference_count.load(Ordering::Relaxed),
            execution_count: self.execution_count.load(Ordering::Relaxed),
            success: self.success.read(),
            fail: self.fail.read(),
            queue: self.queue.read(),
            compute: self.compute.read(),
            batches: self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            plugin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_several_requests_is_counted_once_as_a_run() {
        let counters = Counters::default();
        let run = |leads| Run {
            queued: Duration::from_nanos(5),
            computed: Duration::from_nanos(100),
            rows: 2,
            leads,
        };
        for leads in [true, false] {
            counters.runs(&[run(leads)]);
            counters.request(1, Duration::from_nanos(200), true);
        }
        counters.request(1, Duration::from_nanos(7), false);
        let read = counters.read(None);
        assert_eq!((read.inference_count, read.execution_count), (2, 1));
        assert_eq!((read.success, read.fail), (Span { count: 2, ns: 400 }, Span { count: 1, ns: 7 }));
        assert_eq!((read.queue, read.compute), (Span { count: 2, ns: 10 }, Span { count: 2, ns: 200 }));
        assert_eq!(read.batches, BTreeMap::from([(2, Span { count: 1, ns: 100 })]));
        assert!(read.last_inference > 0);
    }
}
