//! How a plugin fails.
//!
//! Contract: [`Error`] is the only error of this crate; its code is what the caller of the model sees. Failures of the
//! host's functions become one with `?`.

use std::fmt;

/// The result of nearly everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The caller can mend the request.
    InvalidArgument,
    /// Something that the request names does not exist.
    NotFound,
    /// The plugin does not do what is asked for.
    Unsupported,
    /// The call cannot be served now; the caller may try again.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The plugin failed.
    Internal,
}

impl Code {
    /// The code of the server's code name, such as `NOT_FOUND`. What a plugin has no code for is its own failure.
    #[cfg_attr(
        not(target_arch = "wasm32"),
        allow(dead_code, reason = "the host gives names, its stand-in does not")
    )]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "INVALID_ARGUMENT" | "TOO_LARGE" => Self::InvalidArgument,
            "NOT_FOUND" => Self::NotFound,
            "UNSUPPORTED" => Self::Unsupported,
            "UNAVAILABLE" | "RESOURCE_EXHAUSTED" => Self::Unavailable,
            "DEADLINE_EXCEEDED" => Self::DeadlineExceeded,
            "ALREADY_EXISTS" | "PERMISSION_DENIED" | "PLUGIN_FAILED" | "INTERNAL" => Self::Internal,
            _ => return None,
        })
    }
}

/// A failure: its code and a message that says what was wrong, both for the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    code: Code,
    message: String,
}

impl Error {
    /// A failure of kind `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The caller can mend the request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Something that the request names does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// The plugin does not do what is asked for.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Code::Unsupported, message)
    }

    /// The call cannot be served now; the caller may try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// The plugin failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The same failure with what was being done in front of its message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// What was wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    #[cfg(target_arch = "wasm32")]
    pub(crate) fn into_message(self) -> String {
        self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
