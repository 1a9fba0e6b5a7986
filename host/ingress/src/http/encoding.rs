//! Compressed bodies: gzip and deflate (zlib), both ways.
//!
//! Contract: what comes behind this is a request as if it had come uncompressed, so that limits and lengths count inflated
//! bytes; a `Content-Encoding` that is not known is refused. The answer to a prediction is compressed where `Accept-Encoding`
//! asks for it and it is large enough to gain from it; a stream of events never is, nor are other answers: there are clients
//! that ask for it always and undo it for predictions alone. Cost: a look at two headers where neither is there. Left
//! out on purpose: several encodings on top of each other.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tower::{Service, ServiceExt};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::decompression::{DecompressionBody, RequestDecompression};
use vespid_types::BoxError;

use super::body::drain;
use super::error::Failure;

/// Smaller answers fit into a packet as they are.
const WORTH_COMPRESSING: u64 = 1024;

/// Answers a request, whose body and answer may be compressed.
pub(super) async fn run(request: Request, next: Next) -> Response {
    if !request.headers().contains_key(header::ACCEPT_ENCODING) || !is_prediction(&request) {
        return inflate(request, next).await;
    }
    let inflating = tower::service_fn(move |request| {
        let next = next.clone();
        async move { Ok::<_, std::convert::Infallible>(inflate(request, next).await) }
    });
    // The quickest: an answer is sent once, and somebody waits for it.
    let mut compressing = Compression::new(inflating)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(WORTH_COMPRESSING).and(NotForContentType::SSE).and(succeeded));
    let Ok(response) = compressing.call(request).await;
    // Nobody else answers so.
    if response.status() == StatusCode::NOT_ACCEPTABLE {
        return Failure::not_acceptable().into_response();
    }
    response.map(Body::new)
}

/// Errors are read as they come by clients that undo compression of answers.
fn succeeded(status: StatusCode, _: Version, _: &HeaderMap, _: &Extensions) -> bool {
    status.is_success()
}

fn is_prediction(request: &Request) -> bool {
    let ends = |end: &&str| request.uri().path().ends_with(*end);
    request.method() == Method::POST && ["/infer", "/generate", ":predict", "/embeddings"].iter().any(ends)
}

async fn inflate(mut request: Request, next: Next) -> Response {
    match encoding(request.headers()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(encoding)) => request.headers_mut().insert(header::CONTENT_ENCODING, encoding),
        Err(failure) => {
            drain(request.into_body()).await;
            return failure.into_response();
        }
    };
    let (lend, mut unread) = oneshot::channel();
    let request =
        request.map(|body| Body::from_stream(Lent { body: Some(body.into_data_stream()), back: Some(lend) }));
    let next = next.map_request(|request: Request<DecompressionBody<Body>>| {
        request.map(|body| Body::new(body.map_err(Garbled::from_inflating)))
    });
    let response = match RequestDecompression::new(next).oneshot(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    };
    // Of a body that was refused as it grew, the client may still be sending the rest.
    if let Ok(body) = unread.try_recv()
        && !body.is_end_stream()
    {
        drain(Body::new(body)).await;
    }
    response
}

/// How the body is compressed; none where it is not.
fn encoding(headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(header::CONTENT_ENCODING) {
            Err(Failure::unsupported_encoding("more than one"))
        } else {
            Ok(None)
        };
    };
    let known = |name: &str| value.as_bytes().eq_ignore_ascii_case(name.as_bytes());
    if known("identity") || value.is_empty() {
        Ok(None)
    } else if known("gzip") || known("x-gzip") {
        Ok(Some(HeaderValue::from_static("gzip")))
    } else if known("deflate") {
        Ok(Some(HeaderValue::from_static("deflate")))
    } else {
        Err(Failure::unsupported_encoding(String::from_utf8_lossy(value.as_bytes())))
    }
}

/// A body that is handed back when its reader is done with it.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_next(context))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody waits where the client has left.
            let _ = back.send(body);
        }
    }
}

/// Why a body that came cannot be inflated.
#[derive(Debug)]
pub(super) struct Garbled(BoxError);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Garbled {}

impl Garbled {
    /// Of the errors of inflating, those of reading are passed on as they are.
    fn from_inflating(error: BoxError) -> BoxError {
        if error.is::<axum::Error>() { error } else { Box::new(Self(error)) }
    }
}

/// Whether the body came whole and could not be inflated.
pub(super) fn garbled<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Garbled> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(garbled) = error.downcast_ref() {
            return Some(garbled);
        }
        next = error.source();
    }
    None
}
