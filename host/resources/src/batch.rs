//! `BatchPrediction`: a model is asked for every row of files, once.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::condition::Conditions;
use crate::pods::PodSettings;

/// A job over files: what `vespid batch` does, by the pods of an Indexed Job. What is asked for does not change afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "vespid.dev",
    version = "v1alpha1",
    kind = "BatchPrediction",
    plural = "batchpredictions",
    singular = "batchprediction",
    shortname = "vbp",
    category = "vespid",
    namespaced,
    status = "BatchPredictionStatus",
    derive = "PartialEq",
    doc = "A job over files.",
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.report.rows"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type==\"Complete\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: a job's name has at most 50 characters, which are a-z, 0-9 and '-', since it becomes a label")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.model == oldSelf.model && self.input == oldSelf.input && self.output == oldSelf.output && self.parallelism == oldSelf.parallelism")
        .message("model, input, output and parallelism do not change once the job is there: make another one")
)]
pub struct BatchPredictionSpec {
    /// The `Model`, in the same namespace, whose package is asked.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// Its version; the one with the greatest weight, or the greatest, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,
    /// What is read.
    pub input: BatchInput,
    /// The columns that make each input of the model; the column of the input's name where it is not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Vec<String>>,
    /// The outputs that are written, and the column of each; all of them by their own names where it is empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// Outputs of datatype BYTES that are written as bytes; the others as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binary: Vec<String>,
    /// The columns that are written beside the outputs; all of them where it is not said, none where it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<String>>,
    /// What is written.
    pub output: BatchOutput,
    /// How many rows may fail: a number, or a part of the rows such as `0.5%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?%?$"))]
    pub max_errors: Option<String>,
    /// Rows of one call of the model, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rows_per_call: Option<u32>,
    /// Whether the first dimension of the model's tensors is one of rows; what the signature suggests where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batched: Option<bool>,
    /// Pods that share the parts.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallelism: i32,
    /// How often the pod of each share may fail before the job does.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 100))]
    pub retries: i32,
    /// How long the job's pods stay when it has ended, in seconds; for good where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds: Option<i32>,
    /// Whether it is held: its pods end what is in hand, and go on when this is false again.
    #[serde(default)]
    pub suspend: bool,
    /// How its pods are made; as those of the model's pool where it is not said.
    #[serde(default)]
    pub pods: PodSettings,
}

fn one() -> i32 {
    1
}

fn three() -> i32 {
    3
}

/// The files that a job reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchInput {
    /// Files, folders or globs: `s3://`, `gs://`, `az://`, or paths in volumes that the pods have.
    #[schemars(length(min = 1, max = 256))]
    pub urls: Vec<String>,
    /// Their format; what their names say where it is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// The rows that are wanted: a condition as after WHERE in SQL.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Types of columns of CSV and JSON Lines, in the place of text and of what is found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
}

/// The files that a job writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BatchOutput {
    /// A folder: `s3://`, `gs://`, `az://`, or a path in a volume that the pods have.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Their format; that of the input where it is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// What is so of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchPredictionStatus {
    /// The generation of the specification that the rest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Complete`: whether all rows were asked, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Conditions,
    /// `Waiting`, `Running`, `Suspended`, `Complete` or `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Pods that are done with their share, of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<String>,
    /// The version that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What was done, when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<BatchReport>,
}

/// What a job has done: of the report that stands beside its output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchReport {
    /// Rows that were asked and answered.
    pub rows: i64,
    /// Rows that failed.
    pub failed: i64,
    /// Parts of the output.
    pub parts: i64,
}
