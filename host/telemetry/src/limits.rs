//! What models and tenants have used of their limits.
//!
//! Contract: read when it is asked for, from where the serving core keeps it: of models that there are, and of the tenants of the
//! file, so that nobody makes more of them by asking. Cost: a look at each of them for a reading.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use vespid_serving::{LimitReading, Predictor};

use crate::metrics::{count, family_of, gauge, label};

pub(crate) struct Limits {
    predictor: Predictor,
    descs: Vec<Desc>,
}

const LABELS: [&str; 3] = ["scope", "name", "limit"];
const REFUSED: (&str, &str) = ("vespid_limit_refused", "Calls, loads and uploads that a limit has refused.");
const USED: (&str, &str) = ("vespid_limit_used", "How much of a limit is used, in its own unit.");
const VALUE: (&str, &str) = ("vespid_limit_value", "The limit, in the same unit.");

impl Limits {
    pub(crate) fn new(predictor: Predictor) -> prometheus::Result<Self> {
        let desc = |(name, help): (&str, &str)| {
            let labels = LABELS.map(str::to_owned).to_vec();
            Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())
        };
        let descs = [REFUSED, USED, VALUE].into_iter().map(desc).collect::<prometheus::Result<_>>()?;
        Ok(Self { predictor, descs })
    }
}

fn labels(reading: &LimitReading) -> Vec<LabelPair> {
    let values = [reading.scope.as_str(), &reading.name, reading.limit.as_str()];
    LABELS.iter().zip(values).map(|(name, value)| label(name, value.to_owned())).collect()
}

impl Collector for Limits {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let readings = self.predictor.limits();
        if readings.is_empty() {
            return Vec::new();
        }
        let all = |metric: fn(&LimitReading) -> Metric| readings.iter().map(metric).collect::<Vec<_>>();
        vec![
            family_of(
                REFUSED.0,
                REFUSED.1,
                MetricType::COUNTER,
                all(|one| count(labels(one), one.refused as f64)),
            ),
            family_of(USED.0, USED.1, MetricType::GAUGE, all(|one| gauge(labels(one), one.used))),
            family_of(VALUE.0, VALUE.1, MetricType::GAUGE, all(|one| gauge(labels(one), one.value))),
        ]
    }
}
