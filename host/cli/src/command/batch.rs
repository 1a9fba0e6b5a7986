//! `vespid batch`: runs a job over files in this process, or goes on with one.
//!
//! The command line and the job file say the same things; what stands on the command line goes before what the file says. On SIGTERM
//! or Ctrl-C the parts in hand are finished, and the exit code says that the job is to be run again.

mod report;
mod spec;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::sync::watch;
use vespid_batch::{BatchError, JobSpec, Outcome, Progress, RunOptions, Worker};
use vespid_dataset::DataError;
use vespid_package::StoreLocation;
use vespid_telemetry::LogFormat;

use crate::args::Output;
use crate::failure::Failure;
use crate::local::models::Asked;
use crate::local::{Libraries, Local};
use crate::serve::Signals;

const AFTER_HELP: &str = "\
Examples:
  vespid batch --model plugins/iris --input flowers.parquet --output out \\
      --map measurements=sepal_length,sepal_width,petal_length,petal_width
  vespid batch --model iris --store s3://models/production --input 's3://data/2026/*.csv' --output s3://data/species
  vespid batch --model file-type-1.tar --input ./documents --input-format files --map content=content --output types
  vespid batch job.yaml
  vespid batch job.yaml --worker 3 --of 8          one of eight processes, on any machines

A job file has the same in YAML:

  model: iris                      # or a package: a folder, a tar, oci://..., http://...
  input:
    url: flowers/*.parquet         # or a list
    where: petal_width > 0.5 AND species IS NOT NULL
  inputs:
    measurements: [sepal_length, sepal_width, petal_length, petal_width]
  outputs: {species: predicted}    # all of them by their own names where this is left out
  keep: [id]
  output: {url: out, format: jsonl}
  max_errors: 0.1%

The output is a folder with a file for each part of the input; OUTPUT/_errors has the rows that failed. What is done stays done: the \
same command again goes on.

Exit codes:
  0   the job is done, or this worker's share of it
  1   the job failed
  2   the command line or the job was wrong
  75  it was stopped, or something was away for a time: run it again, and it goes on";

/// Ask a model for every row of many files, or go on with it
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct BatchArgs {
    /// A file with the job
    #[arg(value_name = "JOB.yaml")]
    job: Option<PathBuf>,
    #[command(flatten)]
    spec: spec::SpecArgs,
    /// The store that has the model, where --model is a name
    #[arg(long, value_name = "DIR|URL")]
    store: Option<StoreLocation>,
    /// Which share of the parts is done here, from 0
    #[arg(long, value_name = "I", env = "JOB_COMPLETION_INDEX")]
    worker: Option<usize>,
    /// How many workers there are
    #[arg(long, value_name = "N")]
    of: Option<usize>,
    /// Calls of the model at once [default: two for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    calls: Option<u16>,
    /// How long parts in hand may take to end once it is told to stop
    #[arg(long, value_name = "TIME", default_value = "25s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Where what collects metrics reaches it, and probes [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "table")]
    report: Output,
    /// A file into which the report is written as JSON besides, or why the job failed: 4 KiB at most, as Kubernetes takes it
    /// from /dev/termination-log
    #[arg(long, value_name = "FILE")]
    report_file: Option<PathBuf>,
    #[command(flatten)]
    libraries: Libraries,
}

/// What ended before it was done and goes on when it is run again (EX_TEMPFAIL of sysexits).
const RUN_AGAIN: u8 = 75;

/// What of the log is shown where nobody says.
const LOG: &str = "warn,vespid=info,vespid_batch=info,plugin=info";

pub(crate) fn run(args: &BatchArgs) -> ExitCode {
    try_run(args).unwrap_or_else(|error| {
        report::leave(args.report_file.as_deref(), &format!("{error:#}"));
        failed(&error)
    })
}

fn try_run(args: &BatchArgs) -> anyhow::Result<ExitCode> {
    vespid_telemetry::Log::start_with(LogFormat::Text, LOG)?;
    let worker = worker(args)?;
    let job = args.spec.job(args.job.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    let outcome = runtime.block_on(run_job(args, job, worker));
    runtime.shutdown_background();
    let Some(outcome) = outcome? else {
        crate::ui::note("stopped before the model was loaded: run it again");
        return Ok(ExitCode::from(RUN_AGAIN));
    };
    match outcome {
        Outcome::Done(report) => {
            report::leave(args.report_file.as_deref(), &report::short(&report)?);
            report::print(&report, args.report)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::ShareDone { left } => {
            crate::ui::note(format!("this worker's share is done; {left} parts are other workers'"));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped { left } => {
            crate::ui::note(format!("stopped with {left} parts to do: run it again to go on"));
            Ok(ExitCode::from(RUN_AGAIN))
        }
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let code = crate::failure::report(error);
    let batch = error.chain().find_map(|cause| cause.downcast_ref::<BatchError>());
    match batch {
        Some(
            BatchError::Job { .. } | BatchError::File { .. } | BatchError::Data(DataError::Setting { .. }),
        ) => ExitCode::from(2),
        Some(error) if error.code().may_pass() => ExitCode::from(RUN_AGAIN),
        _ => code,
    }
}

fn worker(args: &BatchArgs) -> Result<Worker, Failure> {
    match (args.worker, args.of) {
        (None, None) => Ok(Worker::ALONE),
        (Some(index), Some(of)) if index < of => Ok(Worker { index, of }),
        (Some(index), Some(of)) => {
            Err(Failure::usage(format!("--worker {index} is none of {of}: they are numbered from 0")))
        }
        (Some(_), None) => Err(Failure::usage("--of is missing: how many workers are there?")),
        (None, Some(_)) => Err(Failure::usage("--worker is missing, and JOB_COMPLETION_INDEX is not set")),
    }
}

/// Does the job, or nothing of it where it is told to stop before.
async fn run_job(args: &BatchArgs, mut job: JobSpec, worker: Worker) -> anyhow::Result<Option<Outcome>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let calls = args.calls.map_or(2 * cores, usize::from);
    let asked = [Asked { model: job.model.clone(), version: job.version }];
    let (store, libraries) = (args.store.as_ref(), &args.libraries);
    let mut signals = Signals::listen()?;
    let local = Local::open_for(&asked, store, libraries, calls).await?;
    let models = tokio::select! {
        models = local.bring(&asked, store, libraries) => models?,
        _ = signals.next() => return Ok(None),
    };
    let [model] = &models[..] else { anyhow::bail!("one model was asked for") };
    let model = model.clone();
    job.model = model.name.to_string();
    if args.store.is_none() {
        job.version = model.version;
    }
    let progress = Arc::new(Progress::default());
    let (stop, stopped) = watch::channel(false);
    if let Some(address) = args.admin {
        report::admin(address, &local, &job.output.url, args, &progress).await?;
    }
    let options = RunOptions { worker, calls, grace: args.grace };
    let job =
        vespid_batch::run(&job, local.predictor.clone(), &model, &options, Arc::clone(&progress), stopped);
    let telling = report::tell(&progress);
    tokio::pin!(job, telling);
    loop {
        tokio::select! {
            outcome = &mut job => return Ok(Some(outcome?)),
            never = &mut telling => match never {},
            signal = signals.next() => {
                if *stop.borrow() {
                    return Err(Failure::new(format!("{signal} received again: the parts in hand are given up")).into());
                }
                tracing::info!("{signal} received: finishing the parts in hand");
                stop.send_replace(true);
            }
        }
    }
}
