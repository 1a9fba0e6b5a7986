//! How long a client may pause.
//!
//! Contract: a client that sends nothing amid a body that a pod reads, or takes nothing of an answer that waits for it, is waited for
//! so long, and then its call ends: the pod has one call less, and its place is free. Time that a pod takes does not count, however
//! long. Cost: a timer for each body that is waited for, a task for each answer that has more than one frame.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use vespid_types::{Error, ErrorCode};

use crate::answer::Answer;
use crate::error::grpc_status;
use crate::pods::Protocol;

/// How long a client may pause, where nothing else is said.
pub(crate) const PAUSE: Duration = Duration::from_secs(60);

/// The time for which a client is waited for that is to send more.
pub(crate) struct Pause {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl Pause {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, is_running: false }
    }

    /// It has sent more, or need not.
    pub(crate) fn stop(&mut self) {
        self.is_running = false;
    }

    /// It is waited for. Ready when that has taken too long.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if !mem::replace(&mut self.is_running, true) {
            sleep.as_mut().reset(Instant::now() + self.limit);
        }
        sleep.as_mut().poll(context).map(|()| did_not_go_on(self.limit))
    }
}

/// The client has sent nothing for so long.
pub(crate) fn did_not_go_on(limit: Duration) -> Error {
    let message = format!("the request body did not go on for {} seconds", limit.as_secs());
    Error::new(ErrorCode::DeadlineExceeded, message)
}

/// An answer that is dropped where its client does not take it.
pub(crate) struct Watched {
    state: Arc<Mutex<State>>,
    protocol: Protocol,
    limit: Duration,
    watch: Option<AbortHandle>,
}

struct State {
    /// None where it was given up.
    answer: Option<Answer>,
    /// Since when a frame waits for the client to take it.
    untaken: Option<Instant>,
    /// Whether the client has been told that it was given up.
    is_told: bool,
}

// What is behind a poisoned lock is an answer that broke in the middle, and is dropped as any other.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    pub(crate) fn new(answer: Answer, protocol: Protocol, limit: Duration) -> Self {
        let state = State { answer: Some(answer), untaken: None, is_told: false };
        Self { state: Arc::new(Mutex::new(state)), protocol, limit, watch: None }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Drops the answer when a frame of it has waited for so long: nobody asks for the next then, and so nobody else would.
async fn watch(state: Weak<Mutex<State>>, limit: Duration) {
    let mut next = Instant::now() + limit;
    loop {
        sleep_until(next).await;
        let Some(state) = state.upgrade() else { return };
        let given_up = {
            let mut state = lock(&state);
            match state.untaken {
                Some(since) if since.elapsed() >= limit => state.answer.take(),
                since => {
                    next = since.unwrap_or_else(Instant::now) + limit;
                    None
                }
            }
        };
        if given_up.is_some() {
            return;
        }
    }
}

impl State {
    /// What a client gets that comes back to an answer that was given up.
    fn tell(&mut self, protocol: Protocol, limit: Duration) -> Option<Result<Frame<Bytes>, axum::Error>> {
        if mem::replace(&mut self.is_told, true) {
            return None;
        }
        let message = format!("nothing of the answer was taken for {} seconds", limit.as_secs());
        let error = Error::new(ErrorCode::DeadlineExceeded, message);
        Some(match protocol {
            Protocol::Http => Err(axum::Error::new(error)),
            Protocol::Grpc => Ok(Frame::trailers(grpc_status(&error).into_iter().collect())),
        })
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let mut state = lock(&this.state);
        // Who asks for more has taken what there was.
        state.untaken = None;
        let Some(answer) = &mut state.answer else {
            return Poll::Ready(state.tell(this.protocol, this.limit));
        };
        let frame = ready!(Pin::new(&mut *answer).poll_frame(context));
        if matches!(frame, Some(Ok(_))) && !answer.is_end_stream() {
            state.untaken = Some(Instant::now());
            if this.watch.is_none() {
                let watch = watch(Arc::downgrade(&this.state), this.limit);
                this.watch = Some(tokio::spawn(watch).abort_handle());
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        state.answer.as_ref().map_or(state.is_told, Answer::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.state).answer.as_ref().map(Answer::size_hint).unwrap_or_default()
    }
}
