//! `vespid serve`: builds the serving core over a store, opens the ports, and drains on the way out.
//!
//! Order of things: the store is locked and the ports are bound before anything is said; the models of the store load
//! in the background, and the server is ready when they have. On SIGTERM or Ctrl-C it is not ready any more, stops
//! accepting, finishes what is in flight within the drain time, and ends. Probes are answered to the last.
//!
//! Each port for clients is a future that ends when it was told to stop, through the watch that it is given, and has
//! finished what it had begun.

mod jobs;
pub(crate) mod listener;
mod models;
mod packages;
mod pool;
mod streams;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use vespid_auth::Access;
use vespid_engine::{Engine, EngineOptions};
use vespid_ingress::Api;
use vespid_limits::{Limit, Limits, LimitsConfig, TenantsBy};
use vespid_nn::Backends;
use vespid_package::oci::PlacePattern;
use vespid_package::{Permissions, SharedCache, Store, StoreLocation, StoreOptions};
use vespid_serving::{Control, Predictor, PredictorOptions, Repository, RepositoryOptions, Sources};
use vespid_stream::Streams;
use vespid_telemetry::{Log, Telemetry, TelemetryOptions, TraceLevel, TraceSettings};

use self::listener::listen;
use self::models::Models;
use crate::access::{AccessArgs, Port};
use crate::registry::RegistryArgs;
use crate::{allocator, onnxruntime, openvino};

const AFTER_HELP: &str = "\
Examples:
  vespid serve --store ./store
  vespid serve --store s3://models/production --cache /var/cache/vespid
  vespid serve --store /var/lib/vespid --http 0.0.0.0:8000 --grpc 0.0.0.0:8001 --admin 0.0.0.0:8002 --access access.yaml
  vespid serve --store ./store --package oci://registry.example/models/iris:1 --trust trust.toml
  vespid serve --store /var/lib/vespid --pool default --packages http://vespid-gateway-packages:8003
  VESPID_LOG=debug vespid serve --store ./store

When the ports are open it prints a line `listening http=ADDRESS grpc=ADDRESS admin=ADDRESS` to standard output; its log \
goes to standard error. Port 0 lets the system choose.";

/// Room for plugin calls where nothing else is said.
pub(crate) const DEFAULT_MAX_INSTANCES: u32 = 256;

/// Serve the packages of a store, and those that are pushed
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ServeArgs {
    /// Where the packages are kept: a folder, which is made where it does not exist, or s3://BUCKET/PREFIX, gs://... or
    /// az://..., whose keys are taken from the environment (docs/repository.md)
    #[arg(long, value_name = "DIR|URL")]
    store: StoreLocation,
    /// What of the packages is kept on this machine [default: the folder of the packages itself, which is then this
    /// server's alone; of a bucket, one in the user's cache]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// A folder for compiled code, and with --pool for packages, that servers of this machine share; each must trust the
    /// others, for it runs their code
    #[arg(long, value_name = "DIR")]
    shared_cache: Option<PathBuf>,
    /// Where clients reach the server
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// Where clients that speak gRPC reach the server
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8001")]
    grpc: SocketAddr,
    /// Where probes reach the server, and what collects metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8002")]
    admin: SocketAddr,
    /// How large the body of a request may be, and a gRPC message either way
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    max_body: ByteSize,
    /// How large an uploaded package may be
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    max_package: ByteSize,
    /// How many requests may be in flight, waiting ones included
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// How many plugin calls may run at once; each reserves 8 GiB of address space, not of memory
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_INSTANCES, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_instances: u32,
    /// A file that says what models may reach outside of their sandboxes (docs/grants.md) [default: other models, and their
    /// own packages]
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
    /// A file that says how much each model and each tenant may use (docs/limits.md) [default: as much as there is]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    tls: tls::TlsArgs,
    #[command(flatten)]
    models: Models,
    #[command(flatten)]
    pool: pool::PoolArgs,
    #[command(flatten)]
    jobs: jobs::JobArgs,
    #[command(flatten)]
    streams: streams::StreamArgs,
    /// A package that is to be in the store when the server starts: oci://HOST/REPOSITORY with :TAG or @DIGEST, or a
    /// folder or tar with the finished files; repeatable
    #[arg(long, value_name = "REFERENCE|DIR|TAR")]
    package: Vec<String>,
    /// From where in registries the server pulls what clients ask it to, such as registry.example/models/*; repeatable
    /// [default: nowhere]
    #[arg(long, value_name = "PATTERN", help_heading = "Registries")]
    registry: Vec<PlacePattern>,
    #[command(flatten)]
    registries: RegistryArgs,
    #[command(flatten)]
    onnxruntime: onnxruntime::Choice,
    #[command(flatten)]
    openvino: openvino::Choice,
    /// How long requests in flight may take to end once the server is told to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// How long a client may take to send the head of a request, and leave a connection without one
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = humantime::parse_duration)]
    idle_timeout: Duration,
    /// How the log is written
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Where traces are sent by OTLP over gRPC, such as http://127.0.0.1:4317 [default:
    /// $OTEL_EXPORTER_OTLP_ENDPOINT, else nowhere]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Of how many requests one is traced, where traces are sent and the caller does not say
    #[arg(long, value_name = "N", default_value_t = vespid_telemetry::DEFAULT_TRACE_RATE)]
    trace_rate: NonZero<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Runs until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let log = start_log(args.log_format)?;
    listener::allow_many_connections();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    // Files are read and written by threads of their own, so that they do not stand in the way of requests.
    let files = jobs::runtime()?;
    let served = runtime.block_on(serve(args, log, files.handle().clone()));
    files.shutdown_background();
    // What still compiles is left behind: it is not in the store yet.
    runtime.shutdown_background();
    served
}

pub(crate) fn start_log(format: LogFormat) -> anyhow::Result<Log> {
    Ok(Log::start(match format {
        LogFormat::Text => vespid_telemetry::LogFormat::Text,
        LogFormat::Json => vespid_telemetry::LogFormat::Json,
    })?)
}

async fn serve(args: &ServeArgs, log: Log, files: Handle) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let (api, pod) = build(args, log, files, stopped.clone()).await?;
    let (telemetry, jobs, streams) = (api.telemetry.clone(), api.jobs.clone(), streams_of(&api));
    let access = api.access.clone();
    let served = listen_and_drain(args, api, &stop, stopped).await;
    if let Some(streams) = streams {
        streams.stop();
        if tokio::time::timeout(streams.drain(), streams.ended()).await.is_err() {
            tracing::warn!("streams did not end in {:?}", streams.drain());
        }
    }
    if let Some(pod) = pod {
        // Also where the server ends for another reason than that it was told to.
        stop.send_replace(true);
        pod.left().await;
    }
    if let Some(jobs) = jobs {
        // The parts in hand; what is given up is done when the server is there again.
        jobs.stopped(args.drain).await;
    }
    if let Some(access) = access {
        // What was done last is in the audit.
        access.close().await;
    }
    // It blocks, on work of this runtime's.
    tokio::task::spawn_blocking(move || telemetry.flush()).await.context("the traces' end")?;
    served
}

fn streams_of(api: &Api) -> Option<Streams> {
    api.streams.as_ref()?.get().cloned()
}

async fn listen_and_drain(
    args: &ServeArgs,
    api: Api,
    stop: &watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let tls = args.tls.open(api.access.is_none())?;
    let http = bind(args.http).await.context("--http")?;
    let grpc = bind(args.grpc).await.context("--grpc")?;
    let admin = bind(args.admin).await.context("--admin")?;
    // Before the server is announced: who reads that may send one at once.
    let mut signals = Signals::listen()?;
    announce(&http, &grpc, &admin)?;
    let streams = streams_of(&api);
    // Never told to stop: probes are answered until the process ends.
    let (_always, never) = watch::channel(false);
    let probes = listen(admin, vespid_ingress::admin_router(api.clone()), args.idle_timeout, None, never);
    let clients = async {
        let grpc_router = vespid_ingress::grpc_router(api.clone())?;
        tokio::try_join!(
            listen(http, vespid_ingress::router(api), args.idle_timeout, tls.clone(), stopped.clone()),
            listen(grpc, grpc_router, args.idle_timeout, tls, stopped),
        )
        .map(drop)
    };
    tokio::pin!(probes, clients);
    tokio::select! {
        ended = &mut clients => return ended,
        ended = &mut probes => return ended,
        signal = signals.next() => tracing::info!("{signal} received, draining"),
    }
    stop.send_replace(true);
    if let Some(streams) = &streams {
        // They finish what is in hand while clients do.
        streams.stop();
    }
    tokio::select! {
        ended = &mut clients => ended,
        ended = &mut probes => ended,
        () = tokio::time::sleep(args.drain) => {
            anyhow::bail!("requests were still in flight after {}", humantime::format_duration(args.drain))
        }
        signal = signals.next() => anyhow::bail!("{signal} received while draining: requests were still in flight"),
    }
}

async fn build(
    args: &ServeArgs,
    log: Log,
    files: Handle,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<(Api, Option<pool::Pod>)> {
    // What contradicts itself is said before anything is made.
    let access = args.access.open(&ports(args))?;
    let pooled = args.pool.is_given(&args.store)?;
    let control = if pooled { Control::Managed } else { args.models.control()? };
    let permissions = args.grants.as_deref().map(Permissions::read).transpose()?.unwrap_or_default();
    let permissions = if pooled { permissions.with_own() } else { permissions };
    let limits =
        args.limits.as_deref().map(|file| read_limits(file, pooled)).transpose()?.unwrap_or_default();
    let store = Arc::new(open_store(&args.store, args.cache.as_ref(), "stores").await?);
    let shared = args.shared_cache.as_deref().map(SharedCache::open).transpose().context("--shared-cache")?;
    let registry = args.registries.open(args.max_package)?;
    packages::install(&store, &registry, &limits, args).await?;
    let joining = (shared.as_ref(), args.max_package);
    let joining = args.pool.join(&store, &permissions, &registry, joining).await?;
    let engine = Engine::new(&EngineOptions {
        code_cache: absolute(&shared.map_or_else(|| store.code_cache(), |shared| shared.code()))?,
        max_instances: args.max_instances,
    })
    .context("a smaller --max-instances needs less address space")?;
    let backends = backends(args)?;
    let predictor = Predictor::new(PredictorOptions { max_in_flight: args.max_in_flight as usize });
    let telemetry = telemetry(args, log, &predictor, access.as_ref())?;
    let options = RepositoryOptions {
        engine,
        backends,
        max_package: args.max_package,
        permissions,
        cases: vespid_ingress::cases::request,
        loading: args.models.loading(),
        memory: args.models.memory(),
        limits: limits.clone(),
        control,
        supplier: joining.as_ref().map(pool::Joining::supplier),
    };
    let repository = Repository::start(store, predictor.clone(), options).await?;
    let sources = Sources::new(repository.clone(), registry, args.registry.clone());
    let jobs = args.jobs.start(args, &predictor, files, &stopping).await?;
    if let Some(jobs) = jobs.clone() {
        telemetry.register(Box::new(vespid_batch::Metrics::new(Box::new(move || jobs.running()))?))?;
    }
    let streams = args.streams.start(&predictor, &telemetry)?.map(|streams| Arc::new(streams.into()));
    let pod =
        joining.map(|joining| args.pool.follow(joining, &predictor, &repository, limits, stopping.clone()));
    let api = Api {
        predictor,
        telemetry,
        repository,
        sources,
        jobs,
        streams,
        access,
        max_body: args.max_body,
        stopping,
    };
    Ok((api, pod))
}

fn backends(args: &ServeArgs) -> anyhow::Result<Backends> {
    let backends = args.onnxruntime.backends()?;
    match backends.onnxruntime() {
        Some(library) => {
            tracing::info!(version = library.version(), library = %library.library().display(), "ONNX Runtime is loaded");
        }
        None => tracing::info!("ONNX Runtime is not loaded: the embedded backend runs the graphs"),
    }
    args.openvino.join(backends)
}

/// Those at which somebody may change something.
fn ports(args: &ServeArgs) -> Vec<Port<'static>> {
    let client = |option, address| Port { option, address, by_certificate: args.tls.asks_clients() };
    let mut ports = vec![client("--http", args.http), client("--grpc", args.grpc)];
    if args.streams.are_given() {
        // Streams are paused there.
        ports.push(Port::plain("--admin", args.admin));
    }
    ports
}

/// What a pod holds to. The rest of the file is for the gateway, which takes the uploads.
const OF_A_POD: [Limit; 4] = [Limit::Concurrent, Limit::Rate, Limit::Cpu, Limit::Memory];

/// Of a pod, the labels of its Models say which tenants they belong to.
fn read_limits(file: &Path, pooled: bool) -> anyhow::Result<Limits> {
    let by = if pooled { TenantsBy::Labels } else { TenantsBy::Patterns };
    let config = LimitsConfig::read(file, by).context("--limits")?;
    Ok(Limits::new(if pooled { config.only(&OF_A_POD) } else { config }))
}

/// Opens what `--store` and `--cache` name. Of a bucket, what is kept on this machine is below `folder` of the user's cache where
/// nobody says.
pub(crate) async fn open_store(
    location: &StoreLocation,
    cache: Option<&PathBuf>,
    folder: &str,
) -> anyhow::Result<Store> {
    let cache = match (cache, location) {
        (None, StoreLocation::Bucket(url)) => {
            // Each has its own, for a cache is one process's.
            let name = vespid_package::digest_of(url.as_str().as_bytes()).hex();
            Some(vespid_toolchain::cache_dir()?.join(folder).join(name))
        }
        (cache, _) => cache.cloned(),
    };
    let options = StoreOptions { location: location.clone(), cache };
    Store::open(options).await.with_context(|| format!("--store {location}"))
}

fn telemetry(
    args: &ServeArgs,
    log: Log,
    predictor: &Predictor,
    access: Option<&Access>,
) -> anyhow::Result<Telemetry> {
    let telemetry = Telemetry::new(predictor.clone(), telemetry_options(args, log))?;
    if let Some(access) = access {
        telemetry.register(Box::new(vespid_auth::Metrics::new(access.clone(), "vespid_access")?))?;
    }
    Ok(telemetry)
}

fn telemetry_options(args: &ServeArgs, log: Log) -> TelemetryOptions {
    // OpenTelemetry's variables are given a value of nothing where they are not to count.
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let otlp_endpoint = args
        .otlp_endpoint
        .clone()
        .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let trace = TraceSettings { level: TraceLevel::Timestamps, rate: args.trace_rate, count: None };
    TelemetryOptions { otlp_endpoint, trace, log: Some(log), allocator: Some(allocator::statistics) }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn announce(http: &TcpListener, grpc: &TcpListener, admin: &TcpListener) -> anyhow::Result<()> {
    let (http, grpc, admin) = (http.local_addr()?, grpc.local_addr()?, admin.local_addr()?);
    tracing::info!(%http, %grpc, %admin, "listening");
    anstream::println!("listening http={http} grpc={grpc} admin={admin}");
    Ok(())
}

/// The signals that end the server.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
