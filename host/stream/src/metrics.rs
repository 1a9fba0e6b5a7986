//! Streams in Prometheus's terms.
//!
//! Contract: counted as it happens, told when it is asked for; lag and positions are read from the streams that run. Cost: an atomic addition
//! for a message or a batch.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Result,
    exponential_buckets,
};

use crate::failure::Class;
use crate::status::{State, Told};

/// The metrics of all streams of a process.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    read: IntCounterVec,
    answered: IntCounterVec,
    committed: IntCounterVec,
    dead_letters: IntCounterVec,
    skipped: IntCounterVec,
    retries: IntCounterVec,
    rebalances: IntCounterVec,
    restarts: IntCounterVec,
    sessions_reset: IntCounterVec,
    rows: HistogramVec,
    latency: HistogramVec,
    lag: IntGaugeVec,
    state: IntGaugeVec,
    sessions: IntGaugeVec,
    streams: Mutex<Vec<Arc<Told>>>,
}

/// What one stream counts.
pub(crate) struct Counters {
    stream: String,
    pub(crate) read: IntCounter,
    pub(crate) answered: IntCounter,
    pub(crate) committed: IntCounter,
    pub(crate) retries: IntCounter,
    pub(crate) rebalances: IntCounter,
    pub(crate) restarts: IntCounter,
    pub(crate) sessions_reset: IntCounter,
    pub(crate) rows: Histogram,
    pub(crate) latency: Histogram,
    families: Metrics,
}

impl Metrics {
    /// No streams.
    ///
    /// # Errors
    /// None that is known: the names are right.
    pub fn new() -> Result<Self> {
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauge = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let rows = HistogramOpts::new("vespid_stream_batch_rows", "Messages that were predicted together.")
            .buckets(exponential_buckets(1.0, 2.0, 13)?);
        let latency = HistogramOpts::new(
            "vespid_stream_latency_seconds",
            "From the timestamp that the broker has of a message until all before and with it was committed.",
        )
        .buckets(exponential_buckets(0.005, 2.0, 16)?);
        Ok(Self(Arc::new(Families {
            read: counter("vespid_stream_read", "Messages that were read.", &["stream"])?,
            answered: counter("vespid_stream_answered", "Messages that were answered.", &["stream"])?,
            committed: counter(
                "vespid_stream_committed",
                "Messages that are done with: their offsets are committed.",
                &["stream"],
            )?,
            dead_letters: counter(
                "vespid_stream_dead_letters",
                "Messages that failed and went where failed messages go.",
                &["stream", "class"],
            )?,
            skipped: counter(
                "vespid_stream_skipped",
                "Messages that failed and were skipped.",
                &["stream", "class"],
            )?,
            retries: counter(
                "vespid_stream_retries",
                "Calls that were made again because the model was away.",
                &["stream"],
            )?,
            rebalances: counter(
                "vespid_stream_rebalances",
                "Times that partitions were brought or taken.",
                &["stream"],
            )?,
            restarts: counter(
                "vespid_stream_restarts",
                "Times that the stream was begun anew after a failure.",
                &["stream"],
            )?,
            sessions_reset: counter(
                "vespid_stream_sessions_reset",
                "Keys that went on without the state that they had.",
                &["stream"],
            )?,
            rows: HistogramVec::new(rows, &["stream"])?,
            latency: HistogramVec::new(latency, &["stream"])?,
            lag: gauge(
                "vespid_stream_lag",
                "Messages of a partition that are there and not committed.",
                &["stream", "topic", "partition"],
            )?,
            state: gauge(
                "vespid_stream_state",
                "1 for the state that the stream is in.",
                &["stream", "state"],
            )?,
            sessions: gauge("vespid_stream_sessions", "Keys that have an instance.", &["stream"])?,
            streams: Mutex::default(),
        })))
    }

    /// What a stream counts, which is told of from now on.
    pub(crate) fn of(&self, told: &Arc<Told>) -> Arc<Counters> {
        let stream = told.name.clone();
        let families = &self.0;
        families.streams.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(told));
        let of = |counter: &IntCounterVec| counter.with_label_values(&[&stream]);
        for class in Class::ALL {
            // They are there before something fails.
            drop(families.dead_letters.with_label_values(&[&stream, class.as_str()]));
            drop(families.skipped.with_label_values(&[&stream, class.as_str()]));
        }
        Arc::new(Counters {
            read: of(&families.read),
            answered: of(&families.answered),
            committed: of(&families.committed),
            retries: of(&families.retries),
            rebalances: of(&families.rebalances),
            restarts: of(&families.restarts),
            sessions_reset: of(&families.sessions_reset),
            rows: families.rows.with_label_values(&[&stream]),
            latency: families.latency.with_label_values(&[&stream]),
            families: self.clone(),
            stream,
        })
    }

    fn families(&self) -> [&dyn Collector; 14] {
        let all = &*self.0;
        [
            &all.read,
            &all.answered,
            &all.committed,
            &all.dead_letters,
            &all.skipped,
            &all.retries,
            &all.rebalances,
            &all.restarts,
            &all.sessions_reset,
            &all.rows,
            &all.latency,
            &all.lag,
            &all.state,
            &all.sessions,
        ]
    }
}

impl Counters {
    pub(crate) fn dead_letter(&self, class: Class) {
        self.families.0.dead_letters.with_label_values(&[&self.stream, class.as_str()]).inc();
    }

    pub(crate) fn skipped(&self, class: Class) {
        self.families.0.skipped.with_label_values(&[&self.stream, class.as_str()]).inc();
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.families().into_iter().flat_map(|family| family.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = &*self.0;
        // Partitions come and go.
        all.lag.reset();
        for told in all.streams.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let told = told.status();
            for partition in &told.partitions {
                let labels = [&told.name, &partition.topic, &partition.partition.to_string()];
                let lag = partition.lag.and_then(|lag| i64::try_from(lag).ok());
                if let Some(lag) = lag {
                    all.lag.with_label_values(&labels).set(lag);
                }
            }
            for state in State::ALL {
                let now = i64::from(state == told.state);
                all.state.with_label_values(&[&told.name, state.as_str()]).set(now);
            }
            let sessions = i64::try_from(told.sessions).unwrap_or(i64::MAX);
            all.sessions.with_label_values(&[&told.name]).set(sessions);
        }
        self.families().into_iter().flat_map(Collector::collect).collect()
    }
}
