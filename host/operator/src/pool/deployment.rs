//! The Deployment of a pool: pods that run `vespid serve --pool`.
//!
//! Contract: no call is lost while pods are replaced. A new pod gets requests when it is ready, one that goes gets none before it
//! drains, and there are never fewer than asked for but where the pool's `rollout` says so.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use vespid_resources::{CacheVolume, ModelPool, Rollout, names};

use crate::OperatorOptions;
use crate::metadata::{self, Component};
use crate::pods::{Pods, config, everywhere, mount, secret};
use crate::quantity;

/// Where a pod has what it serves: its own, for a folder is one server's.
const STORE: &str = "/var/lib/vespid/store";

/// Where pods of a node share packages and compiled code.
const SHARED: &str = "/var/cache/vespid";

/// Where pods have the Secrets that models may be granted keys of: a folder each.
const SECRETS: &str = "/etc/vespid/secrets";

/// Where pods have the ConfigMap of their limits.
const LIMITS: &str = "/etc/vespid/limits";

/// The Deployment, without the number of its pods.
pub(super) fn deployment(pool: &ModelPool, options: &OperatorOptions) -> Deployment {
    let owner = pool.name_any();
    let pods = Pods {
        options,
        settings: &pool.spec.pods,
        component: Component::Pool,
        owner: &owner,
        args: args(pool, options),
        env: Vec::new(),
        ports: &[names::HTTP_PORT, names::GRPC_PORT, names::ADMIN_PORT],
        volumes: volumes(pool),
        size: pool.spec.cache.as_ref().and_then(|cache| cache.size.clone()),
        drain: pool.spec.drain_seconds.into(),
        pre_stop: i64::try_from(options.pre_stop.as_secs()).unwrap_or(0),
        token: true,
        account: Some(names::of_pool(&owner)),
        restart: "Always",
        probes: true,
        annotations: BTreeMap::new(),
    };
    Deployment {
        metadata: metadata::of(pool, Component::Pool, names::of_pool(&owner)),
        spec: Some(DeploymentSpec {
            selector: metadata::selector(Component::Pool, &owner),
            template: pods.template(),
            strategy: Some(strategy(pool)),
            revision_history_limit: Some(3),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// How pods are replaced: as the pool says, else so that there are never fewer than asked for.
fn strategy(pool: &ModelPool) -> DeploymentStrategy {
    let Rollout { max_surge, max_unavailable } = pool.spec.rollout.clone().unwrap_or_default();
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: max_surge.or_else(|| Some(IntOrString::String("25%".to_owned()))),
            max_unavailable: max_unavailable.or(Some(IntOrString::Int(0))),
        }),
    }
}

fn args(pool: &ModelPool, options: &OperatorOptions) -> Vec<String> {
    let spec = &pool.spec;
    // The gateway asks who may, and the NetworkPolicy lets nobody else in.
    let mut args: Vec<String> = vec!["serve".to_owned(), "--no-authentication".to_owned()];
    let mut option = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    option("pool", pool.name_any());
    option("store", STORE.to_owned());
    option("http", everywhere(names::HTTP_PORT));
    option("grpc", everywhere(names::GRPC_PORT));
    option("admin", everywhere(names::ADMIN_PORT));
    option("drain", format!("{}s", spec.drain_seconds));
    option("log-format", "json".to_owned());
    if let Some(budget) = memory_budget(pool) {
        option("memory-budget", format!("{budget}B"));
    }
    if let Some(max) = spec.max_in_flight {
        option("max-in-flight", max.to_string());
    }
    if let Some(packages) = &options.packages {
        option("packages", packages.clone());
    }
    if !spec.secrets.is_empty() {
        option("granted-secrets", SECRETS.to_owned());
    }
    if spec.limits.is_some() {
        option("limits", format!("{LIMITS}/limits.yaml"));
    }
    if shared(pool).is_some() {
        option("shared-cache", SHARED.to_owned());
    }
    args
}

/// What models may take up together: as it is said, else two thirds of what the pod may.
fn memory_budget(pool: &ModelPool) -> Option<u64> {
    if let Some(budget) = &pool.spec.memory_budget {
        return quantity::bytes(budget);
    }
    let limits = pool.spec.pods.resources.as_ref()?.limits.as_ref()?;
    Some(quantity::bytes(limits.get("memory")?)? / 3 * 2)
}

fn volumes(pool: &ModelPool) -> Vec<(Volume, VolumeMount)> {
    let granted = pool.spec.secrets.iter().enumerate().map(|(number, name)| {
        // A Secret's name may have dots, and more letters than a volume's.
        let (mut volume, mount) =
            secret(&format!("secret-{number}"), name, None, &format!("{SECRETS}/{name}"));
        if let Some(source) = &mut volume.secret {
            // One that is not there keeps the models from loading that are granted it, and not the pod.
            source.optional = Some(true);
        }
        (volume, mount)
    });
    let limits = pool.spec.limits.as_ref().map(|name| config(name, LIMITS));
    granted.chain(limits).chain(shared(pool)).collect()
}

/// What pods share, where the pool says so.
fn shared(pool: &ModelPool) -> Option<(Volume, VolumeMount)> {
    let CacheVolume { host_path, claim, .. } = pool.spec.cache.as_ref()?;
    let volume = Volume { name: "shared".to_owned(), ..Volume::default() };
    let volume = match (host_path, claim) {
        (Some(path), _) => {
            // Who makes the folder gives it to the user of the pods; Kubernetes would make one that is root's.
            let host_path = HostPathVolumeSource { path: path.clone(), type_: Some("Directory".to_owned()) };
            Volume { host_path: Some(host_path), ..volume }
        }
        (_, Some(claim)) => {
            let claim = PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: None };
            Volume { persistent_volume_claim: Some(claim), ..volume }
        }
        (None, None) => return None,
    };
    Some((volume, mount("shared", SHARED, false)))
}
