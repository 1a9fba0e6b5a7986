//! `StreamPrediction`: a model is asked for every message of a topic, for as long as the resource is there.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Conditions;
use crate::pods::PodSettings;

/// A stream: what `vespid stream` does, by the pods of a Deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "vespid.dev",
    version = "v1alpha1",
    kind = "StreamPrediction",
    plural = "streampredictions",
    singular = "streamprediction",
    shortname = "vsp",
    category = "vespid",
    namespaced,
    status = "StreamPredictionStatus",
    derive = "PartialEq",
    doc = "A model that is asked for every message of a topic.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lag"),
    printcolumn(name = "Why", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name: a stream's name has at most 50 characters, which are a-z, 0-9 and '-', since it becomes a label")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!(has(self.replicas) && has(self.scaling))")
        .message("replicas: leave it out where scaling is set, which says how many there are"),
    validation = Rule::new("!self.exactlyOnce || (has(self.source.kafka) && has(self.sink.kafka))")
        .message("exactlyOnce: source and sink must both be kafka")
)]
pub struct StreamPredictionSpec {
    /// The `Model`, in the same namespace, whose package is asked.
    #[schemars(length(min = 1, max = 63))]
    pub model: String,
    /// Its version; the one with the greatest weight, or the greatest, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,
    /// Where messages come from.
    pub source: StreamSource,
    /// Where answers go.
    pub sink: StreamSink,
    /// The fields that make each input of the model; the field of the input's name where it is not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Vec<String>>,
    /// The outputs that are written, and the field of each; all of them by their own names where it is empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    /// The fields of a JSON message that are written beside the outputs; none where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<String>>,
    /// Whether the first dimension of the model's tensors is one of rows; what the signature suggests where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batched: Option<bool>,
    /// Messages that are predicted together, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_rows: Option<u32>,
    /// How long messages wait for others to be predicted with, such as `5ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<String>,
    /// Calls of a partition at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: Option<u32>,
    /// What keeps its order.
    #[serde(default)]
    pub order: Order,
    /// Whether answers and offsets are committed in one transaction.
    #[serde(default)]
    pub exactly_once: bool,
    /// What is done with messages that fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// How the state of keys is kept, where the model keeps some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// How long what is in hand may take to end when a pod goes.
    #[serde(default = "drain")]
    #[schemars(range(min = 1, max = 3600))]
    pub drain_seconds: i32,
    /// How many pods; 1 where neither this nor scaling is set. More than there are partitions have nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<i32>,
    /// How many pods there are at which lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<LagScaling>,
    /// How its pods are made; as those of the model's pool where it is not said.
    #[serde(default)]
    pub pods: PodSettings,
}

fn drain() -> i32 {
    20
}

/// What keeps its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The messages of a partition.
    #[default]
    Partition,
    /// The messages of a key: those of others need not wait for them.
    Key,
}

/// What the bytes of a message are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// A JSON object, whose fields are inputs or outputs.
    #[default]
    Json,
    /// The one element of the one input, or output, of datatype BYTES.
    Raw,
    /// Arrow's IPC stream of rows.
    Arrow,
}

/// Where messages come from: one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.kafka) != has(self.nats)").message("source: name one of kafka and nats"))]
pub struct StreamSource {
    /// A consumer group of Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
    /// A durable consumer of NATS JetStream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSource>,
    /// What the messages are.
    #[serde(default)]
    pub codec: Codec,
}

/// Where answers go: one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.kafka) != has(self.nats)").message("sink: name one of kafka and nats"))]
pub struct StreamSink {
    /// A producer of Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSink>,
    /// Subjects that NATS JetStream keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSink>,
    /// What the messages are.
    #[serde(default)]
    pub codec: Codec,
}

/// A consumer group of Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSource {
    /// Brokers, as HOST:PORT.
    #[schemars(length(min = 1, max = 64))]
    pub brokers: Vec<String>,
    /// The topics.
    #[schemars(length(min = 1, max = 256))]
    pub topics: Vec<String>,
    /// The group; the resource's name where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where the group begins that has committed nothing.
    #[serde(default)]
    pub start: Start,
    /// More of librdkafka's properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Properties whose values are keys of Secrets, such as `sasl.password`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_properties: BTreeMap<String, SecretValue>,
}

/// Where a group begins that has committed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the first message that is there.
    #[default]
    Earliest,
    /// With the next one.
    Latest,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretValue {
    /// The Secret, in the same namespace.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// A producer of Kafka.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSink {
    /// Brokers; those of the source where they are not said, with its properties.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brokers: Vec<String>,
    /// The topic of the answers.
    #[schemars(length(min = 1))]
    pub topic: String,
    /// The topic of messages that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// More of librdkafka's properties.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// Properties whose values are keys of Secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_properties: BTreeMap<String, SecretValue>,
}

/// A durable consumer of NATS JetStream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatsSource {
    /// Servers, as nats://HOST:PORT or tls://HOST:PORT.
    #[schemars(length(min = 1, max = 64))]
    pub servers: Vec<String>,
    /// The key of a Secret that holds a file with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretValue>,
    /// The stream.
    #[schemars(length(min = 1))]
    pub stream: String,
    /// The subject, which may have wildcards; all of the stream's where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The durable consumer; the resource's name where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
}

/// Subjects that NATS JetStream keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatsSink {
    /// Servers; those of the source where they are not said, with its credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// The key of a Secret that holds a file with credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretValue>,
    /// The subject of the answers.
    #[schemars(length(min = 1))]
    pub subject: String,
    /// The subject of messages that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
}

/// What is done with a message that failed, by the class of the failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OnError {
    /// Its bytes are not what the codec says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<Action>,
    /// The model refuses its values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Action>,
    /// The model fails over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Action>,
    /// The model does not answer in its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Action>,
    /// The answer cannot be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encode: Option<Action>,
}

/// What is done with a message that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// It goes where failed messages go, with the error.
    DeadLetter,
    /// It is counted, and that is all.
    Skip,
    /// The stream stops before it.
    Stop,
}

/// How the state of keys is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sessions {
    /// A key that has no message for so long, by the messages' timestamps, begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// Keys of a partition that have an instance at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max: Option<u32>,
    /// A bucket where the state of keys is saved, for plugins that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<String>,
    /// How often it is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
}

/// How many pods there are at which lag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message("scaling: minReplicas is at most maxReplicas")
)]
pub struct LagScaling {
    /// The fewest pods. With 0 there is none when nothing has waited for `idleSeconds`, and one looks for messages each
    /// `lookSeconds`.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// The most pods. There are never more than partitions.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Messages that wait for one pod: there are as many pods as the lag has this.
    #[serde(default = "thousand")]
    #[schemars(range(min = 1))]
    pub lag: i64,
    /// How long nothing has to wait before the last pod goes.
    #[serde(default = "idle")]
    #[schemars(range(min = 10, max = 604_800))]
    pub idle_seconds: i32,
    /// How often a pod looks for messages while there is none.
    #[serde(default = "look")]
    #[schemars(range(min = 10, max = 604_800))]
    pub look_seconds: i32,
}

fn one() -> i32 {
    1
}

fn thousand() -> i64 {
    1000
}

fn idle() -> i32 {
    600
}

fn look() -> i32 {
    300
}

/// What is so of a stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamPredictionStatus {
    /// The generation of the specification that the rest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: whether messages are answered, and if not, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Conditions,
    /// Pods that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What selects its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Messages that wait, when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Partitions that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,
    /// The version that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}
