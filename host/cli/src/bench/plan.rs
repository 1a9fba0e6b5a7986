//! What the command line asks for, validated.

use std::fmt;
use std::time::Duration;

use super::BenchArgs;
use super::load::{Limit, Load};

/// Beyond this no single machine gets.
const MAX_RATE: f64 = 1e6;

/// The runs of a bench.
pub(super) struct Plan {
    /// One after the other.
    pub(super) loads: Vec<Load>,
    pub(super) warmup: Duration,
    pub(super) limit: Limit,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn new(args: &BenchArgs) -> Self {
        let open = |rate: &f64| Load::Open {
            rate: *rate,
            arrivals: args.arrivals,
            max_outstanding: args.max_outstanding,
        };
        let closed = |concurrency: &u32| Load::Closed { concurrency: *concurrency };
        let loads: Vec<Load> = if !args.rate.is_empty() {
            args.rate.iter().map(open).collect()
        } else if args.concurrency.is_empty() {
            vec![Load::Closed { concurrency: 1 }]
        } else {
            args.concurrency.iter().map(closed).collect()
        };
        let limit = args.requests.map_or(Limit::Duration(args.duration), Limit::Requests);
        Self { loads, warmup: args.warmup, limit, seed: args.seed }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(duration) => humantime::format_duration(*duration).fmt(f),
            Self::Requests(1) => f.write_str("1 request"),
            Self::Requests(number) => write!(f, "{number} requests"),
        }
    }
}

/// Reads a number of requests a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= MAX_RATE => Ok(rate),
        _ => Err(format!("write a number of requests a second above 0, up to {MAX_RATE}")),
    }
}

/// Reads a duration that is not zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("write a duration above zero, such as 10s".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::bench::Arrivals;

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let line = ["vespid", "bench", "m"].iter().chain(arguments);
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Command::Bench(args) => Ok(Plan::new(&args)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn loads_are_lists() {
        let loads = |arguments: &[&str]| plan(arguments).unwrap().loads;
        let closed = |concurrency| Load::Closed { concurrency };
        assert_eq!(loads(&[]), [closed(1)]);
        assert_eq!(loads(&["--concurrency", "1,4,16"]), [1, 4, 16].map(closed));
        let open = |rate| Load::Open { rate, arrivals: Arrivals::Poisson, max_outstanding: 8 };
        let arguments = ["--rate", "0.5,100", "--arrivals", "poisson", "--max-outstanding", "8"];
        assert_eq!(loads(&arguments), [open(0.5), open(100.0)]);
    }

    #[test]
    fn a_run_ends_after_a_time_or_a_number_of_requests() {
        let limit = |arguments: &[&str]| plan(arguments).unwrap().limit.to_string();
        assert_eq!(limit(&[]), "10s");
        assert_eq!(limit(&["--duration", "1m"]), "1m");
        assert_eq!(limit(&["--requests", "5"]), "5 requests");
        assert_eq!(plan(&["--warmup", "0s"]).unwrap().warmup, Duration::ZERO);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for arguments in [
            &["--rate", "1", "--concurrency", "1"][..],
            &["--arrivals", "poisson"],
            &["--max-outstanding", "3"],
            &["--requests", "1", "--duration", "1s"],
            &["--json", "f", "--json-request"],
            &["x=1", "--shape", "x=1"],
            &["x=1", "--file", "f"],
            &["--concurrency", "0"],
            &["--rate", "0"],
            &["--rate", "nan"],
            &["--duration", "0s"],
            &["--requests", "0"],
        ] {
            assert!(plan(arguments).is_err(), "{arguments:?}");
        }
    }
}
