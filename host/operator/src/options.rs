//! What an operator is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;

/// What an operator is told.
#[derive(Clone, Debug)]
pub struct OperatorOptions {
    /// The namespace whose resources it looks after, and in which everything is made.
    pub namespace: String,
    /// This process, among those that want to lead: the pod's name.
    pub identity: String,
    /// The image of pods whose resource names none; that of the operator's own pod, which `identity` names, where it is not said.
    pub image: Option<String>,
    /// When it is pulled: `Always`, `IfNotPresent` or `Never`; what Kubernetes does where it is not said.
    pub image_pull_policy: Option<String>,
    /// Secrets that it is pulled with.
    pub image_pull_secrets: Vec<String>,
    /// The Role that the account of each pool's pods is bound to: it lets them watch models and write their status.
    pub host_role: String,
    /// Where pods fetch uploaded packages: `http://HOST:PORT` of the gateway.
    pub packages: Option<String>,
    /// A ConfigMap that declares pools: each key is a pool's name, and its text the specification in YAML. They go with it.
    pub pools: Option<String>,
    /// Who reaches the pods of pools.
    pub peers: Peers,
    /// Variables of each pod's container; those of a resource go before them.
    pub env: Vec<EnvVar>,
    /// How long a pod that goes still answers before it drains: so long it takes until nobody is sent to it any more. Nothing is
    /// said of it to the cluster where it is zero.
    pub pre_stop: Duration,
    /// Where probes reach the operator, and what collects metrics; nowhere where it is not said.
    pub admin: Option<SocketAddr>,
}

/// Who reaches the pods of pools, by the labels of their pods.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The gateway: the ports for clients.
    pub gateway: BTreeMap<String, String>,
    /// The operator: all ports.
    pub operator: BTreeMap<String, String>,
    /// Whether all pods of the cluster reach the port with the metrics.
    pub metrics: bool,
}

impl Default for Peers {
    fn default() -> Self {
        let component =
            |name: &str| BTreeMap::from([("app.kubernetes.io/component".to_owned(), name.to_owned())]);
        Self { gateway: component("gateway"), operator: component("operator"), metrics: true }
    }
}
