//! The way to a cluster's API server, for the commands that read and write its resources.
//!
//! Contract: the cluster, the namespace and who the user is are those of kubectl (`KUBECONFIG`, the current context), or in a
//! pod those of its account. What the API server says is told with what was asked of it.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Api, Client, Config};
use tokio::runtime::{Builder, Runtime};

use crate::failure::{Failure, Hint as _};

/// How long the API server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The namespace [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
}

/// A namespace of a cluster.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    namespace: String,
}

impl Cluster {
    /// The namespace that the user means. Nothing is asked yet.
    pub(crate) fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("no threads to run on")?;
        let mut config = runtime.block_on(config(args))?;
        config.connect_timeout = Some(TIMEOUT);
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = {
            // What serves the connection is a task of the runtime's.
            let _inside = runtime.enter();
            Client::try_from(config).context("the kubeconfig cannot be used")?
        };
        Ok(Self { runtime, client, namespace })
    }

    /// Its name.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The resources of a kind in it.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for what is asked.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// The cluster that is meant where nobody names one.
pub(crate) async fn infer() -> anyhow::Result<Config> {
    Ok(Config::infer().await.hint("no cluster is known", "set KUBECONFIG, or run it in a pod")?)
}

async fn config(args: &ClusterArgs) -> anyhow::Result<Config> {
    let Some(context) = &args.context else { return infer().await };
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let kubeconfig = Kubeconfig::read().hint("no cluster is known", "set KUBECONFIG")?;
    let hint = "`kubectl config get-contexts` lists those that there are";
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Ok(config.hint(format!("the context {context} cannot be used"), hint)?)
}

/// What an error of the API server means for the user.
pub(crate) fn failure(error: kube::Error, what: impl Into<String>) -> anyhow::Error {
    let what = what.into();
    match error {
        kube::Error::Api(status) => {
            let failure = Failure::new(format!("{what}: {}", status.message.trim()));
            match remedy(&status) {
                Some(hint) => failure.hint(hint).into(),
                None => failure.into(),
            }
        }
        error => match Err::<(), _>(error).hint(what, "check that the cluster answers: `kubectl version`") {
            Ok(()) => anyhow::anyhow!("nothing failed"),
            Err(failure) => failure.into(),
        },
    }
}

fn remedy(status: &Status) -> Option<&'static str> {
    Some(match status.code {
        401 => "log in to the cluster anew",
        403 => "ask whoever runs the cluster for the right to do this, or name another --namespace",
        // That of a resource which is not there has a name in its details.
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            "the cluster does not know Vespid's resources: install the chart, or `vespid crds | kubectl apply --server-side -f -`"
        }
        409 => "somebody else has set this: change it with the tool that did, or leave it out here",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: serde_json::Value) -> (String, bool) {
        let status: Status = serde_json::from_value(status).unwrap();
        let hinted = remedy(&status).is_some();
        (failure(kube::Error::Api(status.boxed()), "the models cannot be listed").to_string(), hinted)
    }

    #[test]
    fn a_refusal_is_told_in_the_api_server_s_words() {
        let message =
            "Model.vespid.dev \"iris\" is invalid: spec: Invalid value: versions: one must be above 0";
        let told = refused(serde_json::json!({"code": 422, "message": message}));
        assert_eq!(told, (format!("the models cannot be listed: {message}"), false));
        let unknown = serde_json::json!({"code": 404, "message": "404 page not found"});
        assert!(refused(unknown).1);
        let gone =
            serde_json::json!({"code": 404, "message": "models \"a\" not found", "details": {"name": "a"}});
        assert!(!refused(gone).1);
    }
}
