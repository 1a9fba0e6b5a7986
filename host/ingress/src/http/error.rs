//! Failures on their way to clients, over HTTP.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use vespid_auth::www_authenticate;
use vespid_types::{Error, header as shared};

use crate::wire;

/// Seconds after which a refused client may try again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A failure on its way to the client.
pub(crate) struct Failure {
    status: StatusCode,
    error: Error,
    field: Option<&'static str>,
    allowed: Option<&'static str>,
}

/// What a failed answer failed with, among its extensions: some paths have a shape of their own for errors, and the log
/// says more than the client is told.
#[derive(Clone)]
pub(super) struct Failed {
    pub(super) error: Error,
    /// The field of the request that was wrong, where it is one in particular.
    pub(super) field: Option<&'static str>,
}

impl Failure {
    /// `allowed` are the methods that the path takes, where routing does not know it.
    pub(super) fn method_not_allowed(allowed: Option<&'static str>) -> Self {
        let failure = Self::of_http(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method");
        Self { allowed, ..failure }
    }

    pub(super) fn too_slow(pause: Duration) -> Self {
        let message = format!("the request body did not go on for {} seconds", pause.as_secs());
        Self::of_http(StatusCode::REQUEST_TIMEOUT, message)
    }

    pub(super) fn unsupported_encoding(encoding: impl fmt::Display) -> Self {
        let message = format!(
            "header Content-Encoding: {encoding} is not supported: use gzip or deflate, or send the body as it is"
        );
        Self::of_http(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub(super) fn not_acceptable() -> Self {
        let message =
            "header Accept-Encoding: nothing that it admits is supported: admit gzip, deflate or identity";
        Self::of_http(StatusCode::NOT_ACCEPTABLE, message)
    }

    /// What is wrong with a request as HTTP alone sees it, and has a status of its own.
    fn of_http(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: Error::invalid(message), field: None, allowed: None }
    }

    /// Names the field of the request that was wrong.
    #[must_use]
    pub(super) fn in_field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.code().http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error, field: None, allowed: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { status, error, field, allowed } = self;
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (status, json, wire::error_body(error.message())).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, RETRY_AFTER),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate"))
            }
            _ => error.retry_after().and_then(|wait| headers.insert(header::RETRY_AFTER, wait.into())),
        };
        if let Some(challenge) = www_authenticate(&error).and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if error.is_refused() {
            headers.insert(shared::RETRY, HeaderValue::from_static(shared::ELSEWHERE));
        }
        if let Some(allowed) = allowed {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response.extensions_mut().insert(Failed { error, field });
        response
    }
}
