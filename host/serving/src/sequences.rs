//! Sequences of requests, each answered by one instance of the model's plugin, which keeps what it has seen.
//!
//! Contract: a sequence begins with a request that says so and ends with one that says so, when it has been idle for
//! `idle_timeout`, or when its instance can answer no more: what the instance knew is lost then, and the next request is
//! refused rather than answered by an instance that knows nothing. The requests of a sequence are answered one at a time, in
//! the order in which they came; those of different sequences at once. Cost: a lock around a look-up in a map, and an
//! instance for each open sequence. Left out: sequences that move to another process.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use vespid_engine::{Answer, Call, EngineError, Held, Plugin};
use vespid_package as package;
use vespid_types::{Error, ErrorCode, Result, Sequence, SequenceId, Stage};

/// The open sequences of one version of a model.
pub(crate) struct Sequences {
    open: Mutex<HashMap<SequenceId, Arc<Slot>>>,
    options: package::Sequences,
}

struct Slot {
    instance: tokio::sync::Mutex<Option<Held>>,
    used: Mutex<Instant>,
}

impl Sequences {
    /// None are open. Starts the task that ends those that are idle, which ends with this.
    pub(crate) fn new(options: package::Sequences) -> Arc<Self> {
        let sequences = Arc::new(Self { open: Mutex::default(), options });
        tokio::spawn(end_idle(Arc::downgrade(&sequences), options.idle_timeout));
        sequences
    }

    /// Answers one request of a sequence.
    pub(crate) async fn call(&self, plugin: &Plugin, sequence: &Sequence, call: Call) -> Result<Answer> {
        let slot = if sequence.start { self.begin(&sequence.id)? } else { self.find(&sequence.id)? };
        let deadline = call.deadline.instant().into();
        call.timeline.enter(Stage::Queue);
        let mut instance = tokio::time::timeout_at(deadline, slot.instance.lock())
            .await
            .map_err(|_| EngineError::DeadlineExceeded)?;
        call.timeline.enter(Stage::Input);
        if instance.is_none() && !sequence.start {
            self.end(&sequence.id, &slot);
            return Err(unknown(&sequence.id));
        }
        let answer = plugin.call_held(&mut instance, call).await;
        slot.touch();
        if sequence.end || instance.is_none() {
            self.end(&sequence.id, &slot);
        }
        Ok(answer?)
    }

    fn begin(&self, id: &SequenceId) -> Result<Arc<Slot>> {
        let slot =
            Arc::new(Slot { instance: tokio::sync::Mutex::default(), used: Mutex::new(Instant::now()) });
        let max = self.options.max.get();
        let mut open = self.lock();
        let full = open.len() >= max;
        match open.entry(id.clone()) {
            // Whoever uses the old one has it until the answer.
            Entry::Occupied(mut old) => drop(old.insert(Arc::clone(&slot))),
            Entry::Vacant(_) if full => {
                let message = format!(
                    "{max} sequences are open, which is what `max` under [sequences] in model.toml allows: end one \
                     (sequence_end), or try again later"
                );
                return Err(Error::new(ErrorCode::Unavailable, message));
            }
            Entry::Vacant(place) => drop(place.insert(Arc::clone(&slot))),
        }
        Ok(slot)
    }

    fn find(&self, id: &SequenceId) -> Result<Arc<Slot>> {
        let slot = self.lock().get(id).cloned().ok_or_else(|| unknown(id))?;
        slot.touch();
        Ok(slot)
    }

    /// Ends a sequence, unless another has begun under its id.
    fn end(&self, id: &SequenceId, slot: &Arc<Slot>) {
        let mut open = self.lock();
        if open.get(id).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            open.remove(id);
        }
    }

    /// Ends those that nobody has used for a while, and returns them: what they hold is dropped outside of the lock.
    fn take_idle(&self) -> Vec<Arc<Slot>> {
        let idle = |_: &SequenceId, slot: &mut Arc<Slot>| {
            slot.idle() > self.options.idle_timeout && slot.instance.try_lock().is_ok()
        };
        self.lock().extract_if(idle).map(|(_, slot)| slot).collect()
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<SequenceId, Arc<Slot>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

async fn end_idle(sequences: Weak<Sequences>, timeout: Duration) {
    let period = (timeout / 2).clamp(Duration::from_millis(10), Duration::from_secs(10));
    loop {
        tokio::time::sleep(period).await;
        let Some(sequences) = sequences.upgrade() else { return };
        drop(sequences.take_idle());
    }
}

fn unknown(id: &SequenceId) -> Error {
    Error::invalid(format!(
        "sequence {id} is not open: it was not begun, was idle for too long, or its instance failed; begin it with \
         the parameter sequence_start: true"
    ))
}
