//! What is counted and logged of each HTTP request.
//!
//! Contract: [`observe`] stands around every route for clients: it counts the answer by its status and logs it. What a
//! handler knows besides it leaves in the answer's extensions: the inference that it was about, and why it failed.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vespid_serving::Inference;
use vespid_telemetry::{Exchange, Subject, Telemetry};

use super::error::{Failed, Failure};
use super::{Api, request_id};
use crate::observe::{HTTP, fault};

/// The answer of an inference, which the log then names.
pub(super) fn about(inference: &Inference, answered: Result<Response, Failure>) -> Response {
    let failed = answered.is_err();
    let mut response = answered.into_response();
    if failed || Telemetry::logs_exchanges() {
        response.extensions_mut().insert(Subject::of(inference));
    }
    response
}

/// Counts and logs what `next` answers.
pub(super) async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let asked = Telemetry::logs_exchanges().then(|| format!("{} {}", request.method(), request.uri().path()));
    let response = next.run(request).await;
    let subject = response.extensions().get::<Subject>();
    let request_id = response.headers().get(request_id::HEADER).and_then(|id| id.to_str().ok());
    if let Some(Failed { error, .. }) = response.extensions().get() {
        fault(error, subject, request_id);
    }
    api.telemetry.answered(&Exchange {
        protocol: &HTTP,
        what: asked.as_deref().unwrap_or_default(),
        code: response.status().as_str(),
        began,
        subject,
        request_id,
    });
    response
}
