//! A prediction's request and response, free of any wire format.

use std::fmt;
use std::time::{Duration, Instant};

use crate::{ModelName, Parameters, Tensor, Version};

/// A tensor by the name of its input or output.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The input's or output's name.
    pub name: String,
    /// The values.
    pub tensor: Tensor,
}

/// A model, and the version where the caller named one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// The version; `None` for the model's default.
    pub version: Option<Version>,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some(version) => write!(f, "'{}' version {version}", self.name),
            None => write!(f, "'{}'", self.name),
        }
    }
}

/// The point in time after which nobody waits for an answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline `duration` from now. A duration too long for the clock counts as 30 years.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
        let now = Instant::now();
        Self(now.checked_add(duration.min(FAR)).unwrap_or(now))
    }

    /// The time left; zero once the deadline has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The deadline as an instant of the monotonic clock.
    #[must_use]
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// A mode of serving, the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Somebody waits for the answer.
    #[default]
    Online,
    /// A consumer that is to keep up with its stream.
    Stream,
    /// A job that has time.
    Batch,
}

impl Mode {
    /// Every mode, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Online, Self::Stream, Self::Batch];
}

/// Whose turn it is where several requests wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Priority {
    /// The mode that the request came by.
    pub mode: Mode,
    /// How far the caller lets others of its mode go first: 0 for not at all.
    pub level: u8,
}

impl Priority {
    /// What is asked online.
    pub const ONLINE: Self = Self { mode: Mode::Online, level: 0 };
    /// What a stream brings.
    pub const STREAM: Self = Self { mode: Mode::Stream, level: 0 };
    /// What a job asks.
    pub const BATCH: Self = Self { mode: Mode::Batch, level: 0 };
}

/// What tells one sequence of a model from the others: the caller chooses it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SequenceId {
    /// A number other than 0.
    Number(u64),
    /// A text that is not empty.
    Text(String),
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A request's place in a sequence of requests, which one instance of the model answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The sequence.
    pub id: SequenceId,
    /// Whether this is the first request. One that goes on under this id ends.
    pub start: bool,
    /// Whether this is the last request.
    pub end: bool,
}

/// A request for a prediction.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model that is asked.
    pub model: ModelRef,
    /// The caller's id for the request.
    pub id: Option<String>,
    /// Parameters of the request as a whole.
    pub parameters: Parameters,
    /// The inputs, in the caller's order.
    pub inputs: Vec<NamedTensor>,
    /// The outputs asked for; all of them where empty.
    pub outputs: Vec<String>,
    /// An earlier deadline than the model's own time limit, where the caller set one.
    pub deadline: Option<Deadline>,
    /// Its turn where it has to wait.
    pub priority: Priority,
    /// The sequence that it belongs to, where it does to one.
    pub sequence: Option<Sequence>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug)]
pub struct Response {
    /// The model that answered.
    pub model: ModelName,
    /// The version that answered.
    pub version: Version,
    /// The request's id.
    pub id: Option<String>,
    /// Parameters of the response as a whole.
    pub parameters: Parameters,
    /// The outputs, in the order asked for, else in the signature's.
    pub outputs: Vec<NamedTensor>,
}
