//! Sequences of requests, each answered by one instance of the model's plugin, which keeps what it has seen.
//!
//! Contract: a sequence begins with a request that says so and ends with one that says so, when it has been idle for
//! `idle_timeout`, or when its instance can answer no more: what the instance knew is lost then, and the next request is
//! refused rather than answered by an instance that knows nothing. The requests of a sequence are answered one at a time, in
//! the order in which they came; those of different sequences at once. Cost: a lock around a look-up in a map, and an
//! instance for each open sequence. What an instance keeps can be saved, and a sequence opened with it, where the plugin can: streams move their
//! keys so.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedMutexGuard;
use vespid_engine::{Answer, Call, EngineError, Held, Plugin};
use vespid_package as package;
use vespid_types::{Deadline, Error, Result, Sequence, SequenceId, Stage};

/// The open sequences of one version of a model.
pub(crate) struct Sequences {
    open: Mutex<HashMap<SequenceId, Arc<Slot>>>,
    options: package::Sequences,
}

struct Slot {
    instance: Arc<tokio::sync::Mutex<Option<Held>>>,
    used: Mutex<Instant>,
}

/// Who holds it is the one that the instance answers.
type Turn = OwnedMutexGuard<Option<Held>>;

/// The place of a sequence among the open ones, as long as a request of it is answered. It is given up unless the sequence
/// goes on.
struct Place<'a> {
    sequences: &'a Sequences,
    id: &'a SequenceId,
    slot: &'a Arc<Slot>,
    goes_on: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.goes_on {
            self.sequences.end(self.id, self.slot);
        }
    }
}

impl Sequences {
    /// None are open. Starts the task that ends those that are idle, which ends with this.
    pub(crate) fn new(options: package::Sequences) -> Arc<Self> {
        let sequences = Arc::new(Self { open: Mutex::default(), options });
        tokio::spawn(end_idle(Arc::downgrade(&sequences), options.idle_timeout));
        sequences
    }

    /// Whether none is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether one of that id is open.
    pub(crate) fn contains(&self, id: &SequenceId) -> bool {
        self.lock().contains_key(id)
    }

    /// Answers one request of a sequence.
    pub(crate) async fn call(&self, plugin: &Plugin, sequence: &Sequence, call: Call) -> Result<Answer> {
        let Sequence { id, start, end } = sequence;
        call.timeline.enter(Stage::Queue);
        let (slot, mut instance) =
            if *start { self.begin(id)? } else { self.join(id, call.deadline).await? };
        call.timeline.enter(Stage::Input);
        // Also where the caller leaves, and the instance with it.
        let mut place = Place { sequences: self, id, slot: &slot, goes_on: false };
        if instance.is_none() && !start {
            return Err(unknown(id));
        }
        let answer = plugin.call_held(&mut instance, call).await;
        slot.touch();
        if *end {
            // Whoever waits for its turn comes too late.
            drop(instance.take());
        }
        place.goes_on = instance.is_some();
        Ok(answer?)
    }

    /// What the instance of a sequence keeps; none where no such sequence is open.
    pub(crate) async fn save(
        &self,
        plugin: &Plugin,
        id: &SequenceId,
        deadline: Deadline,
    ) -> Result<Option<Bytes>> {
        let Ok(slot) = self.find(id) else { return Ok(None) };
        let mut instance = Arc::clone(&slot.instance).lock_owned().await;
        let mut place = Place { sequences: self, id, slot: &slot, goes_on: false };
        if instance.is_none() {
            return Ok(None);
        }
        let saved = plugin.save(&mut instance, deadline).await;
        place.goes_on = instance.is_some();
        Ok(Some(saved?))
    }

    /// Opens a sequence that goes on where one was saved: its next request is not its first.
    pub(crate) async fn restore(
        &self,
        plugin: &Plugin,
        id: &SequenceId,
        state: &[u8],
        deadline: Deadline,
    ) -> Result<()> {
        let (slot, mut instance) = self.begin(id)?;
        let mut place = Place { sequences: self, id, slot: &slot, goes_on: false };
        *instance = Some(plugin.restore(state, deadline).await?);
        place.goes_on = true;
        Ok(())
    }

    /// Ends a sequence that nobody is to ask any more.
    pub(crate) fn close(&self, id: &SequenceId) {
        drop(self.lock().remove(id));
    }

    /// A new sequence, whose first request has its turn before any other can ask for one.
    fn begin(&self, id: &SequenceId) -> Result<(Arc<Slot>, Turn)> {
        let instance = Arc::<tokio::sync::Mutex<_>>::default();
        let turn = Arc::clone(&instance).try_lock_owned();
        let turn = turn.map_err(|_| Error::internal("a sequence that nobody knows is in use"))?;
        let slot = Arc::new(Slot { instance, used: Mutex::new(Instant::now()) });
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
                return Err(Error::refused(message));
            }
            Entry::Vacant(place) => drop(place.insert(Arc::clone(&slot))),
        }
        Ok((slot, turn))
    }

    /// Waits for the turn in a sequence that is open.
    async fn join(&self, id: &SequenceId, deadline: Deadline) -> Result<(Arc<Slot>, Turn)> {
        let slot = self.find(id)?;
        let turn = Arc::clone(&slot.instance).lock_owned();
        let turn = tokio::time::timeout_at(deadline.instant().into(), turn).await;
        Ok((slot, turn.map_err(|_| EngineError::DeadlineExceeded)?))
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
