//! The one map from [`ErrorCode`] to HTTP.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use vespid_types::{Error, ErrorCode};

use crate::wire;

/// The HTTP status of a code.
#[must_use]
pub const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists => StatusCode::CONFLICT,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::PluginFailed | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Seconds after which a refused client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A failure on its way to the client.
pub(super) struct Failure {
    status: StatusCode,
    error: Error,
}

impl Failure {
    pub(super) fn method_not_allowed() -> Self {
        let error = Error::invalid("this path does not take that method");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: status(error.code()), error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, error } = self;
        if status.is_server_error() {
            let source = std::error::Error::source(&error).map(tracing::field::debug);
            tracing::warn!(code = %error.code(), source, "{error}");
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (status, json, wire::error_body(error.message())).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
