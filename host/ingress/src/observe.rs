//! What is measured of an inference, and said of a request that was answered, whichever protocol brought it.
//!
//! Contract: who answers an inference begins with [`Api::begin`], when the whole body is there, and lets go of what it gives
//! when the answer is made. Cost: a look at a few headers.

use std::sync::Arc;

use axum::http::HeaderMap;
use vespid_serving::{Inference, ReadyModel};
use vespid_telemetry::{Protocol, Subject, Telemetry};
use vespid_types::{Error, ErrorCode};

use crate::Api;

/// HTTP, with the statuses that its port answers with.
pub(crate) static HTTP: Protocol = Protocol { name: "http", status: http_status };

/// gRPC, with its codes.
pub(crate) static GRPC: Protocol = Protocol { name: "grpc", status: grpc_status };

fn http_status(code: Option<ErrorCode>) -> i64 {
    code.map_or(200, |code| i64::from(code.http_status()))
}

fn grpc_status(code: Option<ErrorCode>) -> i64 {
    code.map_or(0, |code| i64::from(code.grpc_status()))
}

impl Api {
    /// Begins a request to a model. It is counted when the last clone of what this gives is dropped.
    pub(crate) fn begin(
        &self,
        protocol: &'static Protocol,
        model: Arc<ReadyModel>,
        headers: &HeaderMap,
    ) -> Inference {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let timeline = self.telemetry.timeline(protocol, model.name(), header);
        self.predictor.begin(model, timeline)
    }
}

/// Logs a failure that is the server's own, or the model's.
pub(crate) fn fault(error: &Error, subject: Option<&Subject>, request_id: Option<&str>) {
    if error.code().http_status() >= 500 {
        Telemetry::fault(error, subject, request_id);
    }
}
