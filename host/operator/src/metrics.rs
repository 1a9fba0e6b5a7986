//! What the operator counts.

use std::time::Duration;

use prometheus::{
    Encoder as _, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::OperatorError;

/// How a look at an object ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is as it should be.
    Done,
    /// Somebody else changed something meanwhile: once more.
    Conflict,
    /// It is tried again later.
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// What the operator counts. Clones share everything.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    seconds: HistogramVec,
    queued: GaugeVec,
    retrying: GaugeVec,
    leader: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, OperatorError> {
        let registry = Registry::new();
        let reconciles = IntCounterVec::new(
            Opts::new("vespid_operator_reconciles", "Times that an object was looked at, by how it ended"),
            &["kind", "outcome"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("vespid_operator_reconcile_seconds", "How long looking at an object takes"),
            &["kind"],
        )?;
        let queued = GaugeVec::new(
            Opts::new("vespid_operator_reconciles_running", "Objects that are being looked at"),
            &["kind"],
        )?;
        let retrying = GaugeVec::new(
            Opts::new(
                "vespid_operator_retrying",
                "Objects whose last look failed, and that wait for the next",
            ),
            &["kind"],
        )?;
        let leader =
            IntGauge::new("vespid_operator_leader", "1 where this operator leads, 0 where it stands by")?;
        registry.register(Box::new(reconciles.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(queued.clone()))?;
        registry.register(Box::new(retrying.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        Ok(Self { registry, reconciles, seconds, queued, retrying, leader })
    }

    pub(crate) fn begun(&self, kind: &str) {
        self.queued.with_label_values(&[kind]).inc();
    }

    pub(crate) fn ended(&self, kind: &str, outcome: Outcome, took: Duration) {
        self.queued.with_label_values(&[kind]).dec();
        self.reconciles.with_label_values(&[kind, outcome.name()]).inc();
        self.seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    pub(crate) fn retrying(&self, kind: &str, objects: usize) {
        self.retrying.with_label_values(&[kind]).set(objects as f64);
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All of it, as Prometheus reads it.
    pub(crate) fn text(&self) -> Result<String, OperatorError> {
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
