//! What Prometheus is told.
//!
//! Contract: the counters of models are read when they are asked for, from where the serving core keeps them: nothing is
//! counted twice. The names that begin with `nv_` and what they mean are Triton's, for the dashboards that read them;
//! `docs/metrics.md` lists all, and a test holds the page to this. Counters of a version begin when it is loaded. Cost:
//! nothing for a request, a few microseconds a model for a reading. Left out: `nv_gpu_*`, which takes NVIDIA's library.

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use vespid_limits::Metrics as Limits;
use vespid_serving::{LATENCY_BOUNDS, Predictor, Statistics};

use crate::density::{AllocatorStats, Density};
use crate::machine::Machine;

/// Every metric of this process.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new(predictor: Predictor, allocator: Option<AllocatorStats>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(Models::new(predictor.clone())?))?;
        let limits = {
            let predictor = predictor.clone();
            move || predictor.limits()
        };
        registry.register(Box::new(Limits::new("vespid_limit", Box::new(limits))?))?;
        registry.register(Box::new(Density::new(predictor, allocator)?))?;
        registry.register(Box::new(Machine::new()?))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build = Opts::new("vespid_build_info", "Always 1; the labels say what is running.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(build))?;
        let requests = Opts::new(
            "vespid_requests",
            "Requests of every kind that were answered, by protocol and status code.",
        );
        let requests = IntCounterVec::new(requests, &["protocol", "code"])?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { registry, requests })
    }

    pub(crate) fn register(&self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.registry.register(collector)
    }

    /// Counts a request that was answered.
    pub(crate) fn answered(&self, protocol: &str, code: &str) {
        self.requests.with_label_values(&[protocol, code]).inc();
    }

    /// All of them, in Prometheus's text format.
    pub(crate) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A metric of each version of each model that has one value a label.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// The label besides model and version, and the values.
    label: Option<&'static str>,
    values: fn(&Statistics) -> Vec<(&'static str, f64)>,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    values: fn(&Statistics) -> Vec<(&'static str, f64)>,
) -> Family {
    Family { name, help, kind: MetricType::COUNTER, label: None, values }
}

/// The value of a metric without another label.
fn one(value: u64) -> Vec<(&'static str, f64)> {
    vec![("", value as f64)]
}

fn micros(ns: u64) -> Vec<(&'static str, f64)> {
    one(ns / 1000)
}

const FAMILIES: [Family; 13] = [
    counter("nv_inference_request_success", "Requests that were answered.", |s| one(s.success.count)),
    Family {
        label: Some("reason"),
        ..counter("nv_inference_request_failure", "Requests that failed, by reason.", |s| {
            s.failures.iter().map(|(reason, count)| (reason.as_str(), *count as f64)).collect()
        })
    },
    counter("nv_inference_count", "Rows of the requests that were answered.", |s| one(s.inference_count)),
    counter("nv_inference_exec_count", "Runs of the model's graphs; calls of a plugin that has none.", |s| {
        one(s.execution_count)
    }),
    Family {
        kind: MetricType::GAUGE,
        ..counter(
            "nv_inference_pending_request_count",
            "Calls that wait in the lanes of the model's graphs.",
            |s| one(s.pending),
        )
    },
    counter(
        "nv_inference_request_duration_us",
        "Time of the requests that were answered, in microseconds.",
        |s| micros(s.success.total),
    ),
    counter("nv_inference_queue_duration_us", "Their time in lanes, and waiting for an instance.", |s| {
        micros(s.success.queue)
    }),
    counter(
        "nv_inference_compute_input_duration_us",
        "Their time for decoding, making an instance and joining batches.",
        |s| micros(s.success.input),
    ),
    counter(
        "nv_inference_compute_infer_duration_us",
        "Their time in the plugin and in runs of graphs.",
        |s| micros(s.success.infer),
    ),
    counter(
        "nv_inference_compute_output_duration_us",
        "Their time for splitting batches, checking the outputs and encoding.",
        |s| micros(s.success.output),
    ),
    Family {
        kind: MetricType::GAUGE,
        ..counter(
            "vespid_model_memory_bytes",
            "Memory of a model that is loaded, with what it shares with others.",
            |s| s.memory.iter().map(|bytes| ("", *bytes as f64)).collect(),
        )
    },
    counter("vespid_plugin_cpu_seconds", "Time for which calls of the plugin held a thread.", |s| {
        s.plugin.iter().map(|plugin| ("", plugin.cpu.as_secs_f64())).collect()
    }),
    Family {
        label: Some("kind"),
        ..counter(
            "vespid_plugin_instances",
            "Instances of the plugin: made for a call, used again, ended.",
            |s| {
                let kinds = s.plugin.iter().flat_map(|plugin| {
                    [("fresh", plugin.fresh), ("warm", plugin.warm), ("retired", plugin.retired)]
                });
                kinds.map(|(kind, count)| (kind, count as f64)).collect()
            },
        )
    },
];

const LATENCY: (&str, &str) = (
    "vespid_request_duration_seconds",
    "Time of requests, of those that failed too, from decoding to encoding.",
);

/// Reads the counters of models.
struct Models {
    predictor: Predictor,
    descs: Vec<Desc>,
}

impl Models {
    fn new(predictor: Predictor) -> prometheus::Result<Self> {
        let families = FAMILIES.iter().map(|family| (family.name, family.help, family.label));
        let descs = families
            .chain([(LATENCY.0, LATENCY.1, None)])
            .map(|(name, help, label)| {
                let labels = ["model", "version"].into_iter().chain(label).map(str::to_owned).collect();
                Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
            })
            .collect::<prometheus::Result<_>>()?;
        Ok(Self { predictor, descs })
    }
}

impl Collector for Models {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let models: Vec<(Vec<LabelPair>, Statistics)> = self
            .predictor
            .statistics()
            .into_iter()
            .map(|(name, version, counted)| {
                (vec![label("model", name.to_string()), label("version", version.to_string())], counted)
            })
            .collect();
        let latency =
            models.iter().map(|(labels, statistics)| histogram(labels.clone(), statistics)).collect();
        let families = FAMILIES.iter().map(|family| {
            let metrics = models.iter().flat_map(|(labels, statistics)| {
                let values = (family.values)(statistics).into_iter();
                values.map(|(value, number)| family.metric(labels.clone(), value, number))
            });
            family_of(family.name, family.help, family.kind, metrics.collect())
        });
        families.chain([family_of(LATENCY.0, LATENCY.1, MetricType::HISTOGRAM, latency)]).collect()
    }
}

impl Family {
    fn metric(&self, mut labels: Vec<LabelPair>, value: &str, number: f64) -> Metric {
        if let Some(name) = self.label {
            labels.push(label(name, value.to_owned()));
        }
        if self.kind == MetricType::GAUGE { gauge(labels, number) } else { count(labels, number) }
    }
}

fn histogram(labels: Vec<LabelPair>, statistics: &Statistics) -> Metric {
    let mut seen = 0;
    let buckets = LATENCY_BOUNDS.iter().zip(&statistics.latencies).map(|(bound, count)| {
        seen += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(seen);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(statistics.latencies.iter().sum());
    histogram.set_sample_sum((statistics.success.total + statistics.fail.total) as f64 / 1e9);
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

pub(crate) fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

pub(crate) fn count(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

pub(crate) fn label(name: &str, value: String) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value);
    label
}

pub(crate) fn family_of(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}
