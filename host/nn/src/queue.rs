//! The bounded queue of a lane: many async tasks push, one thread pops.
//!
//! Contract: first in, first out; a full or closed queue refuses at once; what waits when the queue closes is still popped.
//! Cost: a push wakes the thread only where it sleeps, and does so after it has let go of the lock - the channels of std
//! wake while they hold one, at the price of two more context switches a call.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Why a value was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    Full { limit: usize },
    Closed,
}

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    limit: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    sleeping: bool,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { waiting: VecDeque::new(), sleeping: false, closed: false };
        Self { state: Mutex::new(state), wake: Condvar::new(), limit }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), PushError> {
        let sleeping = {
            let mut state = self.lock();
            if state.closed {
                return Err(PushError::Closed);
            }
            if state.waiting.len() >= self.limit {
                return Err(PushError::Full { limit: self.limit });
            }
            state.waiting.push_back(value);
            state.sleeping
        };
        if sleeping {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits for the next value; `None` when the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(value) = state.waiting.pop_front() {
                return Some(value);
            }
            if state.closed {
                return None;
            }
            state.sleeping = true;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.sleeping = false;
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn values_come_in_order_up_to_the_limit_and_past_the_close() {
        let queue = Queue::new(2);
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        assert_eq!(queue.push(3), Err(PushError::Full { limit: 2 }));
        queue.close();
        assert_eq!(queue.push(3), Err(PushError::Closed));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_sleeping_thread_is_woken_by_values_and_by_the_close() {
        let queue = Arc::new(Queue::new(1000));
        let popping = Arc::clone(&queue);
        let popped = std::thread::spawn(move || std::iter::from_fn(|| popping.pop()).count());
        for value in 0..1000 {
            queue.push(value).unwrap();
            std::thread::yield_now();
        }
        queue.close();
        assert_eq!(popped.join().unwrap(), 1000);
    }
}
