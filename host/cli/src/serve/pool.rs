//! A pod of a pool: the server serves what the `Model`s of its cluster say, and tells in their statuses how far it is.
//!
//! Contract: see [`work`]. The pod is ready when it has seen its cluster, and each model that it is to load before it is asked has
//! been loaded, or cannot be. Cost: two watches, and a write when something about a model changes. Left out on purpose: which pods
//! there are, and how requests come to them (operator and gateway).

mod plan;
mod present;
mod report;
mod state;
mod supply;
mod watch;
mod work;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use kube::{Api, Client};
use tokio::task::JoinHandle;
use url::Url;
use vespid_limits::Limits;
use vespid_package::oci::Registry;
use vespid_package::{Permissions, SharedCache, Store, StoreLocation};
use vespid_serving::{Predictor, Repository, Supplier};

use self::plan::Identity;
use self::report::Reporter;
use self::supply::{Origins, Packages};
use self::watch::View;
use self::work::Worker;
use crate::cluster;
use crate::failure::Failure;

/// Of which pool a server is a pod.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pods of a cluster")]
pub(super) struct PoolArgs {
    /// The ModelPool that this server is a pod of: it serves the Models of that pool, and no others; --store is the folder
    /// for what the pod keeps of them
    #[arg(
        long = "pool",
        value_name = "NAME",
        conflicts_with_all = ["model_control", "poll_interval", "load_model", "load", "package", "registry"]
    )]
    name: Option<String>,
    /// The namespace of the pool [default: that of the pod's account, or of the kubeconfig]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", hide_env_values = true)]
    namespace: Option<String>,
    /// The name of this pod
    #[arg(long, value_name = "POD", env = "POD_NAME", hide_env_values = true)]
    pod_name: Option<String>,
    /// Where the gateway gives uploaded packages, such as http://vespid-gateway-packages:8003
    #[arg(long, value_name = "URL", requires = "name")]
    packages: Option<Url>,
    /// The folder of the Secrets that the pool names, a folder each with a file for each key
    #[arg(long, value_name = "DIR", requires = "name", default_value = "/var/run/vespid/secrets")]
    granted_secrets: PathBuf,
}

/// What a pod has before it serves.
pub(super) struct Joining {
    me: Identity,
    namespace: String,
    client: Client,
    packages: Arc<Packages>,
}

/// A pod that follows its cluster.
pub(super) struct Pod(JoinHandle<()>);

impl PoolArgs {
    /// Whether this server is a pod of a pool, with such a store.
    pub(super) fn is_given(&self, store: &StoreLocation) -> anyhow::Result<bool> {
        if self.name.is_none() {
            return Ok(false);
        }
        if let StoreLocation::Bucket(_) = store {
            let message = "--store: of a pod it is a folder, for what the pod keeps of its packages";
            return Err(Failure::usage(message).hint("name a bucket in the Models, as package.store").into());
        }
        if self.pod_name.as_ref().is_none_or(String::is_empty) {
            let hint = "set POD_NAME and POD_NAMESPACE from metadata.name and metadata.namespace";
            return Err(Failure::usage("--pod-name is missing").hint(hint).into());
        }
        Ok(true)
    }

    /// Finds out which pod this is, of which pool; none where it is of none.
    pub(super) async fn join(
        &self,
        store: &Arc<Store>,
        permissions: &Permissions,
        registry: &Registry,
        (shared, max_package): (Option<&SharedCache>, ByteSize),
    ) -> anyhow::Result<Option<Joining>> {
        let (Some(pool), Some(pod)) = (self.name.clone(), self.pod_name.clone()) else { return Ok(None) };
        let config = cluster::infer().await?;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the way to the API server cannot be used")?;
        let origins = Origins {
            registry: registry.clone(),
            uploads: self.packages.clone(),
            shared: shared.cloned(),
            max_package,
        };
        let packages = Packages::new(Arc::clone(store), permissions.clone(), origins);
        Ok(Some(Joining { me: Identity { pool, pod }, namespace, client, packages }))
    }

    /// Begins to follow the cluster.
    pub(super) fn follow(
        &self,
        joining: Joining,
        predictor: &Predictor,
        repository: &Repository,
        limits: Limits,
        stopping: tokio::sync::watch::Receiver<bool>,
    ) -> Pod {
        let Joining { me, namespace, client, packages } = joining;
        tracing::info!(pool = me.pool, pod = me.pod, namespace, "follows the cluster");
        let view = Arc::new(View::open(&client, &namespace, &me.pool));
        let reporter =
            Reporter { api: Api::namespaced(client, &namespace), me: me.clone(), view: Arc::clone(&view) };
        let worker = Worker {
            predictor: predictor.clone(),
            repository: repository.clone(),
            packages,
            limits,
            view,
            me,
            secrets: self.granted_secrets.clone(),
        };
        Pod(tokio::spawn(work::run(worker, reporter, stopping)))
    }
}

impl Joining {
    /// What brings packages into the store.
    pub(super) fn supplier(&self) -> Arc<dyn Supplier> {
        Arc::clone(&self.packages) as Arc<dyn Supplier>
    }
}

impl Pod {
    /// Waits until it has taken back what it said of its models, after the server was told to end.
    pub(super) async fn left(self) {
        if let Err(error) = self.0.await {
            tracing::error!("following the cluster failed: {error}");
        }
    }
}
