//! What a model's plugin may reach outside of its sandbox, as its resource says it.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What a model may reach outside of its sandbox, of what its package asks for. Who may write this resource may grant it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grants {
    /// Hosts that it may ask over HTTP: `[SCHEME://]HOST[:PORT]`, where HOST may begin with `*.`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub http: Vec<String>,
    /// Variables of its environment, and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets by the names that the package gives them. The pool must name their Secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, GrantedSecret>,
    /// Whether it may read the folder of its package that it asks for.
    #[serde(default)]
    pub folder: bool,
    /// Models of the same pool that it may call: names, in which `*` and `?` stand for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub models: Vec<String>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantedSecret {
    /// The Secret, one of those that the pool names.
    pub secret: String,
    /// The key in it.
    pub key: String,
}
