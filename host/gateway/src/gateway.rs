//! The gateway as a whole: what its fronts share.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use bytesize::ByteSize;
use kube::Client;
use tokio::sync::{Semaphore, watch};
use vespid_auth::Access;
use vespid_limits::{Coming, Limit, Limits};
use vespid_package::Store;
use vespid_types::Error;

use crate::answer::Counted;
use crate::balance::Bound;
use crate::cluster::Cluster;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::patience::PAUSE;
use crate::pods::{Protocol, RetryBudget};
use crate::table::Routes;
use crate::upload::Uploads;
use crate::upstream::Upstream;
use crate::wake::{HoldOptions, Holds};
use crate::{admin, follow, grpc, http, upload};

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// How large the body of a request may be, and a gRPC message.
    pub max_body: ByteSize,
    /// How much of a request is read to find the model's name, where the body alone has it.
    pub name_within: ByteSize,
    /// The same over gRPC, where clients send the name first.
    pub grpc_name_within: ByteSize,
    /// How much of all requests is held to find their models' names.
    pub name_memory: ByteSize,
    /// How large an uploaded package may be.
    pub max_package: ByteSize,
    /// How many requests may be in flight, waiting ones included.
    pub max_in_flight: usize,
    /// How many of them may be streams over gRPC, which may last as long as their clients like.
    pub max_streams: usize,
    /// How long a client may pause amid what it sends, and amid what it is sent.
    pub pause: Duration,
    /// How pods are loaded.
    pub bound: Bound,
    /// How much of a request is kept so that it can be sent again.
    pub retry_buffer: ByteSize,
    /// How many calls may be sent again.
    pub retries: RetryBudget,
    /// How long calls wait for pods.
    pub holds: HoldOptions,
    /// How long a connection to a pod may take.
    pub connect_timeout: Duration,
    /// How long an upload waits for a pod to load what it brought.
    pub load_timeout: Duration,
    /// How much models and tenants may use. Of these limits it holds to those of [`Gateway::LIMITS`].
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_body: ByteSize::mib(256),
            name_within: ByteSize::mib(16),
            grpc_name_within: ByteSize::mib(1),
            name_memory: ByteSize::mib(256),
            max_package: ByteSize::gib(4),
            max_in_flight: 4096,
            max_streams: 1024,
            pause: PAUSE,
            bound: Bound::default(),
            retry_buffer: ByteSize::kib(64),
            retries: RetryBudget::default(),
            holds: HoldOptions::default(),
            connect_timeout: Duration::from_secs(2),
            load_timeout: Duration::from_secs(300),
            limits: Limits::default(),
        }
    }
}

/// What the fronts share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) routes: Arc<Routes>,
    pub(crate) upstream: Upstream,
    pub(crate) holds: Holds,
    pub(crate) metrics: Metrics,
    pub(crate) uploads: Uploads,
    /// Who may do what; everybody everything where it is not there.
    pub(crate) access: Option<Access>,
    pub(crate) names: Memory,
    pub(crate) stopping: watch::Receiver<bool>,
    in_flight: Arc<AtomicUsize>,
    is_busy: Error,
    streams: Arc<Semaphore>,
}

/// A gateway. Clones share it.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    cluster: Option<(Client, String)>,
}

impl Gateway {
    /// What it holds to of a file of limits. The rest is the pods', who take the same file.
    pub const LIMITS: [Limit; 4] = [Limit::Concurrent, Limit::Rate, Limit::Stored, Limit::Uploads];

    /// A gateway to the pools of a namespace. `store` keeps what is uploaded; `access` says who may do what, and everybody may do
    /// everything without it; `stopping` turns true when the gateway is told to end,
    /// from when on it is not ready.
    ///
    /// # Errors
    /// Where its metrics do not fit together, which a test rules out.
    pub fn new(
        options: Options,
        cluster: Option<(Client, String)>,
        store: Option<Store>,
        access: Option<Access>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, Error> {
        let routes = Arc::new(Routes::new(options.limits.clone()));
        let metrics = Metrics::new(access.as_ref(), (&options.limits, &routes))
            .map_err(|error| Error::internal("the metrics cannot be registered").with_source(error))?;
        let reached = cluster.as_ref().map(|(client, namespace)| Cluster::new(client.clone(), namespace));
        let busy = format!("as many requests are in flight as may be ({}): try again", options.max_in_flight);
        let shared = Shared {
            upstream: Upstream::new(options.connect_timeout),
            holds: Holds::new(options.holds, reached.clone(), metrics.clone()),
            uploads: Uploads::new(
                reached,
                store,
                options.max_package,
                options.load_timeout,
                options.limits.clone(),
            ),
            routes,
            in_flight: Arc::default(),
            is_busy: Error::refused(busy),
            streams: Arc::new(Semaphore::new(options.max_streams.min(Semaphore::MAX_PERMITS))),
            access,
            names: Memory::new(options.name_memory),
            metrics,
            stopping,
            options,
        };
        Ok(Self { shared: Arc::new(shared), cluster })
    }

    /// Follows the namespace's resources, and tells its pools that they are asked, for ever.
    pub async fn follow(&self) {
        let Some((client, namespace)) = &self.cluster else { return std::future::pending().await };
        let Shared { routes, holds, options, uploads, .. } = &*self.shared;
        let look = async {
            uploads.look(Coming::default()).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = look => {}
            () = follow::follow(client, namespace, routes, options.retries) => {}
            () = holds.keep_awake(routes) => {}
        }
    }

    /// The routes for clients that speak HTTP. Each request has the client's address among its extensions, as axum's `ConnectInfo`.
    pub fn http(&self) -> Router {
        http::router(Arc::clone(&self.shared))
    }

    /// The routes for clients that speak gRPC.
    pub fn grpc(&self) -> Router {
        grpc::router(Arc::clone(&self.shared))
    }

    /// The routes for probes, and what collects metrics.
    pub fn admin(&self) -> Router {
        admin::router(Arc::clone(&self.shared))
    }

    /// The routes for pods that fetch what was uploaded.
    pub fn packages(&self) -> Router {
        upload::packages::router(Arc::clone(&self.shared))
    }
}

impl Shared {
    /// Whether requests are led somewhere: the table is whole, and the gateway has not been told to end.
    pub(crate) fn is_ready(&self) -> bool {
        self.routes.load().is_whole && !*self.stopping.borrow()
    }

    /// Takes a request in at the door.
    ///
    /// # Errors
    /// `UNAVAILABLE` where as many are in flight as may.
    pub(crate) fn enter(&self, protocol: Protocol) -> Result<Counted, Error> {
        let max = self.options.max_in_flight;
        Counted::begin(&self.metrics, &self.in_flight, max, protocol).ok_or_else(|| self.is_busy.clone())
    }

    /// Gives a request that is a stream its place among those.
    ///
    /// # Errors
    /// `UNAVAILABLE` where there are as many as may be.
    pub(crate) fn enter_stream(&self, counted: &mut Counted) -> Result<(), Error> {
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let max = self.options.max_streams;
            Error::refused(format!("as many streams are open as may be ({max}): close one, or try again"))
        })?;
        counted.streams(place);
        Ok(())
    }

    pub(crate) fn retry_buffer(&self) -> usize {
        usize::try_from(self.options.retry_buffer.as_u64()).unwrap_or(usize::MAX)
    }
}
