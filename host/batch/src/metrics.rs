//! Jobs in Prometheus's terms.
//!
//! Contract: read from the counters of the jobs that run when it is asked for. Gauges all of them: a part that is given up is
//! taken back. Cost: nothing for a row.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::Counts;

/// The jobs that run, by their names.
pub type Running = Box<dyn Fn() -> Vec<(String, Counts)> + Send + Sync>;

/// The metrics of jobs.
pub struct Metrics {
    running: Running,
    families: Vec<(Desc, Value)>,
}

type Value = fn(&Counts) -> f64;

type Family = (&'static str, &'static str, Value);

const FAMILIES: [Family; 5] = [
    ("vespid_batch_parts", "Parts of the job, or of this worker's share of it.", |counts| {
        counts.parts as f64
    }),
    ("vespid_batch_parts_done", "Parts that are done.", |counts| counts.parts_done as f64),
    ("vespid_batch_rows_done", "Rows that were answered or have failed.", |counts| counts.rows_done as f64),
    ("vespid_batch_rows_failed", "Rows that have failed.", |counts| counts.failed as f64),
    ("vespid_batch_written_bytes", "Bytes of the parts that are done.", |counts| counts.bytes_written as f64),
];

impl Metrics {
    /// The metrics of what `running` tells of.
    ///
    /// # Errors
    /// None that is known: the names are right.
    pub fn new(running: Running) -> prometheus::Result<Self> {
        let family = |(name, help, value): Family| {
            let desc =
                Desc::new(name.to_owned(), help.to_owned(), vec!["job".to_owned()], Default::default())?;
            Ok((desc, value))
        };
        Ok(Self { running, families: FAMILIES.into_iter().map(family).collect::<prometheus::Result<_>>()? })
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().map(|(desc, _)| desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let running = (self.running)();
        let family = |(desc, value): &(Desc, Value)| {
            let metric = |(job, counts): &(String, Counts)| {
                let mut label = LabelPair::default();
                label.set_name("job".to_owned());
                label.set_value(job.clone());
                let mut gauge = Gauge::default();
                gauge.set_value(value(counts));
                let mut metric = Metric::from_label(vec![label]);
                metric.set_gauge(gauge);
                metric
            };
            let mut family = MetricFamily::default();
            family.set_name(desc.fq_name.clone());
            family.set_help(desc.help.clone());
            family.set_field_type(MetricType::GAUGE);
            family.set_metric(running.iter().map(metric).collect());
            family
        };
        self.families.iter().map(family).filter(|family| !family.get_metric().is_empty()).collect()
    }
}
