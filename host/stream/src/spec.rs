//! A stream as it is written in `stream.yaml`.
//!
//! Contract: every key is one of these, and what can be checked without the model and the brokers is checked when it is read.

mod sides;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vespid_batch::{Choices, Keep, KeepWord, OneOrMore};
use vespid_types::Version;

pub use self::sides::{
    Codec, FileSink, FileSource, KafkaSink, KafkaSource, NatsSink, NatsSource, SinkKind, SinkSpec,
    SourceKind, SourceSpec, Start, Value,
};
use crate::StreamError;

/// A stream: where messages come from, which model answers them, and where the answers go.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// What it is called; the file's name without its ending where it is not said.
    #[serde(default)]
    pub name: String,
    /// The model's name; on a command line also a package.
    pub model: String,
    /// Its version; the one that requests without a version are led to where none is named.
    #[serde(default)]
    pub version: Option<Version>,
    /// Where messages come from.
    pub source: SourceSpec,
    /// Where answers go.
    pub sink: SinkSpec,
    /// The fields that make each input of the model; the field of the input's name where it is not here.
    #[serde(default)]
    pub inputs: BTreeMap<String, OneOrMore>,
    /// The outputs that are written, and the field of each; all of them by their own names where it is empty.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// The fields of a JSON message that are written beside the outputs; none where it is not said.
    #[serde(default)]
    pub keep: Option<Keep>,
    /// Whether the first dimension of the model's tensors is one of rows; what the signature suggests where it is not said.
    #[serde(default)]
    pub batched: Option<bool>,
    /// Messages that are predicted together, at most.
    #[serde(default = "default_rows")]
    pub max_rows: u32,
    /// How long messages wait for others to be predicted with.
    #[serde(default, with = "humantime_serde")]
    pub max_wait: Duration,
    /// Calls of a partition at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// What keeps its order.
    #[serde(default)]
    pub order: Order,
    /// Whether answers and offsets are committed in one transaction.
    #[serde(default)]
    pub exactly_once: bool,
    /// How often offsets are committed.
    #[serde(default = "default_commit", with = "humantime_serde")]
    pub commit_interval: Duration,
    /// What is done with messages that fail.
    #[serde(default)]
    pub on_error: OnError,
    /// How the state of keys is kept, where the model keeps some.
    #[serde(default)]
    pub sessions: Option<SessionSpec>,
    /// How long what is in hand may take where partitions are given away, or the stream is told to stop.
    #[serde(default = "default_drain", with = "humantime_serde")]
    pub drain: Duration,
}

fn default_rows() -> u32 {
    512
}

fn default_concurrency() -> u32 {
    2
}

fn default_commit() -> Duration {
    Duration::from_millis(200)
}

fn default_drain() -> Duration {
    Duration::from_secs(20)
}

/// What keeps its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The messages of a partition.
    #[default]
    Partition,
    /// The messages of a key: those of others need not wait for them.
    Key,
}

/// What is done with a message that failed, by the class of the failure.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnError {
    /// Its bytes are not what the codec says.
    #[serde(default)]
    pub decode: Option<Action>,
    /// The model refuses its values.
    #[serde(default)]
    pub refused: Option<Action>,
    /// The model fails over it: it traps, or takes too much memory.
    #[serde(default)]
    pub failed: Option<Action>,
    /// The model does not answer in its time.
    #[serde(default)]
    pub timeout: Option<Action>,
    /// The answer cannot be written: JSON has no word for it, or the sink refuses it.
    #[serde(default)]
    pub encode: Option<Action>,
}

/// What is done with a message that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It goes where failed messages go, with the error.
    DeadLetter,
    /// It is counted, and that is all.
    Skip,
    /// The stream stops before it.
    Stop,
}

/// How the state of keys is kept.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionSpec {
    /// A key that has no message for so long, by the messages' timestamps, begins anew.
    #[serde(default = "default_idle", with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Keys of a partition that have an instance at once.
    #[serde(default = "default_sessions")]
    pub max: u32,
    /// A folder or bucket where the state of keys is saved, for plugins that can.
    #[serde(default)]
    pub snapshots: Option<String>,
    /// How often it is saved.
    #[serde(default = "default_every", with = "humantime_serde")]
    pub every: Duration,
}

fn default_idle() -> Duration {
    Duration::from_secs(300)
}

fn default_sessions() -> u32 {
    64
}

fn default_every() -> Duration {
    Duration::from_secs(30)
}

impl StreamSpec {
    /// Reads a stream from YAML.
    ///
    /// # Errors
    /// [`StreamError::File`] with the place in the file, [`StreamError::Config`] with the field.
    pub fn from_yaml(file: &str, text: &str) -> Result<Self, StreamError> {
        let wrong = |error: serde_saphyr::Error| StreamError::File {
            file: file.to_owned(),
            reason: error.to_string(),
        };
        let mut spec: Self = serde_saphyr::from_str(text).map_err(wrong)?;
        if spec.name.is_empty() {
            let stem = std::path::Path::new(file).file_stem().unwrap_or_default();
            spec.name = stem.to_string_lossy().into_owned();
        }
        spec.check()?;
        Ok(spec)
    }

    /// What of it says which fields are which tensors. The fields that are kept are not among the outputs.
    pub(crate) fn choices<'a>(&'a self, binary: &'a [String]) -> Choices<'a> {
        const NONE: &Keep = &Keep::Word(KeepWord::None);
        let Self { inputs, outputs, batched, .. } = self;
        Choices { inputs, outputs, binary, keep: Some(NONE), batched: *batched }
    }

    /// Where failed messages go, where that is said.
    pub(crate) fn has_dead_letter(&self) -> bool {
        match &self.sink.kind {
            SinkKind::Kafka(kafka) => kafka.dead_letter.is_some(),
            SinkKind::Nats(nats) => nats.dead_letter.is_some(),
            SinkKind::File(file) => file.dead_letter.is_some(),
        }
    }

    fn check(&self) -> Result<(), StreamError> {
        let name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(name) {
            return Err(StreamError::config("name", "use up to 100 letters, digits, -, _ and ."));
        }
        if self.max_rows == 0 || self.max_rows > 65_536 {
            return Err(StreamError::config("max_rows", "use 1 to 65536"));
        }
        if self.concurrency == 0 || self.concurrency > 256 {
            return Err(StreamError::config("concurrency", "use 1 to 256"));
        }
        if self.max_wait > Duration::from_secs(60) {
            return Err(StreamError::config("max_wait", "use 60s or less"));
        }
        if self.commit_interval.is_zero() || self.commit_interval > Duration::from_secs(60) {
            return Err(StreamError::config("commit_interval", "use 1ms to 60s"));
        }
        self.check_keep()?;
        self.check_exactly_once()?;
        self.check_on_error()?;
        if let Some((input, _)) = self.inputs.iter().find(|(_, fields)| fields.as_slice().is_empty()) {
            let field = format!("inputs.{input}");
            return Err(StreamError::config(field, "it is empty: name a field, or several"));
        }
        match &self.sessions {
            Some(sessions) if sessions.max == 0 => Err(StreamError::config("sessions.max", "use 1 or more")),
            Some(sessions)
                if sessions.snapshots.is_some() && matches!(self.source.kind, SourceKind::Nats(_)) =>
            {
                let reason = "they need a source that can be read again from an offset: kafka or file";
                Err(StreamError::config("sessions.snapshots", reason))
            }
            Some(_) if self.source.codec == Codec::Arrow => Err(StreamError::config(
                "sessions",
                "a message has one row there: use json or raw, not arrow",
            )),
            _ => Ok(()),
        }
    }

    fn check_keep(&self) -> Result<(), StreamError> {
        let keeps = !matches!(self.keep, None | Some(Keep::Word(KeepWord::None)));
        if keeps && (self.source.codec != Codec::Json || self.sink.codec != Codec::Json) {
            let reason = "fields are kept from JSON to JSON: leave it out, or use json on both sides";
            return Err(StreamError::config("keep", reason));
        }
        Ok(())
    }

    fn check_exactly_once(&self) -> Result<(), StreamError> {
        let (SourceKind::Kafka(source), SinkKind::Kafka(sink)) = (&self.source.kind, &self.sink.kind) else {
            return match self.exactly_once {
                true => Err(StreamError::config("exactly_once", "it takes kafka as source and sink")),
                false => Ok(()),
            };
        };
        let divided = self.order == Order::Key || self.sessions.is_some();
        if self.exactly_once && divided && self.concurrency != 1 {
            let reason = "with exactly_once, one message after another is answered where each key has its order or its state: use 1";
            return Err(StreamError::config("concurrency", reason));
        }
        if self.exactly_once && sink.brokers.as_ref().is_some_and(|brokers| *brokers != source.brokers) {
            let reason = "a transaction is one cluster's: leave the sink's brokers out";
            return Err(StreamError::config("sink.kafka.brokers", reason));
        }
        Ok(())
    }

    fn check_on_error(&self) -> Result<(), StreamError> {
        let OnError { decode, refused, failed, timeout, encode } = &self.on_error;
        let classes = [
            ("decode", decode),
            ("refused", refused),
            ("failed", failed),
            ("timeout", timeout),
            ("encode", encode),
        ];
        for (class, action) in classes {
            if *action == Some(Action::DeadLetter) && !self.has_dead_letter() {
                let reason = "the sink has no dead_letter: name one, or use skip or stop";
                return Err(StreamError::config(format!("on_error.{class}"), reason));
            }
        }
        Ok(())
    }
}
