//! What models count, as the statistics extension of Triton's protocol writes it.
//!
//! Contract: the field names and their order are the extension's; what it does not have is under `vespid`. Counters begin
//! when a version is loaded; times are nanoseconds. `docs/metrics.md` says what each is. The memory is
//! that which the server counts for the model, with what it shares with others.

use std::collections::BTreeMap;

use serde::Serialize;
use vespid_serving::{PluginUsage, Reason, RunTimes, Statistics, Times};
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
    pub(crate) memory_usage: Vec<MemoryUsage>,
    vespid: Own,
}

/// What a model takes up, as far as it is on the processor.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemoryUsage {
    pub(crate) r#type: &'static str,
    pub(crate) id: i64,
    pub(crate) byte_size: u64,
}

impl MemoryUsage {
    fn of(byte_size: u64) -> Self {
        Self { r#type: "CPU", id: 0, byte_size }
    }
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

#[derive(Clone, Debug, Default, Serialize)]
struct Failed {
    queue: Duration,
    compute_input: Duration,
    compute_infer: Duration,
    compute_output: Duration,
    reasons: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Own {
    /// Processor time of the plugin's code and of the host calls that it makes; none for a model without a plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Duration>,
    /// Which instances answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<Instances>,
    /// Runs of graphs, which are part of `compute_infer`.
    graph: Duration,
    /// The parts of requests that failed.
    failed: Failed,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Instances {
    fresh: u64,
    warm: u64,
    retired: u64,
}

/// The parts of requests, each of which every request has once.
struct Parts {
    queue: Duration,
    input: Duration,
    infer: Duration,
    output: Duration,
    graph: Duration,
}

impl From<&Times> for Parts {
    fn from(times: &Times) -> Self {
        let part = |ns| Duration { count: times.count, ns };
        Self {
            queue: part(times.queue),
            input: part(times.input),
            infer: part(times.infer),
            output: part(times.output),
            graph: part(times.graph),
        }
    }
}

fn whole(times: &Times) -> Duration {
    Duration { count: times.count, ns: times.total }
}

impl ModelStatistics {
    /// The counters of a version in the extension's form.
    #[must_use]
    pub fn new(name: ModelName, version: Version, statistics: Statistics) -> Self {
        let parts = Parts::from(&statistics.success);
        let vespid = Own::from(&statistics);
        Self {
            name,
            version,
            last_inference: statistics.last_inference,
            inference_count: statistics.inference_count,
            execution_count: statistics.execution_count,
            inference_stats: InferenceStatistics {
                success: whole(&statistics.success),
                fail: whole(&statistics.fail),
                queue: parts.queue,
                compute_input: parts.input,
                compute_infer: parts.infer,
                compute_output: parts.output,
                cache_hit: Duration::default(),
                cache_miss: Duration::default(),
            },
            batch_stats: statistics.batches.into_iter().map(BatchStatistics::from).collect(),
            memory_usage: statistics.memory.map(MemoryUsage::of).into_iter().collect(),
            vespid,
        }
    }
}

impl From<(u64, RunTimes)> for BatchStatistics {
    fn from((batch_size, RunTimes { count, input, infer, output }): (u64, RunTimes)) -> Self {
        let part = |time: std::time::Duration| Duration { count, ns: nanoseconds(time) };
        Self {
            batch_size,
            compute_input: part(input),
            compute_infer: part(infer),
            compute_output: part(output),
        }
    }
}

impl From<&Statistics> for Own {
    fn from(statistics: &Statistics) -> Self {
        let Parts { queue, input, infer, output, .. } = Parts::from(&statistics.fail);
        let reason = |(reason, count): (Reason, u64)| (reason.as_str(), count);
        let failed = Failed {
            queue,
            compute_input: input,
            compute_infer: infer,
            compute_output: output,
            reasons: statistics.failures.into_iter().map(reason).collect(),
        };
        let plugin = statistics.plugin.map(|PluginUsage { cpu, fresh, warm, retired }| {
            let cpu = Duration { count: fresh.saturating_add(warm), ns: nanoseconds(cpu) };
            (cpu, Instances { fresh, warm, retired })
        });
        let (cpu, instances) = plugin.unzip();
        Self { cpu, instances, graph: Parts::from(&statistics.success).graph, failed }
    }
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_are_written_as_triton_does() {
        let nanos = std::time::Duration::from_nanos;
        let run = RunTimes { count: 1, input: nanos(10), infer: nanos(200), output: nanos(20) };
        let times =
            |count| Times { count, total: 900, queue: 30, input: 40, infer: 600, graph: 400, output: 50 };
        let statistics = Statistics {
            last_inference: 1_700_000_000_000,
            inference_count: 3,
            execution_count: 2,
            success: times(3),
            fail: times(1),
            failures: [
                (Reason::Rejected, 0),
                (Reason::Canceled, 1),
                (Reason::Backend, 0),
                (Reason::Other, 0),
            ],
            batches: BTreeMap::from([(1, run), (2, run)]),
            plugin: Some(PluginUsage { cpu: nanos(120), fresh: 3, warm: 1, retired: 0 }),
            ..Statistics::default()
        };
        let stats = ModelStatistics::new("iris".parse().unwrap(), "1".parse().unwrap(), statistics);
        let spans = |count, ns| json!({"count": count, "ns": ns});
        let batch = |size| {
            json!({
                "batch_size": size,
                "compute_input": spans(1, 10),
                "compute_infer": spans(1, 200),
                "compute_output": spans(1, 20),
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
                    "fail": spans(1, 900),
                    "queue": spans(3, 30),
                    "compute_input": spans(3, 40),
                    "compute_infer": spans(3, 600),
                    "compute_output": spans(3, 50),
                    "cache_hit": spans(0, 0),
                    "cache_miss": spans(0, 0),
                },
                "batch_stats": [batch(1), batch(2)],
                "memory_usage": [],
                "vespid": {
                    "cpu": spans(4, 120),
                    "instances": {"fresh": 3, "warm": 1, "retired": 0},
                    "graph": spans(3, 400),
                    "failed": {
                        "queue": spans(1, 30),
                        "compute_input": spans(1, 40),
                        "compute_infer": spans(1, 600),
                        "compute_output": spans(1, 50),
                        "reasons": {"REJECTED": 0, "CANCELED": 1, "BACKEND": 0, "OTHER": 0},
                    },
                },
            }]})
        );
    }
}
