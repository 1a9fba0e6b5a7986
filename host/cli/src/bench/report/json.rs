//! The report for scripts. `vespid bench --help` tells its structure to users: what changes here changes there.

use serde::Serialize;

use crate::bench::load::Load;
use crate::bench::record::{Cause, Latency, Record};
use crate::bench::stats::{Breakdown, Instances};
use crate::bench::subject::{Encoding, Input, Subject};
use crate::bench::{Arrivals, BenchArgs, Run};
use crate::failure::Hint;
use crate::ui;

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    version: Option<String>,
    server: String,
    request: RequestReport<'a>,
    runs: Vec<RunReport>,
}

#[derive(Serialize)]
struct RequestReport<'a> {
    encoding: Encoding,
    bytes: usize,
    rows: Option<u64>,
    made: bool,
    inputs: &'a [Input],
}

#[derive(Serialize)]
struct RunReport {
    load: LoadReport,
    warmup_s: f64,
    elapsed_s: f64,
    interrupted: bool,
    requests: u64,
    succeeded: u64,
    refused: u64,
    failed: u64,
    errors: Vec<ErrorReport>,
    requests_per_s: f64,
    rows_per_s: Option<f64>,
    bytes_received: u64,
    latency_us: Option<LatencyReport>,
    schedule: Option<ScheduleReport>,
    breakdown: Option<BreakdownReport>,
    breakdown_missing: Option<String>,
}

#[derive(Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
enum LoadReport {
    Closed { concurrency: u32 },
    Open { rate: f64, arrivals: &'static str, max_outstanding: u32 },
}

#[derive(Serialize)]
struct ErrorReport {
    cause: &'static str,
    status: Option<u16>,
    count: u64,
    message: String,
}

#[derive(Serialize)]
struct LatencyReport {
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

#[derive(Serialize)]
struct ScheduleReport {
    due: u64,
    unsent: u64,
    late: u64,
    blocked: u64,
    wait_mean_us: f64,
    wait_max_us: f64,
}

#[derive(Serialize)]
struct BreakdownReport {
    requests: u64,
    failed: u64,
    wait_us: f64,
    network_and_client_us: f64,
    queue_us: Option<f64>,
    conversion_us: Option<f64>,
    compute_us: Option<f64>,
    guest_us: Option<f64>,
    server_other_us: f64,
    executions: u64,
    executions_per_request: f64,
    mean_batch: Option<f64>,
    instances: Option<Instances>,
}

/// Prints it as the command's result.
pub(in crate::bench) fn print(args: &BenchArgs, subject: &Subject, runs: &[Run]) -> anyhow::Result<()> {
    let report = Report {
        model: args.model.as_str(),
        version: args.version.map(|version| version.to_string()),
        server: args.server.url.to_string(),
        request: RequestReport {
            encoding: subject.encoding,
            bytes: subject.bytes,
            rows: subject.rows,
            made: subject.made.is_some(),
            inputs: &subject.inputs,
        },
        runs: runs.iter().map(|run| run_report(args, subject, run)).collect(),
    };
    let text = serde_json::to_string_pretty(&report).hint("the report is no JSON", "report this")?;
    ui::result(text)?;
    Ok(())
}

fn run_report(args: &BenchArgs, subject: &Subject, run: &Run) -> RunReport {
    let record = &run.measured.record;
    RunReport {
        load: load(run.load),
        warmup_s: args.warmup.as_secs_f64(),
        elapsed_s: run.measured.elapsed.as_secs_f64(),
        interrupted: run.measured.interrupted,
        requests: record.requests(),
        succeeded: record.succeeded(),
        refused: record.refused(),
        failed: record.failed(),
        errors: errors(record),
        requests_per_s: run.requests_per_second(),
        rows_per_s: run.rows_per_second(subject),
        bytes_received: record.bytes(),
        latency_us: record.latency().map(latency),
        schedule: schedule(run),
        breakdown: run.breakdown.as_ref().ok().map(breakdown),
        breakdown_missing: run.breakdown.as_ref().err().cloned(),
    }
}

fn load(load: Load) -> LoadReport {
    match load {
        Load::Closed { concurrency } => LoadReport::Closed { concurrency },
        Load::Open { rate, arrivals, max_outstanding } => {
            let arrivals = match arrivals {
                Arrivals::Constant => "constant",
                Arrivals::Poisson => "poisson",
            };
            LoadReport::Open { rate, arrivals, max_outstanding }
        }
    }
}

fn errors(record: &Record) -> Vec<ErrorReport> {
    let report = |(cause, problem): (&Cause, &crate::bench::record::Problem)| ErrorReport {
        cause: match cause {
            Cause::Refused => "refused",
            Cause::Status(_) => "status",
            Cause::Timeout => "timeout",
            Cause::Connection => "connection",
        },
        status: cause.status().map(|status| status.as_u16()),
        count: problem.count,
        message: problem.message(),
    };
    record.problems().iter().map(report).collect()
}

fn latency(latency: Latency) -> LatencyReport {
    LatencyReport {
        min: micros(latency.min),
        mean: micros(latency.mean),
        p50: micros(latency.p50),
        p90: micros(latency.p90),
        p95: micros(latency.p95),
        p99: micros(latency.p99),
        p99_9: micros(latency.p99_9),
        max: micros(latency.max),
    }
}

fn schedule(run: &Run) -> Option<ScheduleReport> {
    let schedule = run.measured.schedule?;
    let (mean, max) = run.measured.record.wait();
    Some(ScheduleReport {
        due: schedule.due,
        unsent: schedule.unsent,
        late: run.measured.record.late(),
        blocked: schedule.blocked,
        wait_mean_us: micros(mean),
        wait_max_us: micros(max),
    })
}

fn breakdown(breakdown: &Breakdown) -> BreakdownReport {
    BreakdownReport {
        requests: breakdown.requests,
        failed: breakdown.failed,
        wait_us: micros(breakdown.wait),
        network_and_client_us: micros(breakdown.network_and_client),
        queue_us: breakdown.queue.map(micros),
        conversion_us: breakdown.conversion.map(micros),
        compute_us: breakdown.compute.map(micros),
        guest_us: breakdown.guest.map(micros),
        server_other_us: micros(breakdown.server_other),
        executions: breakdown.executions,
        executions_per_request: breakdown.executions_per_request(),
        mean_batch: breakdown.mean_batch,
        instances: breakdown.instances,
    }
}

/// Nanoseconds as microseconds.
fn micros(nanoseconds: f64) -> f64 {
    nanoseconds / 1000.0
}
