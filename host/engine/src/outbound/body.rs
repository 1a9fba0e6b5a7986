//! The body of an answer, which ends at the call's deadline and holds the request's places until then.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::Limits;

pub(super) struct Bounded {
    body: Incoming,
    whole: Instant,
    between: Duration,
    /// When the next piece must be there.
    timer: Pin<Box<Sleep>>,
    _places: [OwnedSemaphorePermit; 2],
}

impl Bounded {
    pub(super) fn new(body: Incoming, limits: &Limits, places: [OwnedSemaphorePermit; 2]) -> Self {
        let whole = limits.whole.into();
        let timer = Box::pin(tokio::time::sleep_until(next(whole, limits.between)));
        Self { body, whole, between: limits.between, timer, _places: places }
    }

    pub(super) fn boxed(self) -> WasiBody {
        self.boxed_unsync()
    }
}

fn next(whole: Instant, between: Duration) -> Instant {
    Instant::now().checked_add(between).map_or(whole, |next| next.min(whole))
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(frame)) => {
                // Without a limit between the pieces the timer stands at the end.
                if self.between < Duration::MAX {
                    let next = next(self.whole, self.between);
                    self.timer.as_mut().reset(next);
                }
                Poll::Ready(Some(frame.map_err(HttpError::from)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                self.timer.as_mut().poll(cx).map(|()| Some(Err(HttpError::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
