//! Why a message has no answer, and what is done then.

use std::fmt;

use vespid_types::{Error, ErrorCode};

use crate::spec::{Action, StreamSpec};

/// What kind of failure it is, for the policy and for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    Decode,
    Refused,
    Failed,
    Timeout,
    Encode,
}

impl Class {
    pub(crate) const ALL: [Self; 5] =
        [Self::Decode, Self::Refused, Self::Failed, Self::Timeout, Self::Encode];

    /// As it stands in a stream's settings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Encode => "encode",
        }
    }

    /// What is done with a message that fails so. Nothing is lost where nothing is said.
    pub(crate) fn action(self, spec: &StreamSpec) -> Action {
        let on_error = &spec.on_error;
        let said = match self {
            Self::Decode => on_error.decode,
            Self::Refused => on_error.refused,
            Self::Failed => on_error.failed,
            Self::Timeout => on_error.timeout,
            Self::Encode => on_error.encode,
        };
        let otherwise = if spec.has_dead_letter() { Action::DeadLetter } else { Action::Stop };
        said.unwrap_or(otherwise)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one message has no answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn decode(message: impl Into<String>) -> Self {
        Self { class: Class::Decode, code: ErrorCode::InvalidArgument, message: message.into() }
    }

    pub(crate) fn encode(message: impl Into<String>) -> Self {
        Self { class: Class::Encode, code: ErrorCode::Unsupported, message: message.into() }
    }

    /// What the model made of it; `field` is the one that it is about.
    pub(crate) fn of_model(field: Option<&str>, error: &Error) -> Self {
        let class = match error.code() {
            ErrorCode::DeadlineExceeded => Class::Timeout,
            ErrorCode::PluginFailed | ErrorCode::Internal => Class::Failed,
            code if code.may_pass() => Class::Failed,
            _ => Class::Refused,
        };
        let message = match field {
            Some(field) => format!("'{field}': {}", error.message()),
            None => error.message().to_owned(),
        };
        Self { class, code: error.code(), message }
    }
}
