//! Instances that are kept between calls, where the manifest asks for it.
//!
//! Contract: an instance answers one call at a time. It is kept after the call if it answered (be it with an error of its
//! own), holds no tensor and no request of the call, has not answered `max_calls`, and fewer than `warm` are idle; a trap, an overrun or a
//! caller who left ends it. When all are busy, a call has a fresh one. An idle instance takes up room like one that runs,
//! and gives way when another call needs it. What the guest keeps in its memory it keeps for the next caller: that is what
//! the manifest asks for. Cost: a lock around a push and a pop.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::component::Exports;
use crate::host::HostState;
use crate::meter::Meter;

/// How many instances of a plugin are kept.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Instances that are kept at most. None: each call has a fresh one.
    pub warm: usize,
    /// Calls after which an instance is ended.
    pub max_calls: NonZero<u64>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { warm: 0, max_calls: NonZero::<u64>::MAX }
    }
}

/// An instance in its store, and the room that it takes up.
pub(crate) struct Instance {
    pub(crate) store: Store<HostState>,
    pub(crate) exports: Exports,
    calls: u64,
    /// Counts the end of an instance that was kept.
    kept: Option<Arc<Meter>>,
    room: OwnedSemaphorePermit,
}

impl Instance {
    pub(crate) fn new(store: Store<HostState>, exports: Exports, room: OwnedSemaphorePermit) -> Self {
        Self { store, exports, calls: 0, kept: None, room }
    }

    /// Takes up another room.
    pub(crate) fn move_to(&mut self, room: OwnedSemaphorePermit) {
        self.room = room;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(meter) = &self.kept {
            meter.count_retired();
        }
    }
}

/// A plugin's idle instances.
pub(crate) struct Pool {
    idle: Mutex<Vec<Instance>>,
    options: PoolOptions,
    meter: Arc<Meter>,
    /// Calls of any plugin that want room.
    waiting: Arc<AtomicUsize>,
}

impl Pool {
    pub(crate) fn new(options: PoolOptions, meter: Arc<Meter>, waiting: Arc<AtomicUsize>) -> Self {
        Self { idle: Mutex::default(), options, meter, waiting }
    }

    /// An idle instance: the one that was used last, whose memory is most likely still at hand.
    pub(crate) fn take(&self) -> Option<Instance> {
        if self.options.warm == 0 {
            return None;
        }
        self.lock().pop()
    }

    /// Keeps an instance that has answered, if it may be kept.
    pub(crate) fn give_back(&self, mut instance: Instance) {
        if self.options.warm == 0 {
            return;
        }
        instance.calls += 1;
        if instance.calls >= self.options.max_calls.get() || instance.store.data().holds_what_is_the_call_s()
        {
            return;
        }
        let mut idle = self.lock();
        // Looked at under the lock, as `Engine::admit` relies on.
        if idle.len() < self.options.warm && self.waiting.load(Ordering::SeqCst) == 0 {
            instance.kept.get_or_insert_with(|| Arc::clone(&self.meter));
            idle.push(instance);
            return;
        }
        // Ending an instance resets its memory: not under the lock.
        drop(idle);
        drop(instance);
    }

    /// How many are idle.
    pub(crate) fn idle(&self) -> usize {
        self.lock().len()
    }

    /// The bytes of those that are idle.
    pub(crate) fn memory(&self) -> u64 {
        self.lock().iter().map(|instance| instance.store.data().budget.used() as u64).sum()
    }

    /// Ends the idle instance that was used longest ago; whether there was one.
    pub(crate) fn evict(&self) -> bool {
        let evicted = {
            let mut idle = self.lock();
            if idle.is_empty() { None } else { Some(idle.remove(0)) }
        };
        evicted.is_some()
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
