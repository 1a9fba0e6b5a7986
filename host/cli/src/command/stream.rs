//! `vespid stream`: answers what comes on topics, until it is told to stop.
//!
//! Each file is a stream; all of them run in this process, over the same loaded models. On SIGTERM or Ctrl-C what is in hand is finished and
//! committed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use vespid_auth::Access;
use vespid_package::StoreLocation;
use vespid_stream::{Metrics, StreamError, StreamSpec, Streams};
use vespid_telemetry::{LogFormat, Telemetry};

use crate::access::{AccessArgs, Port};
use crate::failure::{Failure, Hint};
use crate::local::admin::Tended;
use crate::local::models::Asked;
use crate::local::{Libraries, Local};
use crate::serve::Signals;

const AFTER_HELP: &str = "\
Examples:
  vespid stream --config stream.yaml
  vespid stream --config clicks.yaml --config audio.yaml --store s3://models/production --admin 127.0.0.1:8002
  vespid stream --config stream.yaml --admin 0.0.0.0:8002 --access access.yaml

A stream in YAML (docs/stream.md has all of it):

  model: iris                          # or a package: a folder, a tar, oci://..., http://...
  source:
    kafka: {brokers: 'localhost:9092', topics: flowers, group: iris}
  sink:
    kafka: {topic: species, dead_letter: flowers-failed}
  inputs:
    measurements: [sepal_length, sepal_width, petal_length, petal_width]
  keep: [id]

Answers are acknowledged before offsets are committed: a message is answered at least once, and with `exactly_once: true` \
once for who reads what is committed.

Exit codes:
  0  the streams were told to stop, or their sources have ended
  1  a stream failed
  2  the command line or a stream was wrong";

/// Ask a model for every message of a topic, and go on
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct StreamArgs {
    /// A file with a stream; repeatable
    #[arg(long, value_name = "STREAM.yaml", required = true)]
    config: Vec<PathBuf>,
    /// The store that has the models, where they are named
    #[arg(long, value_name = "DIR|URL")]
    store: Option<StoreLocation>,
    /// How many plugin calls may run at once
    #[arg(long, value_name = "N", default_value_t = crate::serve::DEFAULT_MAX_INSTANCES, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_instances: u32,
    /// Where what collects metrics reaches it, probes, and who pauses and resumes streams [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    libraries: Libraries,
}

/// What of the log is shown where nobody says.
const LOG: &str = "warn,vespid=info,vespid_stream=info,plugin=info";

pub(crate) fn run(args: &StreamArgs) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn try_run(args: &StreamArgs) -> anyhow::Result<()> {
    vespid_telemetry::Log::start_with(LogFormat::Text, LOG)?;
    let specs = args.config.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<_>>>()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    let ended = runtime.block_on(stream(args, specs));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let code = crate::failure::report(error);
    match error.chain().find_map(|cause| cause.downcast_ref::<StreamError>()) {
        Some(StreamError::Config { .. } | StreamError::File { .. }) => ExitCode::from(2),
        _ => code,
    }
}

/// Reads a file with a stream.
pub(crate) fn read(file: &Path) -> anyhow::Result<StreamSpec> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .hint(format!("{shown} cannot be read"), "name a file with a stream; --help has an example")?;
    StreamSpec::from_yaml(&shown, &text).with_context(|| format!("--config {shown}"))
}

async fn stream(args: &StreamArgs, specs: Vec<StreamSpec>) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let ports: Vec<Port<'_>> =
        args.admin.map(|address| Port::plain("--admin", address)).into_iter().collect();
    let access = args.access.open(&ports)?;
    let ended = answer(args, specs, signals, access.clone()).await;
    if let Some(access) = access {
        // What was done last is in the audit.
        access.close().await;
    }
    ended
}

async fn answer(
    args: &StreamArgs,
    mut specs: Vec<StreamSpec>,
    mut signals: Signals,
    access: Option<Access>,
) -> anyhow::Result<()> {
    let asked: Vec<Asked> =
        specs.iter().map(|spec| Asked { model: spec.model.clone(), version: spec.version }).collect();
    let calls = args.max_instances as usize;
    let (store, libraries) = (args.store.as_ref(), &args.libraries);
    let local = Local::open_for(&asked, store, libraries, calls).await?;
    let (metrics, started) = (Metrics::new()?, Arc::new(OnceLock::new()));
    if let Some(address) = args.admin {
        let counted = |telemetry: &Telemetry| Ok(telemetry.register(Box::new(metrics.clone()))?);
        let tended = Tended { streams: Arc::clone(&started), access };
        // Before the models are loaded, which may take long: probes are answered meanwhile.
        let bound = local.admin(address, &libraries.registries, counted, Some(tended)).await?;
        anstream::println!("listening admin={bound}");
    }
    let models = tokio::select! {
        models = local.bring(&asked, store, libraries) => models?,
        signal = signals.next() => {
            tracing::info!("{signal} received while models were being loaded");
            return Ok(());
        }
    };
    for (spec, model) in specs.iter_mut().zip(&models) {
        spec.model = model.name.to_string();
    }
    let streams = Streams::start(specs.into_iter().zip(models).collect(), &local.predictor, &metrics)?;
    let streams = started.get_or_init(|| streams);
    let ended = streams.ended();
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => return Ok(ended?),
        signal = signals.next() => tracing::info!("{signal} received: finishing what is in hand"),
    }
    streams.stop();
    tokio::select! {
        ended = &mut ended => Ok(ended?),
        () = tokio::time::sleep(streams.drain()) => anyhow::bail!("streams did not end in {:?}", streams.drain()),
        signal = signals.next() => {
            Err(Failure::new(format!("{signal} received again: what is in hand is given up")).into())
        }
    }
}
