//! Where the time went, from the server's own counters.
//!
//! The server tells them as Triton does (its statistics extension), and some of its own under `vespid`. They count from
//! the server's start; what lies between two readings is the measured part's. A plugin that calls other models spends
//! their time too: it counts as the plugin's own, and in their counters once more.

use serde::{Deserialize, Serialize};
use ureq::http::StatusCode;

use super::record::Record;
use crate::client::{Client, ClientError};

/// What the server answers. Unknown keys are ignored, and counters that are not there count as unknown.
#[derive(Debug, Deserialize)]
pub(super) struct Snapshot {
    model_stats: Vec<ModelStats>,
}

/// A version's counters.
#[derive(Debug, Deserialize)]
struct ModelStats {
    #[serde(default)]
    version: String,
    #[serde(default)]
    inference_count: u64,
    #[serde(default)]
    execution_count: u64,
    inference_stats: InferenceStats,
    #[serde(default)]
    batch_stats: Vec<BatchStats>,
    #[serde(default)]
    vespid: Extras,
}

/// How requests came out, and the parts of those that succeeded; in a [`Delta`], what these grew by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
struct InferenceStats {
    #[serde(default)]
    success: Counter,
    #[serde(default)]
    fail: Counter,
    queue: Option<Counter>,
    compute_input: Option<Counter>,
    compute_infer: Option<Counter>,
    compute_output: Option<Counter>,
}

#[derive(Debug, Deserialize)]
struct BatchStats {
    batch_size: u64,
    #[serde(default)]
    compute_infer: Counter,
}

#[derive(Debug, Default, Deserialize)]
struct Extras {
    graph: Option<Counter>,
    instances: Option<Instances>,
}

/// How often something was, and how long it took altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
struct Counter {
    #[serde(default)]
    count: u64,
    #[serde(default)]
    ns: u64,
}

/// Instances of the plugin: made for a call, kept from earlier ones, and given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Instances {
    pub(super) fresh: u64,
    pub(super) warm: u64,
    pub(super) retired: u64,
}

/// Means of a request in nanoseconds, and what goes with them. What the server does not tell is `None`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Breakdown {
    /// Requests that the server counted as succeeded.
    pub(super) requests: u64,
    /// Requests that the server counted as failed.
    pub(super) failed: u64,
    /// From when it was due until it was sent.
    pub(super) wait: f64,
    /// Outside of the server: the network, and this client.
    pub(super) network_and_client: f64,
    /// Waiting for the graph, or for an instance.
    pub(super) queue: Option<f64>,
    /// Making the request into what the model takes, and what comes of it into an answer.
    pub(super) conversion: Option<f64>,
    /// The backend.
    pub(super) compute: Option<f64>,
    /// The plugin's own code.
    pub(super) guest: Option<f64>,
    /// What is left of the server's time.
    pub(super) server_other: f64,
    /// Runs of the backend.
    pub(super) executions: u64,
    /// Rows in a run of the backend.
    pub(super) mean_batch: Option<f64>,
    pub(super) instances: Option<Instances>,
}

/// Reads the counters of a model; `model` is its path. The error says why there are none.
pub(super) fn fetch(client: &Client, model: &str) -> Result<Snapshot, String> {
    let path = format!("{model}/stats");
    client.get(&path).map_err(|error| match error {
        ClientError::Status { status: StatusCode::NOT_FOUND, .. } => format!("the server has no {path}"),
        error => format!("the server's statistics cannot be read: {error}"),
    })
}

/// What lies between two readings, beside what the client measured meanwhile.
pub(super) fn compare(before: &Snapshot, after: &Snapshot, record: &Record) -> Result<Breakdown, String> {
    let delta = Delta::between(before, after).ok_or("the server's counters began anew meanwhile")?;
    let latency = record.latency().ok_or("no request succeeded")?;
    breakdown(&delta, latency.mean, record.service())
        .ok_or_else(|| "the server counted no request".to_owned())
}

/// `latency` from when a request was due, and `service` from when it was sent, are means in nanoseconds.
fn breakdown(delta: &Delta, latency: f64, service: f64) -> Option<Breakdown> {
    let requests = delta.inference.success.count;
    if requests == 0 {
        return None;
    }
    let each = |ns: u64| ns as f64 / requests as f64;
    let queue = delta.inference.queue.map(|queue| each(queue.ns));
    let conversion = delta.inference.compute_input.zip(delta.inference.compute_output);
    let conversion = conversion.map(|(input, output)| each(input.ns) + each(output.ns));
    let infer = delta.inference.compute_infer.map(|infer| each(infer.ns));
    // Of Vespid alone it is known which part of it is the plugin's.
    let graph = delta.graph.map(|graph| each(graph.ns));
    let guest =
        infer.zip(graph).filter(|_| delta.instances.is_some()).map(|(infer, graph)| (infer - graph).max(0.0));
    let compute = graph.or(infer);
    let server = each(delta.inference.success.ns);
    let told: f64 = [queue, conversion, compute, guest].iter().flatten().sum();
    Some(Breakdown {
        requests,
        failed: delta.inference.fail.count,
        wait: (latency - service).max(0.0),
        network_and_client: (service - server).max(0.0),
        queue,
        conversion,
        compute,
        guest,
        server_other: (server - told).max(0.0),
        executions: delta.executions,
        mean_batch: delta.mean_batch(),
        instances: delta.instances,
    })
}

impl Breakdown {
    pub(super) fn executions_per_request(&self) -> f64 {
        self.executions as f64 / self.requests as f64
    }
}

/// The sum over a model's versions of what their counters grew by.
#[derive(Debug, Default, PartialEq)]
struct Delta {
    inference: InferenceStats,
    inferences: u64,
    executions: u64,
    /// Runs of the backend, and their rows, from the statistics by batch size.
    batches: u64,
    batched: u64,
    graph: Option<Counter>,
    instances: Option<Instances>,
}

impl Delta {
    /// `None` where a counter went down: the server was started anew, or the version replaced.
    fn between(before: &Snapshot, after: &Snapshot) -> Option<Self> {
        let mut delta = Self::default();
        for later in &after.model_stats {
            let earlier = before.model_stats.iter().find(|stats| stats.version == later.version);
            delta.add(earlier, later)?;
        }
        Some(delta)
    }

    fn add(&mut self, earlier: Option<&ModelStats>, later: &ModelStats) -> Option<()> {
        let grown = |get: fn(&ModelStats) -> u64| get(later).checked_sub(earlier.map_or(0, get));
        let counted = |get: fn(&ModelStats) -> Option<Counter>| -> Option<Option<Counter>> {
            let Some(late) = get(later) else { return Some(None) };
            late.since(earlier.and_then(get).unwrap_or_default()).map(Some)
        };
        self.inferences += grown(|stats| stats.inference_count)?;
        self.executions += grown(|stats| stats.execution_count)?;
        let sum = &mut self.inference;
        sum.success.add(counted(|stats| Some(stats.inference_stats.success))?.unwrap_or_default());
        sum.fail.add(counted(|stats| Some(stats.inference_stats.fail))?.unwrap_or_default());
        add(&mut sum.queue, counted(|stats| stats.inference_stats.queue)?);
        add(&mut sum.compute_input, counted(|stats| stats.inference_stats.compute_input)?);
        add(&mut sum.compute_infer, counted(|stats| stats.inference_stats.compute_infer)?);
        add(&mut sum.compute_output, counted(|stats| stats.inference_stats.compute_output)?);
        add(&mut self.graph, counted(|stats| stats.vespid.graph)?);
        for late in &later.batch_stats {
            let early = earlier.map_or(0, |stats| stats.executions_of(late.batch_size));
            let executions = late.compute_infer.count.checked_sub(early)?;
            self.batches += executions;
            self.batched += executions.saturating_mul(late.batch_size);
        }
        if let Some(late) = later.vespid.instances {
            let early = earlier.and_then(|stats| stats.vespid.instances).unwrap_or_default();
            let sum = self.instances.get_or_insert_default();
            sum.fresh += late.fresh.checked_sub(early.fresh)?;
            sum.warm += late.warm.checked_sub(early.warm)?;
            sum.retired += late.retired.checked_sub(early.retired)?;
        }
        Some(())
    }

    /// Rows a run of the backend: from the runs by size where the server tells them, else from the totals.
    fn mean_batch(&self) -> Option<f64> {
        let ratio = |rows: u64, runs: u64| (runs > 0).then(|| rows as f64 / runs as f64);
        ratio(self.batched, self.batches).or_else(|| ratio(self.inferences, self.executions))
    }
}

impl ModelStats {
    fn executions_of(&self, batch_size: u64) -> u64 {
        let found = self.batch_stats.iter().find(|stats| stats.batch_size == batch_size);
        found.map_or(0, |stats| stats.compute_infer.count)
    }
}

impl Counter {
    fn since(self, earlier: Self) -> Option<Self> {
        Some(Self { count: self.count.checked_sub(earlier.count)?, ns: self.ns.checked_sub(earlier.ns)? })
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.ns += other.ns;
    }
}

fn add(sum: &mut Option<Counter>, more: Option<Counter>) {
    if let Some(more) = more {
        sum.get_or_insert_default().add(more);
    }
}

#[cfg(test)]
mod tests;
