//! The operator: its watches, its controllers, and its lease.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
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

/// What the container of the operator is called.
const CONTAINER: &str = "operator";

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

/// The image that this process runs from, as its pod has it: what an installation, or who changes one, says of it in one place.
async fn own_image(client: &Client, options: &OperatorOptions) -> Result<String, OperatorError> {
    let unknown = |reason: String| OperatorError::Image { pod: options.identity.clone(), reason };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &options.namespace);
    let pod = pods.get(&options.identity).await.map_err(|error| unknown(error.to_string()))?;
    let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
    // Others may have been put beside it.
    let own = containers.iter().find(|container| container.name == CONTAINER).or(containers.first());
    own.and_then(|container| container.image.clone()).ok_or_else(|| unknown("it has none".to_owned()))
}

/// Watches and controls, until it is told to stop.
async fn work(
    client: Client,
    mut options: OperatorOptions,
    health: Health,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), OperatorError> {
    if options.image.is_none() {
        options.image = Some(own_image(&client, &options).await?);
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::own_image;
    use crate::OperatorOptions;
    use crate::testing::{Server, options};

    async fn image(containers: &Value) -> Result<String, String> {
        let server = Server::default();
        server.put(
            "pods",
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator-0"}, "spec": {"containers": containers}}),
        );
        let options = OperatorOptions { image: None, ..options() };
        own_image(&server.client(), &options).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_image_of_pods_is_that_of_the_operator_s_own_container() {
        let beside = json!({"name": "proxy", "image": "proxy:1"});
        let own = json!({"name": "operator", "image": "registry.example/vespid:2"});
        assert_eq!(image(&json!([beside, own])).await.as_deref(), Ok("registry.example/vespid:2"));
        assert_eq!(image(&json!([{"name": "main", "image": "vespid:3"}])).await.as_deref(), Ok("vespid:3"));
        assert!(image(&json!([])).await.unwrap_err().contains("--image"));
        let nowhere = own_image(&Server::default().client(), &options()).await.unwrap_err().to_string();
        assert!(nowhere.contains("'operator-0'") && nowhere.contains("not found"), "{nowhere}");
    }
}
