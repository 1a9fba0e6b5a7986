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
use vespid_package::{Listed, Stamp, Traffic};
use vespid_types::{ModelName, Result, Version};

use super::task::Command;
use super::{Control, Repository};
use crate::catalog::Entry;
use crate::repository::load::Loaded;

/// Models that are looked at at once.
const AT_ONCE: usize = 16;

/// What the store held when it was last looked at.
type Seen = BTreeMap<ModelName, BTreeMap<Version, Stamp>>;

/// What is otherwise with a model than it was.
#[derive(Default)]
struct Changes {
    found: Vec<Version>,
    changed: Vec<Version>,
    gone: Vec<Version>,
}

/// Takes up what was listed, and goes on looking where the control says so.
pub(super) fn start(repository: &Repository, listed: Vec<Listed>, control: Control) {
    let (first, commands, shared) =
        (repository.clone(), repository.commands.downgrade(), Arc::downgrade(&repository.shared));
    tokio::spawn(async move {
        let mut seen = arrange(listed);
        let news = seen.iter().map(|(name, versions)| {
            let found = versions.keys().copied().collect();
            (name.clone(), Changes { found, ..Changes::default() })
        });
        first.follow(news.collect(), &control).await;
        first.shared.loaded.store(true, Ordering::Release);
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
    for Listed { name, version, stamp } in listed {
        seen.entry(name).or_default().insert(version, stamp);
    }
    seen
}

/// What is otherwise now.
fn compare(seen: &Seen, now: &Seen) -> BTreeMap<ModelName, Changes> {
    let names: BTreeSet<&ModelName> = seen.keys().chain(now.keys()).collect();
    let none = BTreeMap::new();
    let of = |name: &ModelName| {
        let (before, after) = (seen.get(name).unwrap_or(&none), now.get(name).unwrap_or(&none));
        let mut changes = Changes::default();
        for (version, stamp) in after {
            match before.get(version) {
                None => changes.found.push(*version),
                Some(old) if old != stamp => changes.changed.push(*version),
                Some(_) => {}
            }
        }
        changes.gone = before.keys().filter(|version| !after.contains_key(version)).copied().collect();
        changes
    };
    let changes = names.into_iter().map(|name| (name.clone(), of(name)));
    changes.filter(|(_, changes)| !changes.is_empty()).collect()
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.found.is_empty() && self.changed.is_empty() && self.gone.is_empty()
    }
}

impl Repository {
    /// Looks at the store again; returns what it holds.
    async fn look(&self, seen: Seen, control: &Control) -> Seen {
        match self.shared.store.list().await {
            Ok(listed) => {
                let now = arrange(listed);
                self.follow(compare(&seen, &now), control).await;
                now
            }
            Err(error) => {
                tracing::warn!("the store cannot be listed, so that nothing is changed: {error}");
                seen
            }
        }
    }

    async fn follow(&self, changes: BTreeMap<ModelName, Changes>, control: &Control) {
        stream::iter(changes)
            .for_each_concurrent(AT_ONCE, async |(name, changes)| {
                let _turn = self.shared.turns.take(&name).await;
                let served = control.serves(&name);
                if let Err(error) = self.take_up(&name, changes, served).await {
                    tracing::error!(model = %name, "what the store holds of it is not taken up: {error}");
                }
            })
            .await;
    }

    async fn take_up(&self, name: &ModelName, changes: Changes, served: bool) -> Result<()> {
        let Changes { found: mut versions, changed, gone } = changes;
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
        if let Some(document) = self.shared.store.document(name).await? {
            // What is not valid is not acted on: the model is served as before.
            let traffic = Traffic::parse(&document)?;
            if self.traffic(name).is_ok_and(|now| now != traffic) {
                let traffic = Box::new(traffic);
                self.ask(|reply| Command::Lead { name: name.clone(), traffic, reply }).await?;
            }
        }
        self.reconcile(name).await
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
