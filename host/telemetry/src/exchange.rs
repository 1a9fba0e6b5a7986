//! What is said of a request that was answered.
//!
//! Contract: each is counted by protocol and code, and has one line in the log, at the level `debug`; a failure that is the
//! server's own has another, as a warning, with the cause. Both bear the model, its version and what names the request where
//! it was for a model. Cost: a counter, where neither line is written.

use std::time::Instant;

use tracing::field::debug;
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
    /// What was asked: a method and a path, or a procedure; nothing where it is not to be logged.
    pub what: &'a str,
    /// The status that was answered.
    pub code: &'a str,
    /// When it came.
    pub began: Instant,
    /// The inference, where it was one that got as far as a model.
    pub subject: Option<&'a Subject>,
    /// The request's id, where it was none.
    pub request_id: Option<&'a str>,
}

impl Telemetry {
    /// Whether each request has a line in the log, so that it is worth while to say what it was about.
    #[must_use]
    pub fn logs_exchanges() -> bool {
        tracing::enabled!(target: "vespid::access", tracing::Level::DEBUG)
    }

    /// Counts and logs a request that was answered.
    pub fn answered(&self, exchange: &Exchange<'_>) {
        let Exchange { protocol, what, code, began, subject, request_id } = *exchange;
        self.metrics().answered(protocol.name, code);
        // What is not known was not to be logged when it came.
        if what.is_empty() || !Self::logs_exchanges() {
            return;
        }
        let duration_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (protocol, status) = (protocol.name, code);
        match subject {
            Some(Subject { model, version, request_id }) => tracing::debug!(
                target: "vespid::access",
                protocol, status, duration_us, %model, %version, request_id, "{what}"
            ),
            None => tracing::debug!(
                target: "vespid::access", protocol, status, duration_us, request_id, "{what}"
            ),
        }
    }

    /// Logs a failure that is the server's own.
    pub fn fault(error: &Error, subject: Option<&Subject>, request_id: Option<&str>) {
        let code = error.code().as_str();
        let source = std::error::Error::source(error).map(debug);
        match subject {
            Some(Subject { model, version, request_id }) => {
                tracing::warn!(%model, %version, request_id, code, source, "{error}");
            }
            None => tracing::warn!(request_id, code, source, "{error}"),
        }
    }
}
