//! Whose guest code runs: one model's calls take turns, so that they do not crowd out another's.
//!
//! Contract: a call holds a turn while its guest runs, and gives it back while it waits for a graph or for another model,
//! and to those who wait for one at each tick of the epoch. A plugin has as many turns as there are processors; they go
//! round in the order of asking. So of a model that is asked a thousand things at once a few run at a time, and another
//! model's call shares the processors with those few. Who has a turn waits for nothing that another call would need a
//! turn to give: room for an instance is had before. Cost: an uncontended semaphore twice a call, twice a wait, and at
//! each tick.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A plugin's turns. Clones share them.
#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// As many as there are processors.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get))))
    }

    /// A call's place among them, which has no turn yet.
    pub(crate) fn place(&self) -> Place {
        Place { turns: Arc::clone(&self.0), held: Arc::default() }
    }
}

/// A call's place, with its turn where it has one. Clones are the same place.
#[derive(Clone)]
pub(crate) struct Place {
    turns: Arc<Semaphore>,
    held: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

impl Place {
    /// Waits for a turn.
    pub(crate) async fn take(&self) {
        // The semaphore is never closed, so that there is always one to come.
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok();
        self.hold(turn);
    }

    /// Ends the turn.
    pub(crate) fn give_back(&self) {
        self.hold(None);
    }

    /// Does `work` while others' guests may run.
    pub(crate) async fn give_way<T>(self, work: impl Future<Output = T>) -> T {
        self.give_back();
        let done = work.await;
        self.take().await;
        done
    }

    /// Lets those who wait for a turn have it, and waits for the next.
    pub(crate) async fn pass_on(self) {
        self.give_back();
        tokio::task::yield_now().await;
        self.take().await;
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn hold(&self, turn: Option<OwnedSemaphorePermit>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}
