//! The body of an answer, and what is counted until it ends.
//!
//! Contract: frames go on as they come. When the last has gone, or the client has left, the pod has one call less, the request is
//! counted with its status, and its place is free. A gRPC answer that breaks off ends in a status that says so, rather than in a
//! broken stream, which clients take for anything.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use vespid_limits::Place;
use vespid_types::{Error, ErrorCode};

use crate::error::{GRPC_STATUS, grpc_status};
use crate::metrics::Metrics;
use crate::pods::{Protocol, Taken};
use crate::replay::Source;

/// What a client that has left is counted under, as nginx has it.
const LEFT: &str = "499";

/// A request that is counted until this is dropped.
pub(crate) struct Counted {
    metrics: Metrics,
    in_flight: Arc<AtomicUsize>,
    protocol: Protocol,
    pool: String,
    code: Option<String>,
    began: Instant,
    /// Its place among streams, where it is one.
    stream: Option<OwnedSemaphorePermit>,
    /// Its place among the calls of its model and its tenant, where these are limited.
    limited: Option<Place>,
}

impl Counted {
    /// Counts a request; none where as many are in flight as may.
    pub(crate) fn begin(
        metrics: &Metrics,
        in_flight: &Arc<AtomicUsize>,
        max: usize,
        protocol: Protocol,
    ) -> Option<Self> {
        if in_flight.fetch_add(1, Relaxed) >= max {
            in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        metrics.in_flight.inc();
        Some(Self {
            metrics: metrics.clone(),
            in_flight: Arc::clone(in_flight),
            protocol,
            pool: String::new(),
            code: None,
            began: Instant::now(),
            stream: None,
            limited: None,
        })
    }

    /// It is about this pool.
    pub(crate) fn of_pool(&mut self, pool: &str) {
        if self.pool != pool {
            pool.clone_into(&mut self.pool);
        }
    }

    /// It is a stream, which has this place until it ends.
    pub(crate) fn streams(&mut self, place: OwnedSemaphorePermit) {
        self.stream = Some(place);
    }

    /// It was admitted by limits, and has this place until it ends.
    pub(crate) fn limited(&mut self, place: Option<Place>) {
        self.limited = place;
    }

    /// This is what was answered.
    pub(crate) fn answered(&mut self, code: &str) {
        self.code = Some(code.to_owned());
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.metrics.in_flight.dec();
        let code = self.code.as_deref().unwrap_or(LEFT);
        self.metrics.ended(self.protocol, &self.pool, code, self.began.elapsed());
    }
}

/// The body of an answer.
pub(crate) struct Answer {
    body: Body,
    counted: Counted,
    status: StatusCode,
    /// Over gRPC: where it is said what is wrong with the request's body.
    source: Option<Source>,
    is_over: bool,
    _taken: Option<Taken>,
}

impl Answer {
    /// An answer that a pod gives.
    pub(crate) fn of_pod(
        body: Body,
        counted: Counted,
        status: StatusCode,
        headers: &HeaderMap,
        source: Source,
        taken: Taken,
    ) -> Self {
        let source = (counted.protocol == Protocol::Grpc).then_some(source);
        let mut answer = Self { body, counted, status, source, is_over: false, _taken: Some(taken) };
        answer.look_at(headers);
        if answer.body.is_end_stream() {
            answer.end();
        }
        answer
    }

    /// One that the gateway gives by itself.
    pub(crate) fn own(body: Body, counted: Counted, status: StatusCode, headers: &HeaderMap) -> Self {
        let mut answer = Self { body, counted, status, source: None, is_over: false, _taken: None };
        answer.look_at(headers);
        if answer.body.is_end_stream() {
            answer.end();
        }
        answer
    }

    /// The status of a gRPC call is in its headers or its trailers.
    fn look_at(&mut self, headers: &HeaderMap) {
        let status = headers.get(GRPC_STATUS).filter(|_| self.counted.protocol == Protocol::Grpc);
        if let Some(status) = status.and_then(|status| status.to_str().ok()) {
            self.counted.answered(status);
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        if self.counted.protocol == Protocol::Http {
            self.counted.answered(self.status.as_str());
        }
    }

    /// The trailers of a stream that ends well because it was ended here: its client is told why.
    fn closed(&self, trailers: &HeaderMap) -> Option<HeaderMap> {
        let source = self.source.as_ref()?;
        let why = source.ended_here()?;
        let ok = trailers.get(GRPC_STATUS).is_none_or(|status| status == "0");
        let why = source.fault().unwrap_or(why);
        ok.then(|| grpc_status(&why).into_iter().collect())
    }

    /// The trailers of a gRPC answer that broke off.
    fn broken(&mut self, error: &axum::Error) -> Frame<Bytes> {
        let fault = self.source.as_ref().and_then(Source::fault);
        let fault = fault.unwrap_or_else(|| {
            Error::new(ErrorCode::Unavailable, format!("the pod's answer broke off: {error}"))
        });
        let trailers: HeaderMap = grpc_status(&fault).into_iter().collect();
        self.look_at(&trailers);
        self.end();
        Frame::trailers(trailers)
    }
}

/// What a stream is told when the gateway ends.
pub(crate) fn shutting_down() -> Error {
    Error::refused("the gateway is shutting down: open another stream")
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut this.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let trailers = this.closed(trailers).unwrap_or_else(|| trailers.clone());
                    this.look_at(&trailers);
                    this.end();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                } else if this.body.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) if this.source.is_some() => Poll::Ready(Some(Ok(this.broken(&error)))),
            Some(Err(error)) => {
                this.is_over = true;
                this.counted.answered("502");
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
