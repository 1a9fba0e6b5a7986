//! `Model`: what is served, of which packages, and by how many pods of a pool.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Conditions;
use crate::grants::Grants;

/// A model that a pool serves. Its name is the name that requests have, and that its packages say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "vespid.dev",
    version = "v1alpha1",
    kind = "Model",
    plural = "models",
    singular = "model",
    shortname = "vm",
    category = "vespid",
    namespaced,
    status = "ModelStatus",
    derive = "PartialEq",
    doc = "A model: its packages, and the pool that serves it.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.readyReplicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Versions", type_ = "string", json_path = ".status.serving"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name: a model's name has at most 63 characters here")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.shadow) || self.versions.exists(v, v.version == self.shadow.version)")
        .message("shadow.version: name one of the versions"),
    validation = Rule::new("!self.versions.exists(v, has(v.weight)) || self.versions.exists(v, has(v.weight) && v.weight > 0)")
        .message("versions: where weights are given, one of them must be above 0")
)]
pub struct ModelSpec {
    /// The pool that serves it, in the same namespace.
    #[serde(default = "default_pool")]
    #[schemars(length(min = 1, max = 50))]
    pub pool: String,
    /// Its versions.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub versions: Vec<ModelVersion>,
    /// A version that gets copies of requests, whose answers are compared and counted and never returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// Pods that load it before it is asked, and keep it. A pod that is asked for it loads it as well. With 0 it is loaded
    /// by none but those that are asked.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// What its plugin may reach outside of its sandbox; nothing but its own package where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<Grants>,
}

fn default_pool() -> String {
    "default".to_owned()
}

fn one() -> i32 {
    1
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    // The word is one of CEL's own, and is written so there.
    validation = Rule::new("self.__package__ == oldSelf.__package__")
        .message("package: a version is never overwritten; add another version in its place")
)]
pub struct ModelVersion {
    /// The version that its package says.
    #[schemars(range(min = 1))]
    pub version: i64,
    /// Where its package is.
    pub package: PackageSource,
    /// Its share of the requests that name no version, of the sum of all. Where no version has one, the greatest that is ready
    /// answers them all; otherwise one without a weight, or with 0, answers where it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
}

/// Where a package is: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("[has(self.oci), has(self.store), has(self.upload)].filter(is, is).size() == 1")
        .message("package: name one of oci, store and upload")
)]
pub struct PackageSource {
    /// In a registry: `oci://HOST/REPOSITORY` with `:TAG` or `@DIGEST`. A tag is read once: what it led to is kept in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^oci://[^/]+/.+$"))]
    pub oci: Option<String>,
    /// In a store of Vespid in an object store, under the model's name and version: `s3://BUCKET/PREFIX`, `gs://` or `az://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(s3|gs|az)://.+$"))]
    pub store: Option<String>,
    /// Uploaded to the gateway: the digest of the package. The gateway writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub upload: Option<String>,
}

/// A version that is tried on real requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// The version.
    #[schemars(range(min = 1))]
    pub version: i64,
    /// Of how many of a hundred requests it gets a copy.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,
}

fn hundred() -> i32 {
    100
}

/// What is so of a model. The pods write their own entries in `pods`, and the operator the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The generation of the specification that the rest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether requests for it are answered, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Conditions,
    /// Pods that have it in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// What selects the pods of its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The versions that answer, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// Its versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub versions: Vec<VersionStatus>,
    /// What pods say of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pod".into()]))]
    pub pods: Vec<PodModel>,
}

/// What is so of a version in all pods together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// The version.
    pub version: i64,
    /// The digest that its package had when it was first read. Pods that come later take no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Pods that have it in memory.
    #[serde(default)]
    pub ready: i32,
    /// What keeps it from being served, where something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What one pod says of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodModel {
    /// The pod's name.
    pub pod: String,
    /// The versions that it has in memory, is loading, or cannot load. Others it loads when they are asked.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub versions: Vec<PodVersion>,
}

/// What one pod says of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodVersion {
    /// The version.
    pub version: i64,
    /// How far it is.
    pub state: PodVersionState,
    /// The digest of the package that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a pod is with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodVersionState {
    /// Its package is being fetched, or it is being compiled and warmed up.
    Loading,
    /// In memory: requests are answered at once.
    Ready,
    /// It answers when it is asked, after it was loaded.
    Listed,
    /// It does not load.
    Failed,
}
