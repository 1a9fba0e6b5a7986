//! The operator: its watches, its controllers, and its lease.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Health};
use crate::context::Context;
use crate::controller::control;
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::triggers::{self, Queues};
use crate::watched::Watches;
use crate::{OperatorError, OperatorOptions};

/// How long what was begun may take to end when the operator is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// An operator that has its port, and does nothing yet.
pub struct Operator {
    client: Client,
    options: OperatorOptions,
    health: Health,
    listener: Option<TcpListener>,
}

impl Operator {
    /// Takes the port for probes and metrics.
    ///
    /// # Errors
    /// [`OperatorError::Listen`] where it is not to be had.
    pub async fn new(client: Client, options: OperatorOptions) -> Result<Self, OperatorError> {
        let health = Health::new(Metrics::new()?);
        let listener = match options.admin {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| OperatorError::Listen { address, source })?)
            }
            None => None,
        };
        Ok(Self { client, options, health, listener })
    }

    /// Where probes reach it.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Waits until it leads, and then looks after its namespace until it is told to stop.
    ///
    /// # Errors
    /// [`OperatorError::Lease`] where it does not lead any more: what it was doing may be another's now, and it has to begin anew.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), OperatorError> {
        let mut tasks = JoinSet::new();
        if let Some(listener) = self.listener.take() {
            let router = admin::router(self.health.clone());
            tasks.spawn(async move { drop(axum::serve(listener, router).await) });
        }
        let mut shutdown = pin!(shutdown);
        let candidate = Candidate::new(&self.client, &self.options.namespace, &self.options.identity);
        // Who stands by is as ready as it can be.
        self.health.set_ready(true);
        let mut held = tokio::select! {
            held = candidate.lead() => held,
            () = &mut shutdown => return Ok(()),
        };
        tracing::info!(identity = self.options.identity, namespace = self.options.namespace, "leading");
        self.health.set_ready(false);
        self.health.metrics.leads(true);
        let (stop, stopped) = watch::channel(false);
        let mut work = pin!(work(self.client.clone(), self.options.clone(), self.health.clone(), stopped));
        let ended = tokio::select! {
            ended = &mut work => ended,
            lost = held.hold() => return Err(lost),
            () = &mut shutdown => {
                stop.send_replace(true);
                if tokio::time::timeout(GRACE, work).await.is_err() {
                    tracing::warn!("what was begun has not ended within {GRACE:?}");
                }
                Ok(())
            }
        };
        held.release().await;
        self.health.metrics.leads(false);
        ended
    }
}

/// Watches and controls, until it is told to stop.
async fn work(
    client: Client,
    options: OperatorOptions,
    health: Health,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), OperatorError> {
    let (queues, asked) = Queues::new(&options.namespace);
    let mut watches = Watches::new(&client, &options.namespace);
    let stores = triggers::start(&mut watches, &queues, options.pools.as_deref());
    let context = Arc::new(Context::new(client, options, stores.clone(), health.metrics.clone()));
    // What was not listed yet cannot be told from what is not there.
    tokio::select! {
        () = watches.ready() => {}
        _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
    }
    health.set_ready(true);
    tracing::info!("all that there is has been listed");
    let all = async {
        tokio::join!(
            control(Arc::clone(&context), stores.declared, asked.declared, stopped.clone()),
            control(Arc::clone(&context), stores.pools, asked.pools, stopped.clone()),
            control(Arc::clone(&context), stores.models, asked.models, stopped.clone()),
            control(Arc::clone(&context), stores.batches, asked.batches, stopped.clone()),
            control(Arc::clone(&context), stores.streams, asked.streams, stopped.clone()),
        )
    };
    tokio::select! {
        _ = all => Ok(()),
        () = watches.ended() => Err(OperatorError::Ended("a watch")),
    }
}
