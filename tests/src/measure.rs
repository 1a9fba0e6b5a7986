//! What `vespid bench` measures of `iris`, for benches that compare ways to it.

use std::process::Command;

use serde_json::Value;

use crate::built;

/// What one run has measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The median latency, in microseconds.
    pub median: f64,
    /// The 99th percentile of latencies, in microseconds.
    pub high: f64,
    /// Requests in a second.
    pub rate: f64,
    /// Requests.
    pub requests: f64,
}

/// Asks the server at `url` for so long, so many requests under way at once, each of which has an answer. `token` is what it shows.
#[must_use]
pub fn iris(url: &str, concurrency: u32, seconds: u64, token: &str) -> Measured {
    let mut bench = Command::new(built::vespid());
    bench.args(["bench", "iris", "measurements=5.1,3.5,1.4,0.2", "--server", url, "--output", "json"]);
    bench.args(["--concurrency", &concurrency.to_string(), "--duration", &format!("{seconds}s")]);
    bench.args(["--warmup", "0s"]);
    let output = bench.env_remove("VESPID_SERVER").env("VESPID_TOKEN", token).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let run = &report["runs"][0];
    assert_eq!(run["requests"], run["succeeded"], "{run:#}");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number: {run:#}"));
    Measured {
        median: number(&run["latency_us"]["p50"]),
        high: number(&run["latency_us"]["p99"]),
        rate: number(&run["requests_per_s"]),
        requests: number(&run["requests"]),
    }
}

/// The value in the middle.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
