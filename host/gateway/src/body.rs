//! Bodies on their way through: limited, thrown away, and counted until they end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use bytesize::ByteSize;
use http_body_util::{BodyExt, LengthLimitError, Limited as LimitedBody};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::task::coop::consume_budget;
use tokio::time::timeout;
use vespid_types::{Error, ErrorCode};

use crate::memory::{self, Memory};
use crate::patience::{PAUSE, Pause};

/// How much of an unwanted body is read, so that the client, which may still be sending, gets to see the answer.
const DRAIN: u64 = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

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
    collect(body, limit, |_| Ok(())).await
}

/// Reads one that may be large, into memory that others have to share.
pub(crate) async fn read_into(memory: &Memory, body: Body, limit: ByteSize) -> Result<Bytes, Error> {
    let mut room = memory.take(0)?;
    let bytes = collect(body, limit, |size| memory.take(size).map(|more| room.merge(more))).await?;
    Ok(memory::held(bytes, room))
}

/// Reads a body whole. Each piece is told of beforehand, and may be refused. Pieces are joined as they come, for a client may make
/// them as small as it likes, and each takes more than its bytes.
async fn collect(
    mut body: Body,
    limit: ByteSize,
    mut take: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Error> {
    if body.size_hint().lower() > limit.as_u64() {
        drain(body).await;
        return Err(too_large("request body", limit));
    }
    let reading = async {
        let bytes = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
        let mut limited = LimitedBody::new(&mut body, bytes);
        let (mut first, mut joined) = (Bytes::new(), Vec::new());
        while let Some(frame) = limited.frame().await {
            let frame = frame.map_err(|error| match error {
                error if error.is::<LengthLimitError>() => too_large("request body", limit),
                error => Error::invalid("the request body ended early").with_source(error),
            })?;
            let Ok(data) = frame.into_data() else { continue };
            take(data.len())?;
            if first.is_empty() && joined.is_empty() {
                first = data;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut first));
                joined.extend_from_slice(&data);
            }
            consume_budget().await;
        }
        Ok(if joined.is_empty() { first } else { joined.into() })
    };
    // A limit on the whole, which is small: a client that sends it byte by byte is as slow as one that pauses.
    match timeout(PAUSE, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            drain(body).await;
            Err(error)
        }
        Err(_) => {
            let message = format!("the request body did not come within {} seconds", PAUSE.as_secs());
            Err(Error::new(ErrorCode::DeadlineExceeded, message))
        }
    }
}

/// A body that may have so many bytes, and that its client may not leave lying amid of it.
pub(crate) struct Limited {
    body: Body,
    left: u64,
    limit: ByteSize,
    pause: Pause,
}

impl Limited {
    pub(crate) fn new(body: Body, limit: ByteSize, pause: Duration) -> Self {
        Self { body, left: limit.as_u64(), limit, pause: Pause::new(pause) }
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
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            let fault = ready!(this.pause.poll(context));
            return Poll::Ready(Some(Err(axum::Error::new(fault))));
        };
        this.pause.stop();
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
    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::Collected;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn a_body_has_a_limit() {
        let read_limited = async |text: &'static str| {
            let limited = Limited::new(Body::from(text), ByteSize(3), PAUSE);
            Body::new(limited).collect().await.map(Collected::to_bytes)
        };
        assert_eq!(read_limited("abc").await.unwrap(), "abc");
        let error = read_limited("abcd").await.unwrap_err();
        assert!(error.to_string().contains("larger than the limit of 3 B"), "{error}");
        assert_eq!(read(Body::from("abc"), ByteSize(3)).await.unwrap(), "abc");
        assert_eq!(read(Body::from("abcd"), ByteSize(3)).await.unwrap_err().code(), ErrorCode::TooLarge);
        let pieces = || Body::from_stream(stream::iter(["ab", "cd"].map(Ok::<_, std::io::Error>)));
        assert_eq!(read(pieces(), ByteSize(4)).await.unwrap(), "abcd");
        assert_eq!(read(pieces(), ByteSize(3)).await.unwrap_err().code(), ErrorCode::TooLarge);
    }

    #[tokio::test]
    async fn bodies_that_are_held_share_a_memory() {
        let memory = Memory::new(ByteSize(6));
        let first = read_into(&memory, Body::from("abcd"), ByteSize(4)).await.unwrap();
        let refused = read_into(&memory, Body::from("abc"), ByteSize(4)).await.unwrap_err();
        assert!(refused.is_refused(), "{refused}");
        let second = read_into(&memory, Body::from("ab"), ByteSize(4)).await.unwrap();
        drop(first);
        assert_eq!(read_into(&memory, Body::from("abcd"), ByteSize(4)).await.unwrap(), "abcd");
        assert_eq!(second, "ab");
    }

    #[tokio::test]
    async fn a_client_may_pause_for_a_while() {
        let (limit, wait) = (Duration::from_millis(500), Duration::from_millis(300));
        let limited = |body| Body::new(Limited::new(body, ByteSize(10), limit));
        let late = move |piece: &'static str| async move {
            sleep(wait).await;
            Ok::<_, std::io::Error>(piece)
        };
        let all = limited(Body::from_stream(stream::iter(["a", "b", "c"]).then(late))).collect().await;
        assert_eq!(all.unwrap().to_bytes(), "abc");
        let stalls = stream::iter(["a"]).then(late).chain(stream::pending());
        let error = limited(Body::from_stream(stalls)).collect().await.unwrap_err();
        assert!(error.to_string().contains("did not go on"), "{error}");
        // What the pod does not ask for does not count.
        let mut body = limited(Body::from_stream(stream::iter(["a", "b"]).then(late)));
        for _ in 0..2 {
            assert!(body.frame().now_or_never().is_none());
            sleep(limit * 2).await;
            assert!(body.frame().await.unwrap().is_ok());
        }
    }
}
