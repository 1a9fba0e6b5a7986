//! `POST .../infer`.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use vespid_serving::Inference;
use vespid_types::{Error, ModelRef};

use super::body::resolve_for;
use super::error::Failure;
use super::target::Target;
use super::{Api, drain, observe, read_body};
use crate::observe::HTTP;
use crate::wire::classification::classify_outputs;
use crate::wire::{self, EncodedBody, OutputFormat};

pub(super) async fn infer(
    State(api): State<Api>,
    Target(target): Target,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let model = match resolve_for(&api, &target, &headers).await {
        Ok(model) => model,
        Err(error) => {
            drain(body).await;
            return Err(error.into());
        }
    };
    let head = headers.get(wire::HEADER_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = read_body(body, api.max_body, head.unwrap_or_default()).await?;
    let inference = api.begin(&HTTP, model, &headers);
    let answered = answer(&inference, &headers, body, target).await;
    Ok(observe::about(&inference, answered))
}

async fn answer(
    inference: &Inference,
    headers: &HeaderMap,
    body: Bytes,
    target: ModelRef,
) -> Result<Response, Failure> {
    let model = inference.model();
    let (request, asked, format) = inference.decode(|| {
        let (header_length, format) = layout(headers, &body)?;
        let (request, asked) = wire::decode(body, header_length, target, model.signature())?;
        Ok((request, asked, format))
    })?;
    let mut response = inference.predict(request).await?;
    let encoded = inference.encode(|| {
        classify_outputs(&mut response, &asked, |output| model.labels(output))?;
        wire::encode(&response, format.as_ref().unwrap_or(&asked))
    })?;
    Ok(to_http(encoded))
}

/// The length of the JSON in the body, and where it does not say so itself, how to answer.
///
/// A body of type `application/octet-stream` without the header is one raw tensor, as with the header's value 0; but its
/// sender did not ask for the binary extension, so it is answered in JSON. Triton's asyncio client gives JSON that type as
/// well: a body that reads as a request is one.
fn layout<'a>(headers: &'a HeaderMap, body: &[u8]) -> Result<(Option<&'a str>, Option<OutputFormat>), Error> {
    match headers.get(wire::HEADER_LENGTH) {
        Some(length) => {
            let length = length
                .to_str()
                .map_err(|_| Error::invalid(format!("header {} is not a number", wire::HEADER_LENGTH)))?;
            Ok((Some(length), None))
        }
        None if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream")
            && !wire::is_request(body) =>
        {
            Ok((Some("0"), Some(OutputFormat::json())))
        }
        None => Ok((None, None)),
    }
}

fn to_http(encoded: EncodedBody) -> Response {
    let length = encoded.len();
    let EncodedBody { header_length, content_type, head, tail } = encoded;
    let body = if tail.is_empty() {
        Body::from(head)
    } else {
        let chunks = std::iter::once(head).chain(tail);
        Body::from_stream(stream::iter(chunks.map(Ok::<Bytes, std::convert::Infallible>)))
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(header_length) = header_length {
        headers.insert(wire::HEADER_LENGTH, HeaderValue::from(header_length));
    }
    response
}
