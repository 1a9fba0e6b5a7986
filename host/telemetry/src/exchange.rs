//! What is said of a request that was answered.
//!
//! Contract: each is counted by protocol and code, and has one line in the log, at the level `debug`; one that failed by the
//! server's own fault has another, as a warning, with the cause. Both bear the model, its version and the request's id where
//! the request was for a model. Cost: a counter, where neither line is written.

use std::time::Instant;

use tracing::field::{debug, display};
use vespid_serving::Inference;
use vespid_types::{Error, ModelName, Version};

use crate::{Protocol, Telemetry};

/// The inference that an exchange was about.
#[derive(Clone, Debug)]
pub struct Subject {
    model: ModelName,
    version: Version,
    request_id: String,
}

impl Subject {
    /// What names an inference in the log.
    #[must_use]
    pub fn of(inference: &Inference) -> Self {
        let model = inference.model();
        let request_id = inference.name().to_string();
        Self { model: model.name().clone(), version: model.version(), request_id }
    }
}

/// A request, and how it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The protocol.
    pub protocol: &'static Protocol,
    /// What was asked: a method and a path, or a procedure.
    pub what: &'a str,
    /// The status that was answered.
    pub code: &'a str,
    /// When it came.
    pub began: Instant,
    /// The inference, where it was one that got as far as a model.
    pub subject: Option<&'a Subject>,
    /// Why it failed, where the server itself is to blame.
    pub fault: Option<&'a Error>,
}

impl Telemetry {
    /// Whether each request has a line in the log, so that it is worth while to say what it was about.
    #[must_use]
    pub fn logs_exchanges() -> bool {
        tracing::enabled!(target: "vespid::access", tracing::Level::DEBUG)
    }

    /// Counts and logs a request that was answered.
    pub fn answered(&self, exchange: &Exchange<'_>) {
        let Exchange { protocol, what, code, began, subject, fault } = *exchange;
        self.metrics().answered(protocol.name, code);
        let model = subject.map(|subject| display(&subject.model));
        let version = subject.map(|subject| display(subject.version));
        let request_id = subject.map(|subject| subject.request_id.as_str());
        if let Some(error) = fault {
            let source = std::error::Error::source(error).map(debug);
            tracing::warn!(model, version, request_id, code = error.code().as_str(), source, "{error}");
        }
        if Self::logs_exchanges() {
            let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            tracing::debug!(
                target: "vespid::access",
                protocol = protocol.name, status = code, duration_us, model, version, request_id, "{what}"
            );
        }
    }
}
