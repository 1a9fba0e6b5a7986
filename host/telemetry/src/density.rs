//! The models that there are, what they take up together, and how shadow versions compare.
//!
//! Contract: read when it is asked for, from where the serving core keeps it. What the allocator says is the binary's to
//! tell, which chose it. Cost: a look at each model for a reading.

use std::collections::BTreeMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use vespid_serving::{Predictor, State};

use crate::metrics::{family_of, label};

/// What an allocator says: kinds of bytes, and how many.
pub type AllocatorStats = fn() -> Vec<(&'static str, u64)>;

pub(crate) struct Density {
    predictor: Predictor,
    allocator: Option<AllocatorStats>,
    descs: Vec<Desc>,
}

type Described = (&'static str, &'static str, &'static [&'static str]);

const MODELS: Described = ("vespid_models", "Versions of models, by their state.", &["state"]);
const USED: Described = ("vespid_models_memory_bytes", "Memory that loaded models take up together.", &[]);
const BUDGET: Described =
    ("vespid_models_memory_budget_bytes", "How much they may; absent where nothing is said.", &[]);
const SHADOW: Described = (
    "vespid_shadow_requests",
    "Copies of requests to a version that is tried, by what came of them.",
    &["model", "version", "result"],
);
const ALLOCATOR: Described =
    ("vespid_allocator_bytes", "What the allocator has handed out, holds, and has given back.", &["kind"]);

impl Density {
    pub(crate) fn new(predictor: Predictor, allocator: Option<AllocatorStats>) -> prometheus::Result<Self> {
        let desc = |(name, help, labels): Described| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let descs = [MODELS, USED, BUDGET, SHADOW, ALLOCATOR].into_iter().map(desc);
        Ok(Self { predictor, allocator, descs: descs.collect::<prometheus::Result<_>>()? })
    }

    fn models(&self) -> Vec<Metric> {
        let mut states: BTreeMap<&'static str, u64> =
            ["idle", "loading", "ready", "unavailable", "unloading"].map(|state| (state, 0)).into();
        for entry in self.predictor.index() {
            *states.entry(name(entry.state)).or_default() += 1;
        }
        states
            .into_iter()
            .map(|(state, count)| gauge(vec![label("state", state.to_owned())], count))
            .collect()
    }

    fn shadows(&self) -> Vec<Metric> {
        let of = |shadow: vespid_serving::ShadowCounts| {
            shadow.counts.map(|(outcome, count)| {
                let mut metric = Metric::from_label(vec![
                    label("model", shadow.name.to_string()),
                    label("version", shadow.version.to_string()),
                    label("result", outcome.as_str().to_owned()),
                ]);
                let mut counter = Counter::default();
                counter.set_value(count as f64);
                metric.set_counter(counter);
                metric
            })
        };
        self.predictor.shadows().into_iter().flat_map(of).collect()
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Loading => "loading",
        State::Ready => "ready",
        State::Unavailable => "unavailable",
        State::Unloading => "unloading",
    }
}

fn gauge(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    metric.set_gauge(gauge);
    metric
}

impl Collector for Density {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let memory = self.predictor.memory();
        let allocator = self.allocator.map(|allocator| allocator()).unwrap_or_default();
        let allocator =
            allocator.into_iter().map(|(kind, bytes)| gauge(vec![label("kind", kind.to_owned())], bytes));
        let gauges = [
            (MODELS, self.models()),
            (USED, vec![gauge(Vec::new(), memory.used)]),
            (BUDGET, memory.budget.map(|budget| gauge(Vec::new(), budget)).into_iter().collect()),
            (ALLOCATOR, allocator.collect()),
        ];
        let gauges = gauges.map(|((name, help, _), metrics)| (name, help, MetricType::GAUGE, metrics));
        let shadow = (SHADOW.0, SHADOW.1, MetricType::COUNTER, self.shadows());
        gauges
            .into_iter()
            .chain([shadow])
            .filter(|(_, _, _, metrics)| !metrics.is_empty())
            .map(|(name, help, kind, metrics)| family_of(name, help, kind, metrics))
            .collect()
    }
}
