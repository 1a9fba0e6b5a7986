//! `ModelPool`: pods that share models.

use k8s_openapi::api::autoscaling::v2::MetricSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::condition::Conditions;
use crate::pods::PodSettings;

/// Pods that serve models together: each can serve all of the pool's, and loads those that it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "vespid.dev",
    version = "v1alpha1",
    kind = "ModelPool",
    plural = "modelpools",
    singular = "modelpool",
    shortname = "vmp",
    category = "vespid",
    namespaced,
    status = "ModelPoolStatus",
    derive = "PartialEq",
    doc = "Pods that serve models together.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Up", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Models", type_ = "integer", json_path = ".status.models"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // The name of a Service begins with a letter.
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: a pool's name has at most 50 characters, which are a-z, 0-9 and '-', and begins with a letter, since it becomes the name of a Service and a label")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.replicas) && has(self.autoscaling))")
        .message("replicas: leave it out where autoscaling is set, which says how many there are"),
    // An autoscaler aims at a part of what pods request, and stands still without it.
    validation = Rule::new("!has(self.autoscaling) || self.autoscaling.maxReplicas == 1 || \
        (has(self.autoscaling.metrics) && self.autoscaling.metrics.size() > 0) || \
        (has(self.pods) && has(self.pods.resources) && ((has(self.pods.resources.requests) && 'cpu' in self.pods.resources.requests) || \
        (has(self.pods.resources.limits) && 'cpu' in self.pods.resources.limits)))")
        .message("autoscaling: pods.resources.requests.cpu is missing, which the processor time is held against; or name other metrics")
)]
pub struct ModelPoolSpec {
    /// How many pods; 1 where neither this nor autoscaling is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// How many pods there are at which load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// What the models of a pod may take up together, such as `8Gi`: the one that was asked longest ago gives way. Two thirds of
    /// the memory limit where that is set and this is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<Quantity>,
    /// Where packages and compiled code are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheVolume>,
    /// Secrets that models of this pool may be granted keys of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub secrets: Vec<String>,
    /// A ConfigMap with the key `limits.yaml`: how much each model and each tenant may use of a pod. Pods do not begin without it,
    /// and read it when they begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub limits: Option<String>,
    /// How many requests of a pod may be in flight, waiting ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<i32>,
    /// How long requests in flight may take to end when a pod goes.
    #[serde(default = "drain")]
    #[schemars(range(min = 1, max = 3600))]
    pub drain_seconds: i32,
    /// How many pods may be away at once while nodes are emptied; one where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// How its pods are replaced when they change: a quarter more than there are to be at once, and none away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// How its pods are made.
    #[serde(default)]
    pub pods: PodSettings,
}

fn drain() -> i32 {
    30
}

/// How many pods there are at which load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas")
        .message("autoscaling: minReplicas is at most maxReplicas")
)]
pub struct Autoscaling {
    /// The fewest pods. With 0 the pool has none when nothing was asked for `idleSeconds`, and the gateway wakes it.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// The most pods.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// The processor time that is aimed at, of a hundred of what the pods request.
    #[serde(default = "eighty")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_utilization: i32,
    /// Metrics in its place, as a HorizontalPodAutoscaler has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSpec>,
    /// How long nothing has to be asked before the last pod goes, with `minReplicas: 0`.
    #[serde(default = "idle")]
    #[schemars(range(min = 10, max = 604_800))]
    pub idle_seconds: i32,
}

fn one() -> i32 {
    1
}

fn eighty() -> i32 {
    80
}

fn idle() -> i32 {
    600
}

/// Where packages and compiled code are kept: of a pod alone, or of all pods of a node, or of all that mount a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.hostPath) && has(self.claim))")
        .message("cache: name one of hostPath and claim, or neither for a volume that goes with the pod")
)]
pub struct CacheVolume {
    /// The most that a volume that goes with the pod may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// A folder of the node, which its pods share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^/.+$"))]
    pub host_path: Option<String>,
    /// A PersistentVolumeClaim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
}

/// How many pods may be away at once while nodes are emptied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Disruption {
    /// A number, or a part of the pods such as `25%`.
    pub max_unavailable: IntOrString,
}

/// How pods are replaced. One of both is above 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// How many more than there are to be, a number or a part such as `25%`, which it is where it is not said. With 0 a pod goes before
    /// another comes, as where no machine has room for one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
    /// How many fewer that answer, a number or a part; none where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}

/// What is so of a pool. The gateway writes `asked` and `wake`, and the operator the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelPoolStatus {
    /// The generation of the specification that the rest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether it has a pod that answers. `Accepted`: whether the cluster takes all that is made of it, and if not, why.
    /// `Progressing`: whether its pods are as it says or become so, and if that takes too long, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Conditions,
    /// Pods that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// What selects its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Models that name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<i32>,
    /// When it was last asked, to about a minute, where it may have no pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Time>,
    /// When a call last waited for it that found no pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<Time>,
}
