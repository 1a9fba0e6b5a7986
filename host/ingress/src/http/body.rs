//! Reading request bodies.
//!
//! Contract: a body is limited before and while it is read, in bytes and in the time between two of its frames. Cost: see
//! [`read_body`]. Left out on purpose: a limit on the time of a whole body, which a slow line may need.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use bytesize::ByteSize;
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::task::coop::consume_budget;
use tokio::time::timeout;
use vespid_serving::ReadyModel;
use vespid_types::{BoxError, Error, ErrorCode, ModelRef, note_copy};

use super::Api;
use super::encoding;
use super::error::Failure;
use crate::version::chosen;

/// How much of an unwanted body is read so that the client, which may still be sending, gets to see the answer.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long a client may pause amid a body.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);

/// Reads and forgets the rest of a body, within limits.
pub(super) async fn drain(body: Body) {
    let mut body = body.into_data_stream();
    let mut left = DRAIN_BYTES;
    let reading = async {
        while let Some(Ok(chunk)) = body.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
            consume_budget().await;
        }
    };
    let _ = timeout(DRAIN_TIME, reading).await;
}

/// Reads a whole body. Frames are joined in one buffer, so that tensors can be slices of it: the one copy on the way in,
/// of bodies that do not come in one frame. `head` bytes of JSON come before the tensors, which then lie where any backend
/// can take them as they are.
pub(super) async fn read_body(mut body: Body, limit: ByteSize, head: usize) -> Result<Bytes, Failure> {
    let limit_bytes = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
    let expected = body.size_hint();
    if expected.lower() > limit.as_u64() {
        drain(body).await;
        return Err(too_large(limit));
    }
    let mut limited = Limited::new(&mut body, limit_bytes);
    let mut frames = Frames::new(usize::try_from(expected.lower()).unwrap_or_default(), head);
    loop {
        match timeout(PAUSE, limited.frame()).await.map_err(|_| Failure::too_slow(PAUSE))? {
            None => return Ok(frames.join()),
            Some(Ok(frame)) => {
                // Trailers are not data.
                if let Ok(data) = frame.into_data() {
                    frames.push(data);
                }
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => {
                drain(body).await;
                return Err(too_large(limit));
            }
            Some(Err(error)) => return Err(unreadable(error).into()),
        }
        // Inflating never waits where a little makes a lot: others have their turn all the same.
        consume_budget().await;
    }
}

/// The model that is asked, which is loaded first where it is not.
pub(super) async fn resolve_for(
    api: &Api,
    target: &ModelRef,
    headers: &HeaderMap,
) -> Result<Arc<ReadyModel>, Error> {
    api.predictor.resolve(&chosen(target, headers)?).await
}

/// The model that is asked, and the whole body that it is asked with.
pub(super) async fn read_for(
    api: &Api,
    target: &ModelRef,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Arc<ReadyModel>, Bytes), Failure> {
    match resolve_for(api, target, headers).await {
        Ok(model) => Ok((model, read_body(body, api.max_body, 0).await?)),
        Err(error) => {
            drain(body).await;
            Err(error.into())
        }
    }
}

fn too_large(limit: ByteSize) -> Failure {
    let message =
        format!("the request body is larger than the limit of {limit} (inflated, where it came compressed)");
    Error::new(ErrorCode::TooLarge, message).into()
}

fn unreadable(error: BoxError) -> Error {
    let message = match encoding::garbled(error.as_ref()) {
        Some(garbled) => format!("the request body is not what header Content-Encoding says: {garbled}"),
        None => "the request body ended early".to_owned(),
    };
    Error::invalid(message).with_source(error)
}

/// The frames of a body as they come.
struct Frames {
    first: Bytes,
    /// Begins with `padding` bytes that are nobody's.
    joined: Vec<u8>,
    padding: usize,
    expected: usize,
}

/// How much is set aside for a body before it has come: a header alone must not take more.
const RESERVED: usize = 64 << 20;

/// What the elements of every datatype can be aligned to.
const ALIGNMENT: usize = 16;

impl Frames {
    fn new(expected: usize, head: usize) -> Self {
        let padding = (ALIGNMENT - head % ALIGNMENT) % ALIGNMENT;
        Self { first: Bytes::new(), joined: Vec::new(), padding, expected }
    }

    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return;
        }
        if self.joined.is_empty() {
            let there = self.first.len() + data.len();
            self.joined.reserve_exact(self.padding + self.expected.min(RESERVED).max(there));
            self.joined.resize(self.padding, 0);
            let first = std::mem::take(&mut self.first);
            self.extend(&first);
        }
        self.extend(&data);
    }

    fn extend(&mut self, data: &[u8]) {
        note_copy(data.len());
        self.joined.extend_from_slice(data);
    }

    fn join(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { Bytes::from(self.joined).slice(self.padding..) }
    }
}
