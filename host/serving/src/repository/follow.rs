//! Taking up what the store holds: at the start, and where that is asked for from time to time.
//!
//! Contract: versions that come are served as the model's policy says, those that go end, those that change are loaded anew
//! and serve when they are ready. What does not load leaves what serves as it is, and the index says why; it is tried again
//! when it changes. A store that cannot be listed changes nothing. Cost: a listing each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use vespid_limits::Coming;
use vespid_package::{Listed, Stamp, Traffic};
use vespid_types::{ModelName, Result, Version};

use super::task::Command;
use super::{Control, Repository};
use crate::catalog::Entry;
use crate::repository::load::Loaded;

/// Models that are looked at at once.
const AT_ONCE: usize = 16;

/// What the store held when it was last looked at.
type Seen = BTreeMap<ModelName, Held>;

/// What it held of a model.
#[derive(Default)]
struct Held {
    versions: BTreeMap<Version, Stamp>,
    document: Option<Stamp>,
}

/// What is otherwise with a model than it was.
#[derive(Default)]
struct Changes {
    /// Whether its document is there and has changed. One that is gone says nothing: the model is served as before.
    document: bool,
    found: Vec<Version>,
    changed: Vec<Version>,
    gone: Vec<Version>,
}

/// Takes up what was listed, and goes on looking where the control says so.
pub(super) fn start(repository: &Repository, listed: Vec<Listed>, control: Control) {
    let (first, commands, shared) =
        (repository.clone(), repository.commands.downgrade(), Arc::downgrade(&repository.shared));
    tokio::spawn(async move {
        let now = arrange(listed);
        let mut seen = first.follow(&Seen::new(), now, &control).await;
        first.shared.loaded.store(true, Ordering::Release);
        first.shared.quotas.stored(&first.shared.store, Coming::default()).await;
        // What uploads that came to nothing have left.
        if let Err(error) = first.shared.store.sweep().await {
            tracing::warn!("what uploads have left stays in the store: {error}");
        }
        drop(first);
        let Control::Poll(every) = control else { return };
        loop {
            tokio::time::sleep(every).await;
            let (Some(commands), Some(shared)) = (commands.upgrade(), shared.upgrade()) else { return };
            seen = Repository { commands, shared }.look(seen, &control).await;
        }
    });
}

fn arrange(listed: Vec<Listed>) -> Seen {
    let mut seen = Seen::new();
    for Listed { name, version, stamp, document } in listed {
        let held = seen.entry(name).or_default();
        held.versions.insert(version, stamp);
        held.document = document;
    }
    seen
}

/// What is otherwise now.
fn compare(seen: &Seen, now: &Seen) -> BTreeMap<ModelName, Changes> {
    let names: BTreeSet<&ModelName> = seen.keys().chain(now.keys()).collect();
    let none = Held::default();
    let of = |name: &ModelName| {
        let (before, after) = (seen.get(name).unwrap_or(&none), now.get(name).unwrap_or(&none));
        let document = after.document.is_some() && after.document != before.document;
        let mut changes = Changes { document, ..Changes::default() };
        for (version, stamp) in &after.versions {
            match before.versions.get(version) {
                None => changes.found.push(*version),
                Some(old) if old != stamp => changes.changed.push(*version),
                Some(_) => {}
            }
        }
        let gone = before.versions.keys().filter(|version| !after.versions.contains_key(version));
        changes.gone = gone.copied().collect();
        changes
    };
    let changes = names.into_iter().map(|name| (name.clone(), of(name)));
    changes.filter(|(_, changes)| !changes.is_empty()).collect()
}

impl Changes {
    fn is_empty(&self) -> bool {
        !self.document && self.found.is_empty() && self.changed.is_empty() && self.gone.is_empty()
    }
}

impl Repository {
    /// Looks at the store again; returns what it holds.
    async fn look(&self, seen: Seen, control: &Control) -> Seen {
        match self.shared.store.list().await {
            Ok(listed) => self.follow(&seen, arrange(listed), control).await,
            Err(error) => {
                tracing::warn!("the store cannot be listed, so that nothing is changed: {error}");
                seen
            }
        }
    }

    /// Takes up what is otherwise now; returns what has been seen. A document that could not be taken up is looked at again.
    async fn follow(&self, seen: &Seen, mut now: Seen, control: &Control) -> Seen {
        let taken_up = stream::iter(compare(seen, &now)).map(async |(name, changes)| {
            let _turn = self.shared.turns.take(&name).await;
            let taken_up = self.take_up(&name, changes, control.serves(&name)).await;
            let error = taken_up.err()?;
            tracing::error!(model = %name, "what the store holds of it is not all taken up: {error}");
            Some(name)
        });
        let failed: Vec<_> =
            taken_up.buffer_unordered(AT_ONCE).filter_map(async |failed| failed).collect().await;
        for name in failed {
            now.entry(name).or_default().document = None;
        }
        now
    }

    async fn take_up(&self, name: &ModelName, changes: Changes, served: bool) -> Result<()> {
        let Changes { document, found: mut versions, changed, gone } = changes;
        if !gone.is_empty() {
            self.ask(|reply| Command::Gone { name: name.clone(), versions: gone, reply }).await?;
        }
        for version in changed {
            match self.shared.predictor.catalog().entry(name, version) {
                Some(Entry::Ready(model)) if model.overridden().is_none() => {
                    self.load_anew(name, version).await?;
                }
                // It is tried again.
                Some(Entry::Unavailable { .. }) => versions.push(version),
                _ => {}
            }
        }
        self.ask(|reply| Command::Found { name: name.clone(), versions, served, reply }).await?;
        // Where it cannot be read or is not valid, it is not acted on: the model is served as before.
        let led = if document { self.take_up_document(name).await } else { Ok(()) };
        self.reconcile(name).await.and(led)
    }

    async fn take_up_document(&self, name: &ModelName) -> Result<()> {
        let Some(document) = self.shared.store.document(name).await? else { return Ok(()) };
        let traffic = Traffic::parse(&document)?;
        // What this server wrote itself is in effect.
        if self.traffic(name).is_ok_and(|now| now != traffic) {
            let traffic = Box::new(traffic);
            self.ask(|reply| Command::Lead { name: name.clone(), traffic, reply }).await?;
        }
        Ok(())
    }

    /// Loads what the store holds now in place of what serves.
    async fn load_anew(&self, name: &ModelName, version: Version) -> Result<()> {
        let loaded = self.shared.load_stored(name, version, None).await;
        match loaded.and_then(|model| self.shared.check_fits(&model).map(|()| model)) {
            Ok(model) => {
                let loaded = vec![Loaded { version, result: Ok(model) }];
                self.ask(|reply| Command::Settle { name: name.clone(), loaded, reply }).await
            }
            Err(error) => {
                let reason = format!("it has changed, and what is there now failed to load: {error}");
                tracing::error!(model = %name, %version, "{reason}");
                self.ask(|reply| Command::Complain { name: name.clone(), version, reason, reply }).await
            }
        }
    }
}

/// How often the store is looked at where nothing else is said.
pub const DEFAULT_POLL: Duration = Duration::from_secs(15);
