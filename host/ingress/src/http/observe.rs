//! What is counted and logged of each HTTP request, and what is measured of an inference.
//!
//! Contract: [`observe`] stands around every route for clients: it counts the answer by its status and logs it. What a
//! handler knows besides it leaves in the answer's extensions: the inference that it was about, and the server's own fault.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use vespid_serving::{Inference, ReadyModel};
use vespid_telemetry::{Exchange, Protocol, Subject, Telemetry};
use vespid_types::{Error, ErrorCode};

use super::Api;
use super::error::{Failure, status};

/// HTTP, with the statuses of this port.
pub(super) static HTTP: Protocol = Protocol {
    name: "http",
    status: |code: Option<ErrorCode>| code.map_or(200, |code| i64::from(status(code).as_u16())),
};

/// The server's own fault, in the extensions of an answer.
#[derive(Clone)]
pub(super) struct Fault(pub(super) Arc<Error>);

impl Api {
    /// Begins a request to a model. It is counted when what this gives is dropped.
    pub(super) fn begin(&self, model: Arc<ReadyModel>, headers: &HeaderMap) -> Inference {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let timeline = self.telemetry.timeline(&HTTP, model.name(), header);
        self.predictor.begin(model, timeline)
    }
}

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
    let mut response = next.run(request).await;
    let fault = response.extensions_mut().remove::<Fault>();
    let subject = response.extensions_mut().remove::<Subject>();
    api.telemetry.answered(&Exchange {
        protocol: &HTTP,
        what: asked.as_deref().unwrap_or_default(),
        code: response.status().as_str(),
        began,
        subject: subject.as_ref(),
        fault: fault.as_ref().map(|fault| &*fault.0),
    });
    response
}
