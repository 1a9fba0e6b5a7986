//! `vespid bench`: puts load on a model of a running server, and reports what its callers see and where the time goes.
//!
//! Contract: each run is a warm-up, which is forgotten, a pause in which nothing is in flight, and the measured part.
//! The server's own counters are read in the pause and after the last answer, so that they speak of the measured
//! requests and of no others (but for those of other clients, which are told apart by their number and mentioned).
//! Cost: the request is put together once, answers are read and dropped unparsed; each connection has a thread. What
//! the client itself takes is part of the latency, and of what the report calls network and client.
//! Left out on purpose: several processes or machines, and a search for the greatest load that a model bears.

mod load;
mod made;
mod plan;
mod record;
mod report;
mod stats;
mod subject;

use std::time::Duration;

use clap::{Args, ValueEnum};
use vespid_types::{ModelName, Version};

use crate::args::{Output, Server};
use crate::client::{Client, ClientError};
use crate::failure::Failure;
use crate::predict::input::InputArgs;
use crate::ui;

use load::{Connection, Load, Measured, Stop};
use plan::Plan;
use stats::Breakdown;
use subject::Subject;

const AFTER_HELP: &str = "\
Examples:
  vespid bench iris                                    a made request, one connection
  vespid bench iris measurements=5.1,3.5,1.4,0.2 --concurrency 1,4,16
  vespid bench file-type --file README.md --rate 200 --arrivals poisson
  vespid bench image --shape image=8,3,224,224 --requests 1000 --output json

Load:
  --concurrency N is a closed loop: each of N connections sends its next request when the last is answered. \
--rate R is an open loop: requests are sent at their time, whatever became of the earlier ones, and latency counts from \
that time, not from when a connection was free. Lists such as 1,4,16 are run one after the other.

  Latency is that of requests that succeeded. Ctrl-C ends early and reports what was measured; once more ends at once.

Ends with exit code 1 where no request succeeded.";

/// The structure of the JSON: keys are added, never changed. Below 96 columns, so that it need not be wrapped.
const JSON_HELP: &str = "\
Output as JSON:
  model, version, server
  request               what was sent
    encoding, bytes     binary or json; of the body
    rows                null where the inputs are no batch
    made                whether the inputs were made
    inputs              a list: name, datatype, shape
  runs                  a list, one for each load
    load                mode closed with concurrency; mode open with rate, arrivals,
                        max_outstanding
    warmup_s, elapsed_s, interrupted
    requests            sent: succeeded + refused (503) + failed
    errors              a list: cause (refused, status, timeout, connection), status,
                        count, message (of the first)
    requests_per_s, rows_per_s, bytes_received
                        of those that succeeded
    latency_us          min, mean, p50, p90, p95, p99, p99_9, max; null where none succeeded
    schedule            of an open loop, else null
      due, unsent       requests whose time came: requests + unsent
      late              sent more than 1 ms after their time
      blocked           sent late because --max-outstanding were under way
      wait_mean_us, wait_max_us
                        from its time until it was sent
    breakdown           means of a request, and the server's counts; null where not known
      wait_us, network_and_client_us, queue_us, compute_us, guest_us, server_other_us
                        until it was sent; outside of the server; waiting for the graph; the
                        graph; the plugin; the rest. Null where the server does not say
      requests, failed, executions, executions_per_request, mean_batch
      instances         fresh, warm, retired
    breakdown_missing   why there is no breakdown, else null";

const USAGE: &str = "vespid bench [OPTIONS] <MODEL> [NAME=VALUES]...
       vespid bench [OPTIONS] <MODEL> --file <PATH>...
       vespid bench [OPTIONS] <MODEL> --json <FILE>";

/// Put load on a model, and see how fast it answers and where the time goes
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, after_long_help = format!("{AFTER_HELP}\n\n{JSON_HELP}"))]
#[command(override_usage = USAGE)]
pub(crate) struct BenchArgs {
    /// The model's name
    #[arg(value_name = "MODEL")]
    model: ModelName,
    #[command(flatten)]
    input: InputArgs,
    /// The shape of a made input where the model leaves it open [default: 1 for each open extent]
    #[arg(long = "shape", value_name = "NAME=EXTENTS", value_parser = made::shape, conflicts_with = "input")]
    shapes: Vec<made::NamedShape>,
    /// What made inputs hold: numbers from 0 to 1, of integers 0 and 1 alone; or zeros
    #[arg(long, value_enum, default_value_t = Data::Random, conflicts_with = "input")]
    data: Data,
    /// Where the random numbers begin, those of arrivals too
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The version to ask [default: the server's choice]
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// Connections that each send one request after the other [default: 1]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1024))]
    concurrency: Vec<u32>,
    /// Requests a second, sent whatever became of the earlier ones
    #[arg(long, value_name = "R,...", value_delimiter = ',', value_parser = plan::rate, conflicts_with = "concurrency")]
    rate: Vec<f64>,
    /// How requests are spread over the time
    #[arg(long, value_enum, default_value_t = Arrivals::Constant, requires = "rate")]
    arrivals: Arrivals,
    /// Requests that may be under way at once with --rate; those beyond are sent late, and counted
    #[arg(long, value_name = "N", default_value_t = 256, requires = "rate", value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_outstanding: u32,
    /// How long the same load runs before it is measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// How long is measured
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = plan::duration)]
    duration: Duration,
    /// How many requests are measured, in place of --duration
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// How long a prediction may take, such as 500ms or 10s
    #[arg(long, value_name = "TIME", value_parser = plan::duration)]
    timeout: Option<Duration>,
    /// Send the inputs as JSON and take JSON back, in place of binary tensors
    #[arg(long, conflicts_with = "json")]
    json_request: bool,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// What made inputs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Data {
    Random,
    Zeros,
}

/// How the requests of an open loop are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    /// At equal distances
    Constant,
    /// As from many callers who know nothing of each other
    Poisson,
}

/// What one load came to.
struct Run {
    load: Load,
    measured: Measured,
    /// Where the time went, or why that is not known.
    breakdown: Result<Breakdown, String>,
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let plan = Plan::new(args);
    let client = Client::new(&args.server.url, args.timeout)?;
    let subject = Subject::new(args, &client)?;
    ui::note(subject.describe());
    try_once(&client, &subject)?;
    let stop = Stop::on_interrupt()?;
    let mut runs = Vec::new();
    for load in &plan.loads {
        runs.extend(run_one(args, &plan, &client, &subject, *load, &stop)?);
        if stop.is_set() {
            break;
        }
    }
    if runs.is_empty() {
        return Err(Failure::new("interrupted before anything was measured").into());
    }
    match args.output {
        Output::Table => report::table::print(&subject, &runs)?,
        Output::Json => report::json::print(args, &subject, &runs)?,
    }
    if runs.iter().all(|run| run.measured.record.succeeded() == 0) {
        return Err(nothing_succeeded(runs));
    }
    Ok(())
}

/// Sends the request once: where it is wrong there is nothing to measure, and the user need not wait to hear it.
fn try_once(client: &Client, subject: &Subject) -> Result<(), ClientError> {
    match client.exchange(&subject.request, &mut [0; 4096]) {
        Err(ClientError::Status { status, server, message })
            if status.is_client_error() && status.as_u16() != 429 =>
        {
            Err(ClientError::Status { status, server, message })
        }
        // Whatever else comes is counted when it comes again.
        _ => Ok(()),
    }
}

/// `None` where the user ended it before anything was measured.
fn run_one(
    args: &BenchArgs,
    plan: &Plan,
    client: &Client,
    subject: &Subject,
    load: Load,
    stop: &Stop,
) -> anyhow::Result<Option<Run>> {
    let connect =
        |_| Ok(Connection::new(Client::new(&args.server.url, args.timeout)?, subject.request.clone()));
    let connections: Result<Vec<Connection>, ClientError> = (0..load.connections()).map(connect).collect();
    let mut connections = connections?;
    if !plan.warmup.is_zero() {
        let _progress = progress(format!("warming up: {load}, {}", humantime::format_duration(plan.warmup)));
        load.run(&mut connections, load::Limit::Duration(plan.warmup), plan.seed.wrapping_add(1), stop)?;
    }
    if stop.is_set() {
        return Ok(None);
    }
    let before = stats::fetch(client, &subject.model);
    let progress = progress(format!("measuring: {load}, {}", plan.limit));
    let measured = load.run(&mut connections, plan.limit, plan.seed, stop)?;
    drop(progress);
    if measured.record.requests() == 0 && stop.is_set() {
        return Ok(None);
    }
    let breakdown = before.and_then(|before| {
        let after = stats::fetch(client, &subject.model)?;
        stats::compare(&before, &after, &measured.record)
    });
    Ok(Some(Run { load, measured, breakdown }))
}

/// A spinner on a terminal, a line where there is none; gone with the value.
fn progress(message: String) -> impl Drop {
    struct Progress(indicatif::ProgressBar);
    impl Drop for Progress {
        fn drop(&mut self) {
            self.0.finish_and_clear();
        }
    }
    let bar = ui::spinner(message.clone());
    if bar.is_hidden() {
        ui::note(message);
    }
    Progress(bar)
}

/// The first error of the most frequent kind.
fn nothing_succeeded(runs: Vec<Run>) -> anyhow::Error {
    let problems = runs.into_iter().flat_map(|run| run.measured.record.into_problems());
    match problems.max_by_key(|problem| problem.count) {
        Some(problem) => anyhow::Error::from(problem.first).context("no request succeeded"),
        None => Failure::new("no request was sent").into(),
    }
}
