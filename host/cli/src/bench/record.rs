//! What became of requests: counts, errors, latencies. One for each connection, joined at the end.
//!
//! Cost: recording is a few additions and one into a histogram; nothing is shared, nothing allocates but a first error.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ureq::http::StatusCode;

use crate::client::ClientError;
use crate::failure::{Failure, Hint};

/// What one request came to.
pub(super) struct Exchange {
    /// When it was to be sent.
    pub(super) due: Instant,
    /// When it was.
    pub(super) sent: Instant,
    /// When the answer was read, or given up.
    pub(super) answered: Instant,
    /// The length of the answer.
    pub(super) outcome: Result<u64, ClientError>,
}

/// Why a request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// The server has no room: 503.
    Refused,
    /// Any other status.
    Status(StatusCode),
    /// No answer came in time.
    Timeout,
    /// There was no connection, or it broke.
    Connection,
}

/// Requests that failed for one cause.
pub(super) struct Problem {
    pub(super) count: u64,
    /// How the first of them failed.
    pub(super) first: ClientError,
}

/// Latencies in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Latency {
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) max: f64,
}

/// Times added up.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    total: u128,
    max: Duration,
}

/// All that is kept of the requests.
pub(super) struct Record {
    /// From when a request was due, of those that succeeded.
    latency: Histogram<u64>,
    /// The same, exact where the histogram rounds.
    whole: Sum,
    min: Duration,
    /// From when it was sent, of those that succeeded.
    service: Sum,
    /// From when it was due until it was sent, of all.
    wait: Sum,
    /// How many were sent more than [`LATE`] after their time.
    late: u64,
    sent: u64,
    succeeded: u64,
    bytes: u64,
    problems: BTreeMap<Cause, Problem>,
}

/// What passes for in time: timers and threads wake somewhat late on any machine.
const LATE: Duration = Duration::from_millis(1);

/// Longer latencies count as a day.
const MAX_NANOS: u64 = 24 * 3600 * 1_000_000_000;
/// Three digits of a latency are kept.
const DIGITS: u8 = 3;

impl Record {
    pub(super) fn new() -> Result<Self, Failure> {
        let latency = Histogram::new_with_bounds(1, MAX_NANOS, DIGITS)
            .hint("the histogram cannot be made", "report this")?;
        Ok(Self {
            latency,
            whole: Sum::default(),
            min: Duration::MAX,
            service: Sum::default(),
            wait: Sum::default(),
            late: 0,
            sent: 0,
            succeeded: 0,
            bytes: 0,
            problems: BTreeMap::new(),
        })
    }

    pub(super) fn add(&mut self, exchange: Exchange) {
        let Exchange { due, sent, answered, outcome } = exchange;
        let wait = sent.saturating_duration_since(due);
        self.sent += 1;
        self.wait.add(wait);
        self.late += u64::from(wait > LATE);
        match outcome {
            Ok(bytes) => {
                let latency = answered.saturating_duration_since(due);
                self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
                self.whole.add(latency);
                self.min = self.min.min(latency);
                self.service.add(answered.saturating_duration_since(sent));
                self.succeeded += 1;
                self.bytes += bytes;
            }
            Err(error) => {
                let cause = Cause::of(&error);
                self.problems.entry(cause).or_insert(Problem { count: 0, first: error }).count += 1;
            }
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        self.whole.merge(other.whole);
        self.min = self.min.min(other.min);
        self.service.merge(other.service);
        self.wait.merge(other.wait);
        self.late += other.late;
        self.sent += other.sent;
        self.succeeded += other.succeeded;
        self.bytes += other.bytes;
        for (cause, problem) in other.problems {
            match self.problems.entry(cause) {
                std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(problem)),
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    entry.get_mut().count += problem.count;
                }
            }
        }
    }

    /// All that were sent.
    pub(super) fn requests(&self) -> u64 {
        self.sent
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.succeeded
    }

    /// Those that the server had no room for.
    pub(super) fn refused(&self) -> u64 {
        self.problems.get(&Cause::Refused).map_or(0, |problem| problem.count)
    }

    /// Those that neither succeeded nor were refused.
    pub(super) fn failed(&self) -> u64 {
        self.sent.saturating_sub(self.succeeded).saturating_sub(self.refused())
    }

    /// Bytes of the answers to those that succeeded.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn problems(&self) -> &BTreeMap<Cause, Problem> {
        &self.problems
    }

    pub(super) fn into_problems(self) -> impl Iterator<Item = Problem> {
        self.problems.into_values()
    }

    pub(super) fn late(&self) -> u64 {
        self.late
    }

    /// From when they were due until they were sent: the mean and the longest, in nanoseconds.
    pub(super) fn wait(&self) -> (f64, f64) {
        (self.wait.mean(self.sent), self.wait.max.as_nanos() as f64)
    }

    /// From sending to the whole answer, the mean in nanoseconds.
    pub(super) fn service(&self) -> f64 {
        self.service.mean(self.succeeded)
    }

    /// `None` where nothing succeeded.
    pub(super) fn latency(&self) -> Option<Latency> {
        if self.succeeded == 0 {
            return None;
        }
        let max = self.whole.max.as_nanos() as f64;
        // The histogram answers with the upper end of a step, which may lie above the greatest value.
        let at = |quantile: f64| (self.latency.value_at_quantile(quantile) as f64).min(max);
        Some(Latency {
            min: self.min.as_nanos() as f64,
            mean: self.whole.mean(self.succeeded),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p99_9: at(0.999),
            max,
        })
    }
}

impl Sum {
    fn add(&mut self, time: Duration) {
        self.total += time.as_nanos();
        self.max = self.max.max(time);
    }

    fn merge(&mut self, other: Self) {
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    fn mean(self, count: u64) -> f64 {
        if count == 0 { 0.0 } else { self.total as f64 / count as f64 }
    }
}

impl Cause {
    pub(super) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Status { status: StatusCode::SERVICE_UNAVAILABLE, .. } => Self::Refused,
            ClientError::Status { status, .. } => Self::Status(*status),
            ClientError::Timeout { .. } => Self::Timeout,
            _ => Self::Connection,
        }
    }

    /// The status that came, where one did.
    pub(super) fn status(self) -> Option<StatusCode> {
        match self {
            Self::Refused => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::Status(status) => Some(status),
            Self::Timeout | Self::Connection => None,
        }
    }
}

impl Problem {
    /// What was said of the first: the server's own words where there are some.
    pub(super) fn message(&self) -> String {
        if let ClientError::Status { message, .. } = &self.first {
            return message.clone();
        }
        let mut text = self.first.to_string();
        let mut cause = std::error::Error::source(&self.first);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(wait: u64, service: u64, outcome: Result<u64, ClientError>) -> Exchange {
        let due = Instant::now();
        let sent = due + Duration::from_micros(wait);
        Exchange { due, sent, answered: sent + Duration::from_micros(service), outcome }
    }

    fn status(status: u16, message: &str) -> ClientError {
        let status = StatusCode::from_u16(status).unwrap();
        ClientError::Status { server: "localhost".parse().unwrap(), status, message: message.into() }
    }

    #[test]
    fn every_request_is_counted_once() {
        let mut record = Record::new().unwrap();
        record.add(exchange(0, 100, Ok(7)));
        record.add(exchange(0, 1, Err(status(503, "busy"))));
        record.add(exchange(0, 1, Err(status(500, "first"))));
        let mut other = Record::new().unwrap();
        other.add(exchange(2000, 100, Ok(5)));
        other.add(exchange(0, 1, Err(status(500, "second"))));
        other.add(exchange(0, 1, Err(status(504, "late"))));
        let server = "localhost".parse().unwrap();
        other.add(exchange(0, 1, Err(ClientError::Timeout { server, what: "global".into() })));
        record.merge(other);
        assert_eq!(
            (record.requests(), record.succeeded(), record.refused(), record.failed(), record.bytes()),
            (7, 2, 1, 4, 12)
        );
        assert_eq!(record.late(), 1);
        let problems: Vec<_> = record
            .problems()
            .iter()
            .map(|(c, p)| (c.status().map(|s| s.as_u16()), p.count, p.message()))
            .collect();
        assert_eq!(
            problems[..3],
            [
                (Some(503), 1, "busy".to_owned()),
                (Some(500), 2, "first".to_owned()),
                (Some(504), 1, "late".to_owned()),
            ]
        );
        assert!(problems[3].2.contains("gave no answer in time"), "{}", problems[3].2);
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let mut record = Record::new().unwrap();
        assert_eq!(record.latency(), None);
        for wait in 0..1000 {
            record.add(exchange(wait, 100, Ok(0)));
        }
        // Refusals are quick, and no part of it.
        record.add(exchange(0, 1, Err(status(503, "busy"))));
        let latency = record.latency().unwrap();
        assert_eq!((latency.min, latency.max, latency.mean), (100_000.0, 1_099_000.0, 599_500.0));
        for (got, expected) in [(latency.p50, 599e3), (latency.p99, 1089e3), (latency.p99_9, 1098e3)] {
            assert!((got - expected).abs() <= expected * 0.002, "{got} is not about {expected}");
        }
        assert_eq!(record.service(), 100_000.0);
        assert_eq!(record.wait().1, 999_000.0);
    }
}
