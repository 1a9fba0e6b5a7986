//! Loading a version because somebody asks it.
//!
//! Contract: who asks while it is being loaded waits for the same load, which goes on where they leave. What keeps it from
//! loading for good is what the index says of it from then on; what may pass (a store that does not answer, no room) leaves
//! it to be tried again. Either way the callers get `UNAVAILABLE`, for nothing is wrong with their requests, or
//! `RESOURCE_EXHAUSTED` where a limit is what keeps it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::Shared as SharedFuture;
use tokio::sync::mpsc::{self, WeakSender};
use vespid_limits::Limits;
use vespid_types::{Error, ErrorCode, ModelName, ModelRef, Result, Version};

use super::task::Command;
use super::{Shared, ask};
use crate::catalog::{Entry, not_ready};
use crate::model::ReadyModel;
use crate::predictor::{Loader, Memory, Waking};

type Key = (ModelName, Version);
type Load = SharedFuture<Pin<Box<dyn Future<Output = Result<Arc<ReadyModel>>> + Send>>>;

/// The loads that go on.
#[derive(Default)]
pub(super) struct Wakings(Mutex<HashMap<Key, Load>>);

impl Wakings {
    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Load>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The predictor's way to the repository, which it does not keep alive.
pub(super) struct Waker {
    shared: Weak<Shared>,
    commands: WeakSender<Command>,
}

impl Waker {
    pub(super) fn of(repository: &super::Repository) -> Self {
        Self { shared: Arc::downgrade(&repository.shared), commands: repository.commands.downgrade() }
    }
}

impl Loader for Waker {
    fn memory(&self) -> Memory {
        self.shared.upgrade().map_or_else(Memory::default, |shared| Memory {
            used: shared.in_memory(),
            budget: shared.memory.map(|budget| budget.as_u64()),
        })
    }

    fn limits(&self) -> Limits {
        self.shared.upgrade().map(|shared| shared.quotas.clone()).unwrap_or_default()
    }

    fn wake(&self, name: ModelName, version: Version) -> Waking {
        let (Some(shared), Some(commands)) = (self.shared.upgrade(), self.commands.upgrade()) else {
            let error = Error::refused("the server is shutting down");
            return Box::pin(std::future::ready(Err(error)));
        };
        let mut loads = shared.wakings.lock();
        if let Some(load) = loads.get(&(name.clone(), version)) {
            return Box::pin(load.clone());
        }
        let key = (name, version);
        let work = wake(Arc::clone(&shared), commands, key.clone());
        let task = tokio::spawn(work);
        let load = async move {
            task.await.unwrap_or_else(|error| Err(Error::internal("a task failed").with_source(error)))
        };
        let load = load.boxed().shared();
        loads.insert(key, load.clone());
        Box::pin(load)
    }
}

/// Loads it, and forgets that it does.
async fn wake(shared: Arc<Shared>, commands: mpsc::Sender<Command>, key: Key) -> Result<Arc<ReadyModel>> {
    let _forget = Forget { shared: &shared, key: &key };
    let (name, version) = &key;
    // Before its turn: another version of the model need not wait while this one is fetched.
    let supplied = shared.supply(name, *version).await;
    let turn = shared.turns.take(name).await;
    let target = ModelRef { name: name.clone(), version: Some(*version) };
    let before = match shared.predictor.catalog().entry(name, *version) {
        Some(Entry::Idle(idle)) => idle,
        // It came or went meanwhile.
        _ => return shared.predictor.model(&target),
    };
    let needs = before.memory.unwrap_or_default();
    // Before anything gives way to it.
    let supplied = supplied.and_then(|()| shared.check_limits(name, *version, needs));
    if supplied.is_ok() {
        ask(&commands, |reply| Command::MakeRoom { needs, reply }).await?;
    }
    let loaded = match supplied {
        Ok(()) => shared.load_stored(name, *version, None).await,
        Err(error) => Err(error),
    };
    let loaded = loaded.and_then(|model| shared.check_fits(&model).map(|()| model));
    let loaded = loaded.map(|model| Arc::new(model.counting(Arc::clone(&before.counters))));
    let answer =
        ask(&commands, |reply| Command::Woken { name: name.clone(), version: *version, loaded, reply });
    let answer = answer.await;
    drop(turn);
    answer.map_err(|error| match error.code() {
        ErrorCode::ResourceExhausted => error.context(format!("model {target} is not ready")),
        _ => not_ready(&target, &format!("failed to load: {error}")),
    })
}

/// Whether another try may end otherwise.
pub(super) fn may_pass(error: &Error) -> bool {
    error.code().may_pass() || error.code() == ErrorCode::DeadlineExceeded
}

struct Forget<'a> {
    shared: &'a Shared,
    key: &'a Key,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.wakings.lock().remove(self.key);
    }
}
