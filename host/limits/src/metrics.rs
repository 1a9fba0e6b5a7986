//! What models and tenants have used of their limits, in Prometheus's terms.
//!
//! Contract: read when it is asked for, from where the limits are counted: of models that there are, and of the tenants of the
//! file, so that nobody makes more of them by asking. Cost: a look at each of them for a reading.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::LimitReading;

/// Says what is used now.
type Read = Box<dyn Fn() -> Vec<LimitReading> + Send + Sync>;

/// Three metrics, whose names have one beginning.
pub struct Metrics {
    read: Read,
    /// What was refused, what is used, and how much there is.
    descs: [Desc; 3],
}

const LABELS: [&str; 3] = ["scope", "name", "limit"];

impl Metrics {
    /// Those of what `read` says, named `PREFIX_refused`, `_used` and `_value`.
    ///
    /// # Errors
    /// Where a name is none of Prometheus's.
    pub fn new(prefix: &str, read: Read) -> prometheus::Result<Self> {
        let desc = |name: &str, help: &str| {
            let labels = LABELS.map(str::to_owned).to_vec();
            Desc::new(format!("{prefix}_{name}"), help.to_owned(), labels, Default::default())
        };
        let refused = desc("refused", "Calls, loads and uploads that a limit has refused.")?;
        let used = desc("used", "How much of a limit is used, in its own unit.")?;
        Ok(Self { read, descs: [refused, used, desc("value", "The limit, in the same unit.")?] })
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let readings = (self.read)();
        if readings.is_empty() {
            return Vec::new();
        }
        let all = |metric: fn(&LimitReading) -> Metric| readings.iter().map(metric).collect::<Vec<_>>();
        let families = [
            (MetricType::COUNTER, all(|one| count(one, one.refused as f64))),
            (MetricType::GAUGE, all(|one| gauge(one, one.used))),
            (MetricType::GAUGE, all(|one| gauge(one, one.value))),
        ];
        let family = |(desc, (kind, metrics)): (&Desc, (MetricType, Vec<Metric>))| {
            let mut family = MetricFamily::default();
            family.set_name(desc.fq_name.clone());
            family.set_help(desc.help.clone());
            family.set_field_type(kind);
            family.set_metric(metrics);
            family
        };
        self.descs.iter().zip(families).map(family).collect()
    }
}

fn labelled(reading: &LimitReading) -> Metric {
    let values = [reading.scope.as_str(), &reading.name, reading.limit.as_str()];
    let label = |(name, value): (&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    Metric::from_label(LABELS.into_iter().zip(values).map(label).collect())
}

fn count(reading: &LimitReading, value: f64) -> Metric {
    let (mut metric, mut counter) = (labelled(reading), Counter::default());
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

fn gauge(reading: &LimitReading, value: f64) -> Metric {
    let (mut metric, mut gauge) = (labelled(reading), Gauge::default());
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}
