//! The one error that the serving core answers with.
//!
//! Contract: every failure of a request has an [`ErrorCode`] and a message that names what was wrong and, where the
//! caller can do something, what. The code is mapped once to HTTP and once to gRPC, here, for hosts and gateways both answer with
//! it; libraries keep typed errors of their own and turn them into this at their border. The source stays attached for the log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Any error, for attaching as a source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A result of the serving core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it was. The names follow gRPC's status codes where one fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong and the caller can mend it.
    InvalidArgument,
    /// The model, version or path does not exist.
    NotFound,
    /// What is to be made exists already.
    AlreadyExists,
    /// It is not known who asks, and only those who are known may.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// The request or package is larger than the server takes.
    TooLarge,
    /// The server or model does not do what is asked for.
    Unsupported,
    /// A model or a tenant has used up what it may; trying again later may work.
    ResourceExhausted,
    /// The server cannot serve this now; trying again later may work.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// The plugin trapped, exceeded its memory limit or answered against its own signature.
    PluginFailed,
    /// The server itself failed.
    Internal,
}

impl ErrorCode {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::TooLarge,
        Self::Unsupported,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::DeadlineExceeded,
        Self::PluginFailed,
        Self::Internal,
    ];

    /// The code's name as it stands in logs, labels and guests' errors, such as `NOT_FOUND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::TooLarge => "TOO_LARGE",
            Self::Unsupported => "UNSUPPORTED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::PluginFailed => "PLUGIN_FAILED",
            Self::Internal => "INTERNAL",
        }
    }

    /// The one map to HTTP: the status (RFC 9110).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::TooLarge => 413,
            Self::ResourceExhausted => 429,
            Self::PluginFailed | Self::Internal => 500,
            Self::Unsupported => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The one map to gRPC: the number of the status (gRPC's *Status codes and their use in gRPC*).
    #[must_use]
    pub const fn grpc_status(self) -> u8 {
        match self {
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            // The former is what gRPC's own libraries say of a message beyond their limit.
            Self::TooLarge | Self::ResourceExhausted => 8,
            Self::Unsupported => 12,
            Self::PluginFailed | Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// Whether the same may be done later: nothing is wrong with it.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::ResourceExhausted | Self::Unavailable)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure with its code, a message for the caller, and the source for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: ErrorCode,
    message: String,
    is_refused: bool,
    retry_after: Option<Duration>,
    #[source]
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// Bytes of a message that are kept: names and texts that a client or a guest chose may be in it, and it goes into the answer and
/// into the log.
const MAX_MESSAGE: usize = 16 << 10;

/// A text for people that is no longer than `limit` bytes and an ellipsis.
#[must_use]
pub fn clipped(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str("...");
        text.shrink_to_fit();
    }
    text
}

impl Error {
    /// A failure of kind `code`; `message` is shown to the caller.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: clipped(message.into(), MAX_MESSAGE),
            is_refused: false,
            retry_after: None,
            source: None,
        }
    }

    /// Shorthand for [`ErrorCode::ResourceExhausted`]; `retry_after` is when it may be otherwise, where that is known.
    pub fn exhausted(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(ErrorCode::ResourceExhausted, message) }
    }

    /// Shorthand for [`ErrorCode::Unavailable`] where this server refuses the request at its door, for it is full or ends: another
    /// server of the same models may take it ([`header::RETRY`](crate::header::RETRY)).
    pub fn refused(message: impl Into<String>) -> Self {
        Self { is_refused: true, ..Self::new(ErrorCode::Unavailable, message) }
    }

    /// Shorthand for [`ErrorCode::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// Shorthand for [`ErrorCode::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Attaches what caused the failure.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Puts `context` and a colon before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Whether it is [`Error::refused`].
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// In how many seconds the same may be done, at least 1, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        let wait = self.retry_after?;
        Some(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    /// What the caller is told.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_one_of_http_s_and_one_of_grpc_s() {
        let mapped = ErrorCode::ALL.map(|code| (code.http_status(), code.grpc_status()));
        let expected = [
            (400, 3),
            (404, 5),
            (409, 6),
            (401, 16),
            (403, 7),
            (413, 8),
            (501, 12),
            (429, 8),
            (503, 14),
            (504, 4),
            (500, 13),
            (500, 13),
        ];
        assert_eq!(mapped, expected);
    }

    #[test]
    fn a_refusal_stays_one_on_its_way_up() {
        let refused = Error::refused("full").context("graph 'a'").with_source(Error::internal("x"));
        assert_eq!((refused.is_refused(), refused.code()), (true, ErrorCode::Unavailable));
        assert!(!Error::new(ErrorCode::Unavailable, "not ready").is_refused());
    }

    #[test]
    fn a_pause_is_told_in_whole_seconds() {
        let after =
            |millis| Error::exhausted("x", Some(Duration::from_millis(millis))).context("a").retry_after();
        assert_eq!([0, 1, 1000, 1001].map(after), [Some(1), Some(1), Some(1), Some(2)]);
        assert_eq!(Error::exhausted("x", None).retry_after(), None);
    }

    #[test]
    fn a_message_is_no_longer_than_people_read() {
        let long = Error::invalid("ä".repeat(MAX_MESSAGE));
        assert!(long.message().len() <= MAX_MESSAGE + 3 && long.message().ends_with("ä..."));
        assert_eq!(Error::invalid("short").message(), "short");
        assert_eq!(clipped("äö".to_owned(), 3), "ä...");
    }
}
