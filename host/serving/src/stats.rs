//! What a version of a model has done, counted since it was put into service, also where it was out of memory meanwhile.
//!
//! Contract: each request is counted once, when it ends: answered, or failed for one [`Reason`]; with it the time that it
//! spent at each stage, which all together are never more than its whole time. Runs of graphs are counted by their lanes.
//! `docs/metrics.md` says of each number what it is. Times are nanoseconds. Cost: some ten relaxed additions a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vespid_engine::PluginUsage;
use vespid_nn::{LaneUsage, RunTimes};
use vespid_types::{End, ErrorCode, Spent, Stage};

/// What requests have spent, all together, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// How many requests.
    pub count: u64,
    /// From their beginning to their end.
    pub total: u64,
    /// Waiting, in the lanes of graphs and for an instance.
    pub queue: u64,
    /// Decoding, making an instance, joining batches.
    pub input: u64,
    /// The plugin and the runs of graphs.
    pub infer: u64,
    /// The runs of graphs alone, which are in `infer` too.
    pub graph: u64,
    /// Splitting batches, checking the outputs, encoding.
    pub output: u64,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There was no room for it.
    Rejected,
    /// Its caller left, or its time was up.
    Canceled,
    /// The plugin or a graph failed.
    Backend,
    /// Anything else, such as a request that is wrong.
    Other,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    /// The reason as Triton writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }

    /// The reason that a failure of this kind is counted under.
    #[must_use]
    pub const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::ResourceExhausted | ErrorCode::Unavailable => Self::Rejected,
            ErrorCode::DeadlineExceeded => Self::Canceled,
            ErrorCode::PluginFailed | ErrorCode::Internal => Self::Backend,
            ErrorCode::InvalidArgument
            | ErrorCode::NotFound
            | ErrorCode::AlreadyExists
            | ErrorCode::Unauthenticated
            | ErrorCode::PermissionDenied
            | ErrorCode::TooLarge
            | ErrorCode::Unsupported => Self::Other,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Rejected => 0,
            Self::Canceled => 1,
            Self::Backend => 2,
            Self::Other => 3,
        }
    }
}

/// Upper bounds of what [`Statistics::latencies`] counts.
pub const LATENCY_BOUNDS: [Duration; 16] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// The last is of those that took longer than any bound.
const LATENCIES: usize = LATENCY_BOUNDS.len() + 1;

/// The counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// When the last request was answered, in milliseconds since 1970; 0 for never.
    pub last_inference: u64,
    /// Rows of the requests that were answered.
    pub inference_count: u64,
    /// Runs of the model's graphs that succeeded; of a model without one, the requests that were answered.
    pub execution_count: u64,
    /// Requests that were answered.
    pub success: Times,
    /// Requests that failed.
    pub fail: Times,
    /// The latter by reason.
    pub failures: [(Reason, u64); Reason::ALL.len()],
    /// Requests by their time, those that failed too: how many took no longer than each of [`LATENCY_BOUNDS`], and longer
    /// than the one before; at the end those that took longer than any.
    pub latencies: [u64; LATENCIES],
    /// Runs that succeeded, by their rows.
    pub batches: BTreeMap<u64, RunTimes>,
    /// Calls that wait in the lanes of graphs.
    pub pending: u64,
    /// What the plugin has used up; none where there is no plugin.
    pub plugin: Option<PluginUsage>,
    /// The bytes of memory that the model takes up, with what it shares with others; none where it is not loaded.
    pub memory: Option<u64>,
}

impl Default for Statistics {
    fn default() -> Self {
        Counters::default().read(None, None)
    }
}

/// Sums of [`Times`].
#[derive(Default)]
struct Sums {
    count: AtomicU64,
    total: AtomicU64,
    queue: AtomicU64,
    input: AtomicU64,
    guest: AtomicU64,
    graph: AtomicU64,
    output: AtomicU64,
}

impl Sums {
    fn add(&self, spent: &Spent) {
        let add = |sum: &AtomicU64, time: Duration| {
            // Most requests skip some stage.
            if !time.is_zero() {
                sum.fetch_add(nanoseconds(time), Ordering::Relaxed);
            }
        };
        add(&self.total, spent.total());
        add(&self.queue, spent.at(Stage::Queue));
        add(&self.input, spent.at(Stage::Input));
        add(&self.guest, spent.at(Stage::Guest));
        add(&self.graph, spent.at(Stage::Compute));
        add(&self.output, spent.at(Stage::Output));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Times {
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let graph = read(&self.graph);
        Times {
            count: read(&self.count),
            total: read(&self.total),
            queue: read(&self.queue),
            input: read(&self.input),
            infer: graph.saturating_add(read(&self.guest)),
            graph,
            output: read(&self.output),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The counters of one version.
#[derive(Default)]
pub(crate) struct Counters {
    last_inference: AtomicU64,
    inference_count: AtomicU64,
    success: Sums,
    fail: Sums,
    failures: [AtomicU64; Reason::ALL.len()],
    latencies: [AtomicU64; LATENCIES],
    past: Mutex<Past>,
}

/// What graphs and plugins have done that are not loaded any more.
#[derive(Default)]
struct Past {
    runs: Option<BTreeMap<u64, RunTimes>>,
    plugin: Option<PluginUsage>,
}

impl Past {
    /// The sum of this and what is loaded now.
    fn and(
        &self,
        lanes: Option<LaneUsage>,
        plugin: Option<PluginUsage>,
    ) -> (Option<LaneUsage>, Option<PluginUsage>) {
        let lanes = match (&self.runs, lanes) {
            (None, lanes) => lanes,
            (Some(past), lanes) => {
                let mut lanes = lanes.unwrap_or_default();
                past.iter().for_each(|(rows, times)| lanes.runs.entry(*rows).or_default().add(*times));
                Some(lanes)
            }
        };
        let plugin = match (self.plugin, plugin) {
            (Some(past), Some(plugin)) => Some(past.and(plugin)),
            (past, plugin) => past.or(plugin),
        };
        (lanes, plugin)
    }
}

impl Counters {
    /// Counts a request of `rows` rows that has ended.
    pub(crate) fn request(&self, rows: u64, spent: &Spent, end: &End) {
        let took = spent.total();
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < took);
        if let Some(count) = self.latencies.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let reason = match end {
            End::Answered => {
                self.success.add(spent);
                // Rows of a tensor without elements are whatever the caller says.
                self.inference_count.fetch_add(rows.min(u64::from(u32::MAX)), Ordering::Relaxed);
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
                self.last_inference.store(now, Ordering::Relaxed);
                return;
            }
            End::Failed { code, .. } => Reason::of(*code),
            End::Left => Reason::Canceled,
        };
        self.fail.add(spent);
        if let Some(count) = self.failures.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps what the lanes of a model's graphs have counted, and its plugin, which end now.
    pub(crate) fn keep(&self, lanes: Option<LaneUsage>, plugin: Option<PluginUsage>) {
        let mut past = self.past();
        let (lanes, plugin) = past.and(lanes, plugin);
        *past = Past { runs: lanes.map(|lanes| lanes.runs), plugin };
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters, beside what the lanes of the model's graphs count, where it has any, and its plugin.
    pub(crate) fn read(&self, lanes: Option<LaneUsage>, plugin: Option<PluginUsage>) -> Statistics {
        let (lanes, plugin) = self.past().and(lanes, plugin);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let success = self.success.read();
        let execution_count = match &lanes {
            Some(lanes) => lanes.runs.values().map(|run| run.count).sum(),
            None => success.count,
        };
        let LaneUsage { waiting, runs } = lanes.unwrap_or_default();
        let failures = Reason::ALL.map(|reason| (reason, self.failures.get(reason.index()).map_or(0, read)));
        Statistics {
            last_inference: read(&self.last_inference),
            inference_count: read(&self.inference_count),
            execution_count,
            success,
            fail: self.fail.read(),
            failures,
            latencies: self.latencies.each_ref().map(read),
            batches: runs,
            pending: waiting as u64,
            plugin,
            memory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_nanos(10);

    fn spent(total: u64) -> Spent {
        let stages = [Stage::Queue, Stage::Input, Stage::Guest, Stage::Compute, Stage::Output];
        Spent::of(Duration::from_nanos(total), &stages.map(|stage| (stage, TEN)))
    }

    fn failed(code: ErrorCode) -> End {
        End::Failed { code, message: String::new() }
    }

    #[test]
    fn each_request_is_counted_once_with_its_parts() {
        let counters = Counters::default();
        counters.request(3, &spent(200), &End::Answered);
        counters.request(1, &spent(100), &End::Answered);
        counters.request(1, &spent(70), &failed(ErrorCode::PluginFailed));
        let read = counters.read(None, None);
        assert_eq!((read.inference_count, read.execution_count), (4, 2));
        let times = Times { count: 2, total: 300, queue: 20, input: 20, infer: 40, graph: 20, output: 20 };
        assert_eq!(read.success, times);
        assert_eq!((read.fail.count, read.fail.total, read.fail.queue), (1, 70, 10));
        assert_eq!(read.latencies[0], 3);
        assert!(read.last_inference > 0);
    }

    #[test]
    fn failures_are_told_apart() {
        let counters = Counters::default();
        let ends = [
            failed(ErrorCode::Unavailable),
            failed(ErrorCode::DeadlineExceeded),
            End::Left,
            failed(ErrorCode::Internal),
            failed(ErrorCode::InvalidArgument),
        ];
        ends.iter().for_each(|end| counters.request(1, &spent(60), end));
        let read = counters.read(None, None);
        let expected =
            [(Reason::Rejected, 1), (Reason::Canceled, 2), (Reason::Backend, 1), (Reason::Other, 1)];
        assert_eq!(read.failures, expected);
        assert_eq!((read.fail.count, read.success.count, read.inference_count), (5, 0, 0));
    }

    #[test]
    fn latencies_are_told_by_their_bounds() {
        let counters = Counters::default();
        let micros = |micros| Spent::of(Duration::from_micros(micros), &[]);
        for time in [100, 101, 10_000_000, 10_000_001] {
            counters.request(1, &micros(time), &End::Answered);
        }
        let read = counters.read(None, None).latencies;
        assert_eq!((read[0], read[1], read[15], read[16]), (1, 1, 1, 1));
        assert!(LATENCY_BOUNDS.is_sorted());
    }

    #[test]
    fn runs_are_their_lanes_to_count() {
        let counters = Counters::default();
        counters.request(1, &spent(60), &failed(ErrorCode::PluginFailed));
        let run = RunTimes { count: 2, infer: TEN, ..RunTimes::default() };
        let lanes = LaneUsage { waiting: 3, runs: BTreeMap::from([(8, run)]) };
        let read = counters.read(Some(lanes), None);
        assert_eq!((read.execution_count, read.pending, read.batches[&8].count), (2, 3, 2));
    }
}
