//! The admin port: for probes, and for what collects metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use vespid_types::Error;

use crate::clock;
use crate::error::Failure;
use crate::gateway::Shared;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let live = || get(async || Json(json!({"live": true})));
    let ready = || get(async |State(shared): State<Arc<Shared>>| shared.readiness());
    // By the protocol's names and by Kubernetes's.
    Router::new()
        .route("/v2/health/live", live())
        .route("/livez", live())
        .route("/v2/health/ready", ready())
        .route("/readyz", ready())
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics.render(&shared.routes.load(), clock::now()) {
        Ok(text) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
        }
        Err(error) => {
            Failure::from(Error::internal("the metrics cannot be written").with_source(error)).respond(false)
        }
    }
}
