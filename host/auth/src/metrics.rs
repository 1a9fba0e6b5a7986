//! What came of looking at who asks, in Prometheus's terms.
//!
//! Contract: read from the counters of [`Access`] when it is asked for. Cost: nothing for a request.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

use crate::Access;

/// The counters of [`Access::counts`], under one name, by their outcomes.
pub struct Metrics {
    access: Access,
    desc: Desc,
}

impl Metrics {
    /// Those of `access`, by this name.
    ///
    /// # Errors
    /// Where the name is none of Prometheus's.
    pub fn new(access: Access, name: &str) -> prometheus::Result<Self> {
        let help = "What came of looking at who asks, and whether they may.";
        let labels = vec!["outcome".to_owned()];
        Ok(Self { access, desc: Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())? })
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let metric = |(outcome, count): (&str, u64)| {
            let mut label = LabelPair::default();
            label.set_name("outcome".to_owned());
            label.set_value(outcome.to_owned());
            let mut counter = Counter::default();
            counter.set_value(count as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_counter(counter);
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(self.access.counts().into_iter().map(metric).collect());
        vec![family]
    }
}
