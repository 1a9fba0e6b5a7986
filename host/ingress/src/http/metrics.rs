//! `GET /metrics`, on the port for probes.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::Failure;

/// The type of Prometheus's text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Failure> {
    let text = api.telemetry.metrics_text()?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}
