//! `POST .../generate` and `.../generate_stream`.
//!
//! Contract: what fails before the first response fails as everywhere, with a status; what fails later is an event
//! `{"error": ...}`, the last. A client that goes away ends the call, at the next piece at the latest.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use vespid_serving::{Inference, ResponseStream};
use vespid_telemetry::Subject;
use vespid_types::{Error, ModelRef, Result};

use super::Api;
use super::body::read_for;
use super::error::Failure;
use super::observe;
use super::target::Target;
use crate::observe::{HTTP, fault};
use crate::wire::{self, generate};

/// One answer, as JSON.
pub(super) async fn generate(
    State(api): State<Api>,
    Target(target): Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (model, body) = read_for(&api, &target, &headers, body).await?;
    let inference = api.begin(&HTTP, model, &headers);
    let answered = one(&inference, &body, target).await;
    Ok(observe::about(&inference, answered.map_err(Failure::from)))
}

async fn one(inference: &Inference, body: &[u8], target: ModelRef) -> Result<Response> {
    let mut responses = ask(inference, body, target).await?;
    let (first, second) = (responses.next().await.transpose()?, responses.next().await.transpose()?);
    let json = inference.encode(|| match (&first, second) {
        (Some(only), None) => generate::encode(only),
        _ => {
            let many = if first.is_none() { "no response" } else { "more than one response" };
            let message = format!("the model answered with {many}: ask .../generate_stream");
            Err(Error::invalid(message))
        }
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// Answers as they come, as server-sent events.
pub(super) async fn generate_stream(
    State(api): State<Api>,
    Target(target): Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (model, body) = read_for(&api, &target, &headers, body).await?;
    let inference = api.begin(&HTTP, model, &headers);
    let answered = many(&inference, &body, target).await;
    Ok(observe::about(&inference, answered.map_err(Failure::from)))
}

async fn many(inference: &Inference, body: &[u8], target: ModelRef) -> Result<Response> {
    let mut responses = ask(inference, body, target).await?;
    let first = match responses.next().await {
        Some(first) => Some(encode(inference, first)?),
        None => None,
    };
    let events = stream::iter(first.map(Ok)).chain(rest(responses, inference.clone()));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(events)).into_response())
}

async fn ask(inference: &Inference, body: &[u8], target: ModelRef) -> Result<ResponseStream> {
    let request = inference.decode(|| generate::decode(body, target, inference.model().signature()))?;
    inference.predict_stream(request).await
}

fn encode(inference: &Inference, response: Result<vespid_types::Response>) -> Result<Bytes> {
    let response = response?;
    inference.encode(|| Ok(generate::event(&generate::encode(&response)?)))
}

/// The events after the first. A failure ends them.
fn rest(
    responses: ResponseStream,
    inference: Inference,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Some((responses, inference)), async |state| {
        let (mut responses, inference) = state?;
        match encode(&inference, responses.next().await?) {
            Ok(event) => Some((Ok(event), Some((responses, inference)))),
            Err(error) => {
                fault(&error, Some(&Subject::of(&inference)), None);
                Some((Ok(generate::event(&wire::error_body(error.message()))), None))
            }
        }
    })
}
