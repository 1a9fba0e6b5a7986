//! What the gateway counts, in Prometheus's format.
//!
//! Labels are pools, pods and codes, of which there are few; a model's name is none of them, for there may be thousands, and the
//! pods count by model. Only limits are told by model and tenant, where there are some.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use vespid_auth::{Access, Metrics as AccessMetrics};
use vespid_limits::{Limits, Metrics as LimitMetrics};

use crate::pods::Protocol;
use crate::table::{Routes, Table};

/// From a millisecond to a minute: what the gateway adds, and what models take.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The metrics. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    pub(crate) in_flight: IntGauge,
    calls: IntCounterVec,
    retries: IntCounterVec,
    refused_retries: IntCounterVec,
    ejections: IntCounterVec,
    pub(crate) held: IntGaugeVec,
    holds: IntCounterVec,
    wakes: IntCounterVec,
    pod_in_flight: IntGaugeVec,
    pods: IntGaugeVec,
    models: IntGauge,
}

impl Metrics {
    /// # Errors
    /// Where two metrics have one name, which a test rules out.
    pub(crate) fn new(
        access: Option<&Access>,
        (limits, routes): (&Limits, &Arc<Routes>),
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        if let Some(access) = access {
            registry.register(Box::new(AccessMetrics::new(access.clone(), "vespid_gateway_access")?))?;
        }
        let (limits, routes) = (limits.clone(), Arc::clone(routes));
        let limits =
            move || limits.read(routes.load().routes.values().filter_map(|route| route.limited.clone()));
        registry.register(Box::new(LimitMetrics::new("vespid_gateway_limit", Box::new(limits))?))?;
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let durations = HistogramOpts::new(
            "vespid_gateway_request_duration_seconds",
            "Seconds from the head of a request to the end of its answer.",
        );
        let durations = HistogramVec::new(durations.buckets(BUCKETS.to_vec()), &["protocol", "pool"])?;
        registry.register(Box::new(durations.clone()))?;
        Ok(Self {
            durations,
            requests: counter(
                "vespid_gateway_requests",
                "Requests that have ended, by the status that was answered (gRPC's over gRPC; 499 where the client left).",
                &["protocol", "pool", "code"],
            )?,
            in_flight: gauge("vespid_gateway_in_flight", "Requests that have not ended.")?,
            calls: counter(
                "vespid_gateway_calls",
                "Calls that went to pods, by whether the pod had the version in memory.",
                &["pool", "pod_is"],
            )?,
            retries: counter(
                "vespid_gateway_retries",
                "Calls that were sent to another pod, by what came of the first.",
                &["pool", "after"],
            )?,
            refused_retries: counter(
                "vespid_gateway_retries_refused",
                "Calls that were not sent again for the budget was spent.",
                &["pool"],
            )?,
            ejections: counter("vespid_gateway_ejections", "Times that a pod was ejected.", &["pool"])?,
            held: gauges("vespid_gateway_held", "Calls that wait for a pod.", &["pool"])?,
            holds: counter(
                "vespid_gateway_holds",
                "Calls that have waited for a pod, by what came of it.",
                &["pool", "outcome"],
            )?,
            wakes: counter("vespid_gateway_wakes", "Times that a pool without pods was woken.", &["pool"])?,
            pod_in_flight: gauges(
                "vespid_gateway_pod_in_flight",
                "Calls of this gateway that a pod is answering.",
                &["pool", "pod"],
            )?,
            pods: gauges("vespid_gateway_pods", "Pods, by whether they get calls.", &["pool", "state"])?,
            models: gauge("vespid_gateway_models", "Models in the routing table.")?,
            registry,
        })
    }

    pub(crate) fn ended(&self, protocol: Protocol, pool: &str, code: &str, took: Duration) {
        self.requests.with_label_values(&[protocol.as_str(), pool, code]).inc();
        self.durations.with_label_values(&[protocol.as_str(), pool]).observe(took.as_secs_f64());
    }

    pub(crate) fn called(&self, pool: &str, is_warm: bool) {
        self.calls.with_label_values(&[pool, if is_warm { "warm" } else { "cold" }]).inc();
    }

    pub(crate) fn retried(&self, pool: &str, after: &str) {
        self.retries.with_label_values(&[pool, after]).inc();
    }

    pub(crate) fn refused_retry(&self, pool: &str) {
        self.refused_retries.with_label_values(&[pool]).inc();
    }

    pub(crate) fn ejected(&self, pool: &str) {
        self.ejections.with_label_values(&[pool]).inc();
    }

    pub(crate) fn hold_ended(&self, pool: &str, outcome: &str) {
        self.holds.with_label_values(&[pool, outcome]).inc();
    }

    pub(crate) fn woken(&self, pool: &str) {
        self.wakes.with_label_values(&[pool]).inc();
    }

    /// Everything, in Prometheus's text format.
    pub(crate) fn render(&self, table: &Arc<Table>, now: u64) -> Result<Vec<u8>, prometheus::Error> {
        self.models.set(i64::try_from(table.routes.len()).unwrap_or(i64::MAX));
        // Pods that are gone are told of no more.
        self.pod_in_flight.reset();
        self.pods.reset();
        for pool in table.pools.values() {
            for member in &pool.members {
                let (pod, labels) = (&member.pod, [pool.name.as_str(), member.pod.name.as_str()]);
                self.pod_in_flight
                    .with_label_values(&labels)
                    .set(i64::try_from(pod.in_flight()).unwrap_or(i64::MAX));
                let state = match () {
                    () if member.terminating => "terminating",
                    () if !member.ready => "not_ready",
                    () if pod.health.is_ejected(now) => "ejected",
                    () => "ready",
                };
                self.pods.with_label_values(&[pool.name.as_str(), state]).inc();
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_names_of_their_own() {
        let metrics =
            Metrics::new(None, (&Limits::default(), &Arc::new(Routes::new(Limits::default())))).unwrap();
        metrics.ended(Protocol::Http, "gpu", "200", Duration::from_millis(3));
        metrics.called("gpu", true);
        let text = metrics.render(&Arc::default(), 1).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.contains(r#"vespid_gateway_requests{code="200",pool="gpu",protocol="http"} 1"#),
            "{text}"
        );
        assert!(text.contains(r#"vespid_gateway_calls{pod_is="warm",pool="gpu"} 1"#), "{text}");
    }
}
