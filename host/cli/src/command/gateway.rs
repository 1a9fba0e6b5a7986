//! `vespid gateway`: the way into a cluster.
//!
//! Order of things, as `vespid serve` has it: the ports are bound before anything is said, and it is ready when it has seen what
//! there is in its namespace. On SIGTERM or Ctrl-C it is not ready any more, stops accepting, finishes what is in flight within the
//! drain time, and ends. Probes are answered, and packages given, to the last.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use vespid_gateway::{Bound, Gateway, HoldOptions, Options, RetryBudget};
use vespid_limits::{Limits, LimitsConfig, TenantsBy};
use vespid_package::StoreLocation;

use crate::access::{AccessArgs, Port};
use crate::cluster;
use crate::serve::listener::{allow_many_connections, listen};
use crate::serve::tls::{Tls, TlsArgs};
use crate::serve::{LogFormat, Signals, bind, open_store, start_log};

const AFTER_HELP: &str = "\
Examples:
  vespid gateway --store /var/lib/vespid/packages
  vespid gateway --namespace models --store s3://models/uploads --cache /var/cache/vespid
  vespid gateway --http 0.0.0.0:8000 --grpc 0.0.0.0:8001 --access access.yaml --limits limits.yaml

The cluster is that of the pod's account, or of the kubeconfig's current context. When the ports are open it prints a line \
`listening http=ADDRESS grpc=ADDRESS admin=ADDRESS packages=ADDRESS` to standard output; its log goes to standard error. Port \
0 lets the system choose.";

/// Lead requests to the pods of a cluster that serve their models
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct GatewayArgs {
    /// The namespace whose Models it routes to [default: that of the pod's account, or of the kubeconfig]
    #[arg(short, long, value_name = "NAMESPACE", env = "POD_NAMESPACE", hide_env_values = true)]
    namespace: Option<String>,
    /// Where clients reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// Where clients that speak gRPC reach it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8001")]
    grpc: SocketAddr,
    /// Where probes reach it, and what collects metrics
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8002")]
    admin: SocketAddr,
    /// How large the body of a request may be, and a gRPC message
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    max_body: ByteSize,
    /// How many requests may be in flight, waiting ones included
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    #[command(flatten)]
    uploads: Uploads,
    /// A file that says how much each model and each tenant may use, which pods take too (docs/limits.md): the gateway holds
    /// calls to concurrent and rate, and uploads to stored and uploads [default: as much as there is]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    routing: Routing,
    /// How long requests in flight may take to end once it is told to stop
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    drain: Duration,
    /// How long a client may take to send the head of a request, and leave a connection without one
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = humantime::parse_duration)]
    idle_timeout: Duration,
    /// How the log is written
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Uploads")]
struct Uploads {
    /// Where packages are kept that are uploaded: a folder, which is made where it does not exist and is this gateway's
    /// alone, or s3://BUCKET/PREFIX, gs://... or az://..., which several may share [default: uploads are refused]
    #[arg(long, value_name = "DIR|URL")]
    store: Option<StoreLocation>,
    /// What of the packages is kept on this machine [default: the folder of --store itself; of a bucket, one in the user's
    /// cache]
    #[arg(long, value_name = "DIR", requires = "store")]
    cache: Option<PathBuf>,
    /// Where pods fetch uploaded packages
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8003")]
    packages: SocketAddr,
    /// How large an uploaded package may be
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    max_package: ByteSize,
    /// How long an upload waits for a pod to load it
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    load_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Routing")]
struct Routing {
    /// How many times its share of a pool's calls a pod may have, before others get them
    #[arg(long, value_name = "FACTOR", default_value_t = 1.25, value_parser = parse_factor)]
    load_factor: f64,
    /// How many calls a pod with the model takes at once, before a pod without it has to load it
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    spill: u32,
    /// How much of a request is kept so that it can be sent again
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_buffer)]
    retry_buffer: ByteSize,
    /// Of how many of a hundred calls one may be sent again
    #[arg(long, value_name = "PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: u32,
    /// And how many calls a second besides
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    min_retries: u32,
    /// How long a call waits for a pool that has no pods and is woken
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    wake_timeout: Duration,
    /// How long a call waits for a pool whose pods are being replaced
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    hold: Duration,
    /// How many calls of one pool may wait for pods at once; four times as many of all pools
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    max_held: u32,
    /// How long a connection to a pod may take
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
}

/// The most that is kept of a request: there may be thousands of them.
const MAX_RETRY_BUFFER: ByteSize = ByteSize::mib(1);

fn parse_buffer(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>()? {
        size if size > MAX_RETRY_BUFFER => Err(format!("use at most {MAX_RETRY_BUFFER}")),
        size => Ok(size),
    }
}

fn parse_factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=100.0).contains(&factor) => Ok(factor),
        _ => Err("use a number from 1 to 100".to_owned()),
    }
}

/// Runs until a signal ends it.
pub(crate) fn run(args: &GatewayArgs) -> anyhow::Result<()> {
    // Without a telemetry: it is kept until the process ends.
    let _log = start_log(args.log_format)?;
    allow_many_connections();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    let served = runtime.block_on(serve(args));
    runtime.shutdown_background();
    served
}

/// The ports.
struct Listeners {
    http: TcpListener,
    grpc: TcpListener,
    admin: TcpListener,
    packages: TcpListener,
}

async fn serve(args: &GatewayArgs) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let limits = args.limits.as_deref().map(read_limits).transpose()?.unwrap_or_default();
    let config = cluster::infer().await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
    let store = match &args.uploads.store {
        Some(location) => Some(open_store(location, args.uploads.cache.as_ref(), "gateways").await?),
        None => None,
    };
    let port = |option, address| Port { option, address, by_certificate: args.tls.asks_clients() };
    let access = args.access.open(&[port("--http", args.http), port("--grpc", args.grpc)])?;
    let tls = args.tls.open(access.is_none())?;
    let gateway = Gateway::new(
        args.options(limits),
        Some((client, namespace)),
        store,
        access.clone(),
        stopped.clone(),
    )?;
    let listeners = Listeners {
        http: bind(args.http).await.context("--http")?,
        grpc: bind(args.grpc).await.context("--grpc")?,
        admin: bind(args.admin).await.context("--admin")?,
        packages: bind(args.uploads.packages).await.context("--packages")?,
    };
    // Before it is announced: who reads that may send one at once.
    let signals = Signals::listen()?;
    listeners.announce()?;
    let driven = drive(args, &gateway, listeners, tls, signals, &stop, stopped).await;
    if let Some(access) = access {
        // What was done last is in the audit.
        access.close().await;
    }
    driven
}

/// The labels of Models say which tenants they belong to.
fn read_limits(file: &Path) -> anyhow::Result<Limits> {
    let config = LimitsConfig::read(file, TenantsBy::Labels).context("--limits")?;
    Ok(Limits::new(config.only(&Gateway::LIMITS)))
}

async fn drive(
    args: &GatewayArgs,
    gateway: &Gateway,
    listeners: Listeners,
    tls: Option<Tls>,
    mut signals: Signals,
    stop: &watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Listeners { http, grpc, admin, packages } = listeners;
    // Never told to stop: they are answered until the process ends, and routes are followed.
    let (_always, never) = watch::channel(false);
    let idle = args.idle_timeout;
    let others = async {
        let follow = async {
            gateway.follow().await;
            anyhow::bail!("the API server is followed no more")
        };
        let probes = listen(admin, gateway.admin(), idle, None, never.clone());
        let packages = listen(packages, gateway.packages(), idle, None, never.clone());
        tokio::try_join!(probes, packages, follow).map(|((), (), ())| ())
    };
    let clients = async {
        tokio::try_join!(
            listen(http, gateway.http(), idle, tls.clone(), stopped.clone()),
            listen(grpc, gateway.grpc(), idle, tls, stopped),
        )
        .map(drop)
    };
    tokio::pin!(others, clients);
    tokio::select! {
        ended = &mut clients => return ended,
        ended = &mut others => return ended,
        signal = signals.next() => tracing::info!("{signal} received, draining"),
    }
    stop.send_replace(true);
    tokio::select! {
        ended = &mut clients => ended,
        ended = &mut others => ended,
        () = tokio::time::sleep(args.drain) => {
            anyhow::bail!("requests were still in flight after {}", humantime::format_duration(args.drain))
        }
        signal = signals.next() => anyhow::bail!("{signal} received while draining: requests were still in flight"),
    }
}

impl GatewayArgs {
    fn options(&self, limits: Limits) -> Options {
        let routing = &self.routing;
        Options {
            max_body: self.max_body,
            max_package: self.uploads.max_package,
            max_in_flight: self.max_in_flight as usize,
            bound: Bound { factor: routing.load_factor, spill: routing.spill as usize },
            retry_buffer: routing.retry_buffer,
            retries: RetryBudget { percent: routing.retries, minimum: routing.min_retries },
            holds: HoldOptions {
                wake: routing.wake_timeout,
                hold: routing.hold,
                max: routing.max_held as usize,
            },
            connect_timeout: routing.connect_timeout,
            load_timeout: self.uploads.load_timeout,
            limits,
            ..Options::default()
        }
    }
}

impl Listeners {
    fn announce(&self) -> anyhow::Result<()> {
        let (http, grpc) = (self.http.local_addr()?, self.grpc.local_addr()?);
        let (admin, packages) = (self.admin.local_addr()?, self.packages.local_addr()?);
        tracing::info!(%http, %grpc, %admin, %packages, "listening");
        anstream::println!("listening http={http} grpc={grpc} admin={admin} packages={packages}");
        Ok(())
    }
}
