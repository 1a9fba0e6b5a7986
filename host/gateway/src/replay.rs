//! A body that can be sent again, as long as little of it has been read.
//!
//! Contract: the body goes to one pod at a time, frame by frame, as it comes; its first bytes are kept besides, up to a limit, so
//! that another pod can have it from the start. One that is longer, or whose answer has begun, cannot be sent again. Where it fails
//! by itself (the client leaves, it is too large), the reason is kept, and is told in place of what the pod's connection says.
//! Cost: no copy, the frames are shared; at most the limit is held for each call that waits for an answer, where each frame but
//! the first counts for more than its bytes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use vespid_types::{BoxError, Error};

use crate::memory::PIECE;

/// Why a body was ended here, before its client ended it, where that is so.
pub(crate) type EndedHere = Arc<OnceLock<Error>>;

/// The body of a call, from which each attempt gets one.
#[derive(Clone)]
pub(crate) struct Source {
    state: Arc<Mutex<State>>,
    ended_here: EndedHere,
}

struct State {
    rest: Body,
    kept: Vec<Bytes>,
    size: usize,
    limit: usize,
    /// Which attempt may read: one whose connection still holds it after it was given up must not.
    attempt: u32,
    /// Whether what was read is not kept any more.
    is_lost: bool,
    ended: Option<Option<HeaderMap>>,
    fault: Option<Error>,
}

/// The body of an attempt.
pub(crate) struct Replay {
    state: Arc<Mutex<State>>,
    attempt: u32,
    position: usize,
    ended: bool,
}

impl Source {
    pub(crate) fn new(body: Body, limit: usize) -> Self {
        Self::ending(body, limit, Arc::default())
    }

    /// The same of a body that says so where it ends by itself.
    pub(crate) fn ending(body: Body, limit: usize, ended_here: EndedHere) -> Self {
        let state = State {
            rest: body,
            kept: Vec::new(),
            size: 0,
            limit,
            attempt: 0,
            is_lost: false,
            ended: None,
            fault: None,
        };
        Self { state: Arc::new(Mutex::new(state)), ended_here }
    }

    /// The body for another attempt. Those before read nothing from now on.
    pub(crate) fn attempt(&self) -> Replay {
        let mut state = self.lock();
        state.attempt += 1;
        Replay { attempt: state.attempt, state: Arc::clone(&self.state), position: 0, ended: false }
    }

    /// Whether another attempt would have all of it.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        let state = self.lock();
        !state.is_lost && state.fault.is_none()
    }

    /// What is wrong with the body itself.
    pub(crate) fn fault(&self) -> Option<Error> {
        self.lock().fault.clone()
    }

    /// Why it was ended here, where it was.
    pub(crate) fn ended_here(&self) -> Option<Error> {
        self.ended_here.get().cloned()
    }

    /// There will be no other attempt. What this one has not sent again yet is still sent.
    pub(crate) fn forget(&self) {
        self.lock().is_lost = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

// What is behind a poisoned lock is a body that broke in the middle, and is told as such.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn lose(&mut self) {
        self.is_lost = true;
        self.kept = Vec::new();
    }

    /// Reads on.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.rest).poll_frame(context)) {
            None => {
                self.ended.get_or_insert(None);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                let fault = into_fault(error.into_inner());
                self.fault = Some(fault.clone());
                return Poll::Ready(Some(Err(fault.into())));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) => {
                let piece = if self.kept.is_empty() { 0 } else { PIECE };
                self.size = self.size.saturating_add(data.len()).saturating_add(piece);
                if self.size > self.limit {
                    self.lose();
                } else if !self.is_lost {
                    self.kept.push(data.clone());
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => {
                self.ended = Some(frame.trailers_ref().cloned());
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

/// Ours as it is; anything else means that the client is gone.
fn into_fault(error: BoxError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if let Some(fault) = error.downcast_ref::<Error>() {
            return fault.clone();
        }
        cause = error.source();
    }
    Error::invalid("the request body ended early").with_source(error)
}

impl hyper::body::Body for Replay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let mut state = lock(&this.state);
        if this.ended {
            return Poll::Ready(None);
        }
        if state.attempt != this.attempt {
            return Poll::Ready(Some(Err("the attempt was given up".into())));
        }
        if let Some(kept) = state.kept.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(kept.clone()))));
        }
        if let Some(trailers) = state.ended.clone() {
            this.ended = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if state.is_lost {
            // All of it has been sent.
            state.kept = Vec::new();
            this.position = 0;
        }
        let frame = ready!(state.poll(context));
        // What is kept was read by this attempt just now.
        this.position = state.kept.len();
        this.ended = state.ended.is_some();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        self.ended
            || (state.kept.len() <= self.position && state.ended.is_none() && state.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.state);
        let kept: u64 = state.kept.iter().skip(self.position).map(|kept| kept.len() as u64).sum();
        let rest = if state.ended.is_some() { SizeHint::with_exact(0) } else { state.rest.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::BodyExt;
    use vespid_types::ErrorCode;

    use super::*;

    fn chunks(chunks: &'static [&'static str]) -> Body {
        Body::from_stream(stream::iter(
            chunks.iter().map(|chunk| Ok::<_, BoxError>(Bytes::from_static(chunk.as_bytes()))),
        ))
    }

    async fn next(replay: &mut Replay) -> Option<Bytes> {
        replay.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
    }

    async fn all(replay: Replay) -> Bytes {
        replay.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn a_body_is_sent_again_from_its_start() {
        let source = Source::new(chunks(&["ab", "cd", "ef"]), 6 + 2 * PIECE);
        let mut first = source.attempt();
        assert_eq!(next(&mut first).await.unwrap(), "ab");
        let mut second = source.attempt();
        assert_eq!(next(&mut second).await.unwrap(), "ab");
        assert_eq!(next(&mut second).await.unwrap(), "cd");
        assert!(first.frame().await.unwrap().is_err(), "the first was given up, and takes nothing away");
        assert!(source.can_be_sent_again());
        assert_eq!(all(source.attempt()).await, "abcdef");
        assert_eq!(all(source.attempt()).await, "abcdef", "when it has ended, too");
    }

    #[tokio::test]
    async fn one_that_is_too_long_to_keep_is_not_sent_again() {
        let source = Source::new(chunks(&["ab", "cd", "ef"]), 6 + PIECE);
        assert_eq!(all(source.attempt()).await, "abcdef");
        assert!(!source.can_be_sent_again());
        let source = Source::new(chunks(&["ab"]), 3);
        source.forget();
        assert!(!source.can_be_sent_again());
        assert_eq!(all(source.attempt()).await, "ab");
    }

    #[tokio::test]
    async fn lengths_and_ends_are_told_as_they_are() {
        let source = Source::new(Body::empty(), 3);
        assert!(source.attempt().is_end_stream());
        let source = Source::new(Body::from("abc"), 3);
        let mut attempt = source.attempt();
        assert_eq!((attempt.size_hint().exact(), attempt.is_end_stream()), (Some(3), false));
        next(&mut attempt).await;
        assert_eq!(attempt.size_hint().exact(), Some(0));
        assert_eq!(source.attempt().size_hint().exact(), Some(3));
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_body_is_kept() {
        let fails =
            stream::iter([Ok(Bytes::from_static(b"a")), Err(Error::new(ErrorCode::TooLarge, "too much"))]);
        let source = Source::new(Body::from_stream(fails), 3);
        assert!(source.attempt().collect().await.is_err());
        assert_eq!(source.fault().unwrap().code(), ErrorCode::TooLarge);
        assert!(!source.can_be_sent_again());
    }
}
