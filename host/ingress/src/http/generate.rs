//! `POST .../generate` and `.../generate_stream`.
//!
//! Contract: what fails before the first response fails as everywhere, with a status; what fails later is an event
//! `{"error": ...}`, the last. A client that goes away ends the call, at the next piece at the latest.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use vespid_serving::ResponseStream;
use vespid_types::{Error, Result};

use super::Api;
use super::body::read_for;
use super::error::{self, Failure};
use super::target::Target;
use crate::wire::{self, generate};

/// One answer, as JSON.
pub(super) async fn generate(
    State(api): State<Api>,
    Target(target): Target,
    body: Body,
) -> Result<Response, Failure> {
    let (model, body) = read_for(&api, &target, body).await?;
    let request = generate::decode(&body, target, model.signature())?;
    let mut responses = api.predictor.predict_stream(model, request).await?;
    let only = match (responses.next().await.transpose()?, responses.next().await.transpose()?) {
        (Some(only), None) => only,
        (first, _) => {
            let many = if first.is_none() { "no response" } else { "more than one response" };
            let message = format!("the model answered with {many}: ask .../generate_stream");
            return Err(Error::invalid(message).into());
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], generate::encode(&only)?).into_response())
}

/// Answers as they come, as server-sent events.
pub(super) async fn generate_stream(
    State(api): State<Api>,
    Target(target): Target,
    body: Body,
) -> Result<Response, Failure> {
    let (model, body) = read_for(&api, &target, body).await?;
    let request = generate::decode(&body, target, model.signature())?;
    let mut responses = api.predictor.predict_stream(model, request).await?;
    let first = match responses.next().await {
        Some(first) => Some(encode(first)?),
        None => None,
    };
    let events = stream::iter(first.map(Ok)).chain(rest(responses));
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(events)).into_response())
}

fn encode(response: Result<vespid_types::Response>) -> Result<Bytes> {
    Ok(generate::event(&generate::encode(&response?)?))
}

/// The events after the first. A failure ends them.
fn rest(responses: ResponseStream) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    stream::unfold(Some(responses), async |responses| {
        let mut responses = responses?;
        match encode(responses.next().await?) {
            Ok(event) => Some((Ok(event), Some(responses))),
            Err(error) => {
                error::log(&error);
                Some((Ok(generate::event(&wire::error_body(error.message()))), None))
            }
        }
    })
}
