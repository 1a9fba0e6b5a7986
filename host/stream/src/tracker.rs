//! How far a partition is done.
//!
//! Contract: the position is the offset of the first message that is not done, whatever the order in which others are; it never goes
//! back. Cost: a few bytes for a message from when it is taken until its offset is committed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

use crate::message::Message;
use crate::metrics::Counters;

/// The messages of a partition that were taken.
pub(crate) struct Tracker {
    counters: Arc<Counters>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// In the order of their offsets.
    taken: VecDeque<Taken>,
    /// Of those, how many are in hand.
    in_hand: usize,
    /// Done, and not committed.
    done: VecDeque<Taken>,
    position: Option<i64>,
    committed: Option<i64>,
}

#[derive(Clone, Copy)]
struct Taken {
    offset: i64,
    timestamp: Option<i64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    InHand,
    Done,
    /// Nobody works at it any more: it is for whoever has the partition next.
    Returned,
}

impl Tracker {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, state: Mutex::default(), changed: Notify::new() }
    }

    /// These are in hand now.
    pub(crate) fn took(&self, messages: &[Message]) {
        let mut state = self.lock();
        let taken = |message: &Message| Taken {
            offset: message.offset,
            timestamp: message.timestamp,
            stage: Stage::InHand,
        };
        state.taken.extend(messages.iter().map(taken));
        state.in_hand += messages.len();
        self.counters.read.inc_by(messages.len() as u64);
    }

    /// These are done.
    pub(crate) fn done<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) {
        let mut state = self.lock();
        state.leave(messages, Stage::Done);
        while let Some(taken) = state.taken.pop_front_if(|taken| taken.stage == Stage::Done) {
            state.position = Some(taken.offset + 1);
            state.done.push_back(taken);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// These were taken, and are given back.
    pub(crate) fn returned<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) {
        self.lock().leave(messages, Stage::Returned);
        self.changed.notify_waiters();
    }

    /// All before this offset was committed before it was read again.
    pub(crate) fn begin_at(&self, committed: i64) {
        self.lock().committed = Some(committed);
    }

    /// Whether nothing is in hand, and nothing done after what is not.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.lock();
        state.taken.iter().all(|taken| taken.stage == Stage::Returned)
    }

    /// What is committed; none where nothing is known to be.
    pub(crate) fn floor(&self) -> Option<i64> {
        self.lock().committed
    }

    /// All before this is done; none where nothing was.
    pub(crate) fn position(&self) -> Option<i64> {
        self.lock().position
    }

    /// Where to commit, where that has moved.
    pub(crate) fn ready(&self) -> Option<i64> {
        let state = self.lock();
        // What is read again is behind what is committed.
        state.position.filter(|position| Some(*position) > state.committed)
    }

    /// All before this offset is committed.
    pub(crate) fn committed(&self, position: i64) {
        let mut state = self.lock();
        state.committed = Some(position);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        while let Some(done) = state.done.pop_front_if(|done| done.offset < position) {
            self.counters.committed.inc();
            if let Some(timestamp) = done.timestamp {
                self.counters.latency.observe((now - timestamp as f64 / 1e3).max(0.0));
            }
        }
    }

    /// Ends when nothing is in hand.
    pub(crate) async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on none is missed.
            changed.as_mut().enable();
            if self.lock().in_hand == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>, stage: Stage) {
        for message in messages {
            let at = self.taken.partition_point(|taken| taken.offset < message.offset);
            if let Some(taken) = self.taken.get_mut(at)
                && taken.offset == message.offset
                && taken.stage == Stage::InHand
            {
                taken.stage = stage;
                self.in_hand -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::status::Told;

    fn tracker() -> Tracker {
        let told = Arc::new(Told::new("s".to_owned(), "m".to_owned()));
        Tracker::new(Metrics::new().unwrap().of(&told))
    }

    fn messages(offsets: impl IntoIterator<Item = i64>) -> Vec<Message> {
        let message = |offset| Message {
            offset,
            id: offset,
            timestamp: None,
            key: None,
            payload: None,
            headers: Vec::new(),
        };
        offsets.into_iter().map(message).collect()
    }

    #[tokio::test]
    async fn the_position_waits_for_the_first_that_is_not_done() {
        let tracker = tracker();
        assert_eq!((tracker.position(), tracker.ready()), (None, None));
        // Offsets may leave some out.
        tracker.took(&messages([3, 4, 7, 8]));
        tracker.done(&messages([4, 8]));
        assert_eq!(tracker.position(), None);
        tracker.done(&messages([3]));
        assert_eq!(tracker.position(), Some(5));
        tracker.done(&messages([7]));
        assert_eq!(tracker.ready(), Some(9));
        tracker.idle().await;
    }

    #[tokio::test]
    async fn what_is_read_again_is_not_committed_again() {
        let tracker = tracker();
        tracker.begin_at(2);
        tracker.took(&messages(0..4));
        tracker.done(&messages([0]));
        assert_eq!(tracker.ready(), None);
        tracker.done(&messages([1, 2]));
        assert_eq!((tracker.ready(), tracker.is_settled()), (Some(3), false));
        tracker.returned(&messages([3]));
        assert!(tracker.is_settled());
    }

    #[tokio::test]
    async fn what_is_given_back_is_not_waited_for_and_not_passed() {
        let tracker = tracker();
        tracker.took(&messages(0..4));
        tracker.returned(&messages([1, 9]));
        tracker.done(&messages([0, 2, 3]));
        tracker.idle().await;
        assert_eq!((tracker.position(), tracker.is_settled()), (Some(1), false));
    }
}
