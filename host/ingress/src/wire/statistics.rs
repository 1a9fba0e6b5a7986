//! What models count, as the statistics extension of Triton's protocol writes it.
//!
//! Contract: the field names and their order are the extension's; what it does not have is under `vespid`. Counters begin
//! when a version is loaded; times are nanoseconds. `compute_input` and `compute_output` are the time for moving tensors to
//! and from a model: nothing is moved, so both count no time. Left out so far: the memory that a model takes.

use serde::Serialize;
use vespid_serving::{PluginUsage, Span, Statistics};
use vespid_types::{ModelName, Version};

/// What `GET /v2/models/{name}/stats` answers.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatisticsList {
    /// A line for each version.
    pub model_stats: Vec<ModelStatistics>,
}

/// A version's counters.
#[derive(Clone, Debug, Serialize)]
pub struct ModelStatistics {
    pub(crate) name: ModelName,
    pub(crate) version: Version,
    pub(crate) last_inference: u64,
    pub(crate) inference_count: u64,
    pub(crate) execution_count: u64,
    pub(crate) inference_stats: InferenceStatistics,
    pub(crate) batch_stats: Vec<BatchStatistics>,
    memory_usage: [(); 0],
    vespid: Own,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct InferenceStatistics {
    pub(crate) success: Duration,
    pub(crate) fail: Duration,
    pub(crate) queue: Duration,
    pub(crate) compute_input: Duration,
    pub(crate) compute_infer: Duration,
    pub(crate) compute_output: Duration,
    pub(crate) cache_hit: Duration,
    pub(crate) cache_miss: Duration,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct BatchStatistics {
    pub(crate) batch_size: u64,
    pub(crate) compute_input: Duration,
    pub(crate) compute_infer: Duration,
    pub(crate) compute_output: Duration,
}

/// How often, and how many nanoseconds in all.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Duration {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

impl Duration {
    /// As often, and in no time.
    fn none(self) -> Self {
        Self { ns: 0, ..self }
    }
}

impl From<Span> for Duration {
    fn from(Span { count, ns }: Span) -> Self {
        Self { count, ns }
    }
}

#[derive(Clone, Debug, Default, Serialize)]
struct Own {
    /// Processor time of the plugin's code and of the host calls that it makes; none for a model without a plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Duration>,
    /// Which instances answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<Instances>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Instances {
    fresh: u64,
    warm: u64,
    retired: u64,
}

impl ModelStatistics {
    /// The counters of a version in the extension's form.
    #[must_use]
    pub fn new(name: ModelName, version: Version, statistics: Statistics) -> Self {
        let compute = Duration::from(statistics.compute);
        let batch = |(batch_size, run): (u64, Span)| BatchStatistics {
            batch_size,
            compute_input: Duration::from(run).none(),
            compute_infer: run.into(),
            compute_output: Duration::from(run).none(),
        };
        Self {
            name,
            version,
            last_inference: statistics.last_inference,
            inference_count: statistics.inference_count,
            execution_count: statistics.execution_count,
            inference_stats: InferenceStatistics {
                success: statistics.success.into(),
                fail: statistics.fail.into(),
                queue: statistics.queue.into(),
                compute_input: compute.none(),
                compute_infer: compute,
                compute_output: compute.none(),
                cache_hit: Duration::default(),
                cache_miss: Duration::default(),
            },
            batch_stats: statistics.batches.into_iter().map(batch).collect(),
            memory_usage: [],
            vespid: statistics.plugin.map(Own::from).unwrap_or_default(),
        }
    }
}

impl From<PluginUsage> for Own {
    fn from(PluginUsage { cpu, fresh, warm, retired }: PluginUsage) -> Self {
        let ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        Self {
            cpu: Some(Duration { count: fresh.saturating_add(warm), ns }),
            instances: Some(Instances { fresh, warm, retired }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn counters_are_written_as_triton_does() {
        let span = |count, ns| Span { count, ns };
        let statistics = Statistics {
            last_inference: 1_700_000_000_000,
            inference_count: 3,
            execution_count: 2,
            success: span(3, 900),
            fail: span(1, 50),
            queue: span(3, 30),
            compute: span(3, 600),
            batches: BTreeMap::from([(1, span(1, 200)), (2, span(1, 200))]),
            plugin: Some(PluginUsage {
                cpu: std::time::Duration::from_nanos(120),
                fresh: 3,
                warm: 1,
                retired: 0,
            }),
        };
        let stats = ModelStatistics::new("iris".parse().unwrap(), "1".parse().unwrap(), statistics);
        let spans = |count, ns| json!({"count": count, "ns": ns});
        let batch = |size| {
            json!({
                "batch_size": size,
                "compute_input": spans(1, 0),
                "compute_infer": spans(1, 200),
                "compute_output": spans(1, 0),
            })
        };
        assert_eq!(
            serde_json::to_value(ModelStatisticsList { model_stats: vec![stats] }).unwrap(),
            json!({"model_stats": [{
                "name": "iris",
                "version": "1",
                "last_inference": 1_700_000_000_000_u64,
                "inference_count": 3,
                "execution_count": 2,
                "inference_stats": {
                    "success": spans(3, 900),
                    "fail": spans(1, 50),
                    "queue": spans(3, 30),
                    "compute_input": spans(3, 0),
                    "compute_infer": spans(3, 600),
                    "compute_output": spans(3, 0),
                    "cache_hit": spans(0, 0),
                    "cache_miss": spans(0, 0),
                },
                "batch_stats": [batch(1), batch(2)],
                "memory_usage": [],
                "vespid": {"cpu": spans(4, 120), "instances": {"fresh": 3, "warm": 1, "retired": 0}},
            }]})
        );
    }
}
