//! The stream, as `vespid stream` reads it.

use std::collections::BTreeMap;

use serde::Serialize;
use vespid_resources::{
    Action, Codec, KafkaSink, KafkaSource, NatsSink, NatsSource, OnError, Order, SecretValue, Sessions,
    Start, StreamPrediction, StreamPredictionSpec, StreamSink, StreamSource,
};

use crate::OperatorError;
use crate::batch::Keep;
use crate::package::Package;

/// The file in a folder that has NATS's credentials.
pub(super) const CREDENTIALS: &str = "credentials";

/// One end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Sink,
}

impl Side {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }
}

/// The variable that has the value of a property: `sasl.password` of the source is `VESPID_SOURCE_SASL_PASSWORD`.
pub(super) fn variable(side: Side, property: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let property: String = property.chars().map(letter).collect();
    format!("VESPID_{}_{property}", side.name().to_ascii_uppercase())
}

/// Where NATS's credentials are.
pub(super) fn credentials_folder(side: Side) -> String {
    format!("/etc/vespid/nats/{}", side.name())
}

#[derive(Serialize)]
struct Stream<'a> {
    name: &'a str,
    model: &'a str,
    version: String,
    source: End<KafkaIn<'a>, NatsIn<'a>>,
    sink: End<KafkaOut<'a>, NatsOut<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    inputs: &'a BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    outputs: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<Keep<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batched: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rows: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_wait: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    order: Order,
    exactly_once: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    on_error: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<Kept<'a>>,
    drain: String,
}

#[derive(Serialize)]
struct End<K, N> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka: Option<K>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nats: Option<N>,
    codec: Codec,
}

#[derive(Serialize)]
struct KafkaIn<'a> {
    brokers: &'a [String],
    topics: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    start: Start,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<&'a str, Value<'a>>,
}

#[derive(Serialize)]
struct KafkaOut<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    brokers: &'a [String],
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transactional_id: Option<Value<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<&'a str, Value<'a>>,
}

#[derive(Serialize)]
struct NatsIn<'a> {
    servers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<String>,
    stream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<&'a str>,
}

#[derive(Serialize)]
struct NatsOut<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    servers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<String>,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(&'a str),
    Env { env: String },
}

#[derive(Serialize)]
struct Kept<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<&'a str>,
}

/// The stream as YAML: a `stream.yaml` of `vespid stream`. Values that are secret are named by variables.
///
/// # Errors
/// [`OperatorError::Render`], where it cannot be written.
pub fn stream_yaml(stream: &StreamPrediction, package: &Package) -> Result<String, OperatorError> {
    let StreamPredictionSpec {
        source,
        sink,
        inputs,
        outputs,
        keep,
        batched,
        max_rows,
        max_wait,
        concurrency,
        order,
        exactly_once,
        on_error,
        sessions,
        drain_seconds,
        ..
    } = &stream.spec;
    let written = Stream {
        name: stream.metadata.name.as_deref().unwrap_or_default(),
        model: &package.model,
        version: package.version.to_string(),
        source: read(source),
        sink: write(sink, *exactly_once),
        inputs,
        outputs,
        keep: keep.as_deref().map(Keep::of),
        batched: *batched,
        max_rows: *max_rows,
        max_wait: max_wait.as_deref(),
        concurrency: *concurrency,
        order: *order,
        exactly_once: *exactly_once,
        on_error: on_error.as_ref().map(actions).unwrap_or_default(),
        sessions: sessions.as_ref().map(kept),
        drain: format!("{drain_seconds}s"),
    };
    serde_saphyr::to_string(&written)
        .map_err(|error| OperatorError::Render { file: "stream.yaml", reason: error.to_string() })
}

fn read(source: &StreamSource) -> End<KafkaIn<'_>, NatsIn<'_>> {
    let StreamSource { kafka, nats, codec } = source;
    let kafka = kafka.as_ref().map(|kafka| {
        let KafkaSource { brokers, topics, group, start, properties: plain, secret_properties } = kafka;
        let properties = properties(Side::Source, plain, secret_properties);
        KafkaIn { brokers, topics, group: group.as_deref(), start: *start, properties }
    });
    let nats = nats.as_ref().map(|nats| {
        let NatsSource { servers, credentials: kept, stream, subject, consumer } = nats;
        let credentials = credentials(Side::Source, kept.as_ref());
        NatsIn { servers, credentials, stream, subject: subject.as_deref(), consumer: consumer.as_deref() }
    });
    End { kafka, nats, codec: *codec }
}

fn write(sink: &StreamSink, exactly_once: bool) -> End<KafkaOut<'_>, NatsOut<'_>> {
    let StreamSink { kafka, nats, codec } = sink;
    let kafka = kafka.as_ref().map(|kafka| {
        let KafkaSink { brokers, topic, dead_letter, properties: plain, secret_properties } = kafka;
        let properties = properties(Side::Sink, plain, secret_properties);
        // Each process has one of its own, and a pod's name is nobody else's.
        let transactional_id = exactly_once.then(|| Value::Env { env: "POD_NAME".to_owned() });
        KafkaOut { brokers, topic, dead_letter: dead_letter.as_deref(), transactional_id, properties }
    });
    let nats = nats.as_ref().map(|nats| {
        let NatsSink { servers, credentials: kept, subject, dead_letter } = nats;
        let credentials = credentials(Side::Sink, kept.as_ref());
        NatsOut { servers, credentials, subject, dead_letter: dead_letter.as_deref() }
    });
    End { kafka, nats, codec: *codec }
}

fn properties<'a>(
    side: Side,
    plain: &'a BTreeMap<String, String>,
    secret: &'a BTreeMap<String, SecretValue>,
) -> BTreeMap<&'a str, Value<'a>> {
    let plain = plain.iter().map(|(property, value)| (property.as_str(), Value::Text(value)));
    let secret =
        secret.keys().map(|property| (property.as_str(), Value::Env { env: variable(side, property) }));
    plain.chain(secret).collect()
}

fn credentials(side: Side, kept: Option<&SecretValue>) -> Option<String> {
    kept.map(|_| format!("{}/{CREDENTIALS}", credentials_folder(side)))
}

fn actions(on_error: &OnError) -> BTreeMap<&'static str, &'static str> {
    let OnError { decode, refused, failed, timeout, encode } = on_error;
    let classes = [
        ("decode", decode),
        ("refused", refused),
        ("failed", failed),
        ("timeout", timeout),
        ("encode", encode),
    ];
    let word = |action: Action| match action {
        Action::DeadLetter => "dead_letter",
        Action::Skip => "skip",
        Action::Stop => "stop",
    };
    classes.into_iter().filter_map(|(class, action)| Some((class, word((*action)?)))).collect()
}

fn kept(sessions: &Sessions) -> Kept<'_> {
    let Sessions { idle_timeout, max, snapshots, every } = sessions;
    Kept {
        idle_timeout: idle_timeout.as_deref(),
        max: *max,
        snapshots: snapshots.as_deref(),
        every: every.as_deref(),
    }
}
