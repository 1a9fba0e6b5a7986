//! Bodies on their way through: limited, thrown away, and counted until they end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use bytesize::ByteSize;
use http_body_util::{BodyExt, LengthLimitError, Limited as LimitedBody};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::timeout;
use vespid_types::{Error, ErrorCode};

/// How much of an unwanted body is read, so that the client, which may still be sending, gets to see the answer.
const DRAIN: u64 = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long a client may pause amid a body that is read here.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);

/// Reads and forgets the rest of a body, within limits.
pub(crate) async fn drain(mut body: Body) {
    let mut left = DRAIN;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                break;
            }
        }
    };
    let _ = timeout(DRAIN_TIME, reading).await;
}

pub(crate) fn too_large(what: &str, limit: ByteSize) -> Error {
    Error::new(ErrorCode::TooLarge, format!("the {what} is larger than the limit of {limit}"))
}

/// Reads a body that is small.
pub(crate) async fn read(body: Body, limit: ByteSize) -> Result<Bytes, Error> {
    let bytes = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
    if body.size_hint().lower() > limit.as_u64() {
        drain(body).await;
        return Err(too_large("request body", limit));
    }
    // A limit on the whole, which is small: a client that sends it byte by byte is as slow as one that pauses.
    let collected = timeout(PAUSE, LimitedBody::new(body, bytes).collect()).await;
    match collected {
        Err(_) => {
            let message = format!("the request body did not come within {} seconds", PAUSE.as_secs());
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large("request body", limit)),
        Ok(Err(error)) => Err(Error::invalid("the request body ended early").with_source(error)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// A body that may have so many bytes.
pub(crate) struct Limited {
    body: Body,
    left: u64,
    limit: ByteSize,
}

impl Limited {
    pub(crate) fn new(body: Body, limit: ByteSize) -> Self {
        Self { body, left: limit.as_u64(), limit }
    }
}

impl hyper::body::Body for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match this.left.checked_sub(data.len() as u64) {
                Some(left) => this.left = left,
                None => {
                    return Poll::Ready(Some(Err(axum::Error::new(too_large("request body", this.limit)))));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Collected;

    use super::*;

    #[tokio::test]
    async fn a_body_has_a_limit() {
        let read_limited = async |text: &'static str| {
            Body::new(Limited::new(Body::from(text), ByteSize(3))).collect().await.map(Collected::to_bytes)
        };
        assert_eq!(read_limited("abc").await.unwrap(), "abc");
        let error = read_limited("abcd").await.unwrap_err();
        assert!(error.to_string().contains("larger than the limit of 3 B"), "{error}");
        assert_eq!(read(Body::from("abc"), ByteSize(3)).await.unwrap(), "abc");
        assert_eq!(read(Body::from("abcd"), ByteSize(3)).await.unwrap_err().code(), ErrorCode::TooLarge);
    }
}
