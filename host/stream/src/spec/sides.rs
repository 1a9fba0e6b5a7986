//! Where messages come from and where answers go.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use vespid_batch::OneOrMore;

use crate::StreamError;

/// What the bytes of a message are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
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

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Raw => "raw",
            Self::Arrow => "arrow",
        })
    }
}

/// Where messages come from: one of `kafka`, `nats` and `file`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "WrittenSource")]
pub struct SourceSpec {
    /// What it is.
    pub kind: SourceKind,
    /// What the messages are.
    pub codec: Codec,
}

/// What messages come from.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceKind {
    /// A consumer group.
    Kafka(KafkaSource),
    /// A durable consumer of JetStream.
    Nats(NatsSource),
    /// A file's lines.
    File(FileSource),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSource {
    kafka: Option<KafkaSource>,
    nats: Option<NatsSource>,
    file: Option<FileSource>,
    #[serde(default)]
    codec: Codec,
}

impl TryFrom<WrittenSource> for SourceSpec {
    type Error = &'static str;

    fn try_from(written: WrittenSource) -> Result<Self, Self::Error> {
        let WrittenSource { kafka, nats, file, codec } = written;
        let kind = match (kafka, nats, file) {
            (Some(kafka), None, None) => SourceKind::Kafka(kafka),
            (None, Some(nats), None) => SourceKind::Nats(nats),
            (None, None, Some(file)) => SourceKind::File(file),
            _ => return Err("source has one of kafka, nats and file"),
        };
        Ok(Self { kind, codec })
    }
}

/// Where answers go: one of `kafka`, `nats` and `file`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "WrittenSink")]
pub struct SinkSpec {
    /// What it is.
    pub kind: SinkKind,
    /// What the messages are.
    pub codec: Codec,
}

/// What takes answers.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// A producer.
    Kafka(KafkaSink),
    /// Subjects that JetStream keeps.
    Nats(NatsSink),
    /// A file, a line an answer.
    File(FileSink),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSink {
    kafka: Option<KafkaSink>,
    nats: Option<NatsSink>,
    file: Option<FileSink>,
    #[serde(default)]
    codec: Codec,
}

impl TryFrom<WrittenSink> for SinkSpec {
    type Error = &'static str;

    fn try_from(written: WrittenSink) -> Result<Self, Self::Error> {
        let WrittenSink { kafka, nats, file, codec } = written;
        let kind = match (kafka, nats, file) {
            (Some(kafka), None, None) => SinkKind::Kafka(kafka),
            (None, Some(nats), None) => SinkKind::Nats(nats),
            (None, None, Some(file)) => SinkKind::File(file),
            _ => return Err("sink has one of kafka, nats and file"),
        };
        Ok(Self { kind, codec })
    }
}

/// A value that is written, or taken from the environment or a file, as keys and passwords are.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a value, {env: NAME} or {file: PATH}")]
pub enum Value {
    /// As it is written.
    Text(String),
    /// A number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
    /// From the environment.
    Env {
        /// The variable.
        env: String,
    },
    /// From a file, without the line break at its end.
    File {
        /// The file.
        file: PathBuf,
    },
}

/// What is written may be a password as well.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env { env } => write!(f, "{{env: {env}}}"),
            Self::File { file } => write!(f, "{{file: {}}}", file.display()),
            _ => f.write_str("..."),
        }
    }
}

impl Value {
    /// The text.
    ///
    /// # Errors
    /// [`StreamError::Config`] with `field` where the variable is not set or the file cannot be read.
    pub(crate) fn text(&self, field: &str) -> Result<String, StreamError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Number(number) => Ok(number.to_string()),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Env { env } => std::env::var(env)
                .map_err(|_| StreamError::config(field, format!("the variable {env} is not set"))),
            Self::File { file } => {
                let text = std::fs::read_to_string(file);
                let text =
                    text.map_err(|error| StreamError::config(field, format!("{}: {error}", file.display())))?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

/// A consumer group of Kafka.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// Brokers, as HOST:PORT.
    pub brokers: OneOrMore,
    /// The topics.
    pub topics: OneOrMore,
    /// The group; the stream's name where it is not said.
    #[serde(default)]
    pub group: Option<String>,
    /// Where the group begins that has committed nothing.
    #[serde(default)]
    pub start: Start,
    /// More of librdkafka's properties, such as those of TLS and SASL.
    #[serde(default)]
    pub properties: BTreeMap<String, Value>,
}

/// Where a group begins that has committed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the first message that is there.
    #[default]
    Earliest,
    /// With the next one.
    Latest,
}

/// A producer of Kafka.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSink {
    /// Brokers, as HOST:PORT; those of the source where they are not said, with its properties.
    #[serde(default)]
    pub brokers: Option<OneOrMore>,
    /// The topic of the answers.
    pub topic: String,
    /// The topic of messages that failed.
    #[serde(default)]
    pub dead_letter: Option<String>,
    /// What transactions are known by, with `exactly_once`: each process has its own, and keeps it when it is started again.
    #[serde(default)]
    pub transactional_id: Option<Value>,
    /// More of librdkafka's properties.
    #[serde(default)]
    pub properties: BTreeMap<String, Value>,
}

/// How a NATS server is reached.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSource {
    /// Servers, as nats://HOST:PORT or tls://HOST:PORT.
    pub servers: OneOrMore,
    /// A file with credentials.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// The stream.
    pub stream: String,
    /// The subject, which may have wildcards; all of the stream's where it is not said.
    #[serde(default)]
    pub subject: Option<String>,
    /// The durable consumer, which is made where there is none; the name of the stream of predictions where it is not said.
    #[serde(default)]
    pub consumer: Option<String>,
    /// How long the server waits for an acknowledgement before it brings a message again.
    #[serde(default = "default_ack_wait", with = "humantime_serde")]
    pub ack_wait: Duration,
}

fn default_ack_wait() -> Duration {
    Duration::from_secs(30)
}

/// Subjects that JetStream keeps.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSink {
    /// Servers; those of the source where they are not said, with its credentials.
    #[serde(default)]
    pub servers: Option<OneOrMore>,
    /// A file with credentials.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// The subject of the answers.
    pub subject: String,
    /// The subject of messages that failed.
    #[serde(default)]
    pub dead_letter: Option<String>,
}

/// A file's lines, a message each.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// The file; `-` is standard input.
    pub path: PathBuf,
    /// The file that says how far it has been read; without one it is read from its beginning.
    #[serde(default)]
    pub position: Option<PathBuf>,
    /// Whether more lines are waited for at its end.
    #[serde(default)]
    pub follow: bool,
}

/// A file, a line an answer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file, which is appended to; `-` is standard output.
    pub path: PathBuf,
    /// The file of messages that failed.
    #[serde(default)]
    pub dead_letter: Option<PathBuf>,
}
