//! Failures on their way to clients, in the host's own shape.
//!
//! Contract: a body `{"error": message}`, or OpenAI's on OpenAI's paths, with the status of the [`ErrorCode`]; over gRPC the status
//! of the call. What was refused at the door is marked as hosts mark it ([`REFUSED`]), for there may be another gateway before
//! this one.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use vespid_types::{Error, ErrorCode, header as agreed};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const GRPC_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// By which is said that another may take the same request.
pub(crate) const REFUSED: (HeaderName, HeaderValue) =
    (HeaderName::from_static(agreed::RETRY), HeaderValue::from_static(agreed::ELSEWHERE));

/// A failure of a request over HTTP.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    pub(crate) error: Error,
    allowed: Option<&'static str>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.code().http_status());
        Self { status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error, allowed: None }
    }
}

impl Failure {
    /// The path takes these methods alone.
    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let error = Error::invalid("this path does not take that method");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, error, allowed: Some(allowed) }
    }

    /// The answer, in OpenAI's shape where that is the path's.
    pub(crate) fn respond(self, openai: bool) -> Response {
        let Self { status, error, allowed } = self;
        let body = if openai { openai_body(&error) } else { json!({"error": error.message()}) };
        let json = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (status, json, Body::from(body.to_string())).into_response();
        let wait = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => error.retry_after(),
        };
        response.headers_mut().extend(wait.map(|wait| (header::RETRY_AFTER, HeaderValue::from(wait))));
        response.headers_mut().extend(error.is_refused().then_some(REFUSED));
        let challenge = vespid_auth::www_authenticate(&error).and_then(|value| value.try_into().ok());
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(allowed) = allowed {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

fn openai_body(error: &Error) -> serde_json::Value {
    let kind = match error.code() {
        ErrorCode::Internal
        | ErrorCode::PluginFailed
        | ErrorCode::Unavailable
        | ErrorCode::DeadlineExceeded => "server_error",
        ErrorCode::ResourceExhausted => "rate_limit_error",
        ErrorCode::Unauthenticated => "authentication_error",
        ErrorCode::PermissionDenied => "permission_error",
        _ => "invalid_request_error",
    };
    let (param, code) = match error.code() {
        ErrorCode::NotFound => (Some("model"), "model_not_found".to_owned()),
        code => (None, code.as_str().to_ascii_lowercase()),
    };
    json!({"error": {"message": error.message(), "type": kind, "param": param, "code": code}})
}

/// Characters of a message: it travels in a header, and clients take 8 kB of those.
const MAX_MESSAGE: usize = 2000;

/// The headers, or trailers, of a gRPC call that failed.
pub(crate) fn grpc_status(error: &Error) -> [(HeaderName, HeaderValue); 2] {
    let message: String = error.message().chars().take(MAX_MESSAGE).collect();
    let message = HeaderValue::try_from(encode(&message)).unwrap_or(HeaderValue::from_static(""));
    [(GRPC_STATUS, HeaderValue::from(u16::from(error.code().grpc_status()))), (GRPC_MESSAGE, message)]
}

/// The answer to a gRPC call that failed before anything was answered.
pub(crate) fn grpc_failed(error: &Error) -> Response {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_TYPE);
    response.headers_mut().extend(grpc_status(error));
    response.headers_mut().extend(error.is_refused().then_some(REFUSED));
    response
}

/// Percent-encoded, as gRPC has messages.
fn encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body(failure: Failure, openai: bool) -> serde_json::Value {
        let body = failure.respond(openai).into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn failures_have_the_host_s_shape() {
        let error = || Failure::from(Error::new(ErrorCode::Unavailable, "a \"busy\" pod"));
        assert_eq!(body(error(), false).await, json!({"error": "a \"busy\" pod"}));
        let openai = body(error(), true).await;
        assert_eq!(openai["error"]["type"], "server_error");
        assert_eq!(openai["error"]["code"], "unavailable");
        assert_eq!(error().respond(false).headers()[header::RETRY_AFTER], "1");
        let wrong = Failure::method_not_allowed("POST").respond(false);
        assert_eq!(
            (wrong.status(), &wrong.headers()[header::ALLOW]),
            (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("POST"))
        );
    }

    #[test]
    fn what_is_refused_at_the_door_may_go_elsewhere() {
        let (name, elsewhere) = REFUSED;
        for (error, expected) in
            [(Error::refused("full"), Some(&elsewhere)), (Error::new(ErrorCode::Unavailable, "no pod"), None)]
        {
            assert_eq!(grpc_failed(&error).headers().get(&name), expected);
            let response = Failure::from(error).respond(false);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers().get(&name), expected);
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(encode("50 % of\n\u{e4}"), "50 %25 of%0A%C3%A4");
        let failed = grpc_failed(&Error::new(ErrorCode::NotFound, "no"));
        assert_eq!(
            (&failed.headers()["grpc-status"], &failed.headers()["grpc-message"]),
            (&HeaderValue::from(5), &HeaderValue::from_static("no"))
        );
    }
}
