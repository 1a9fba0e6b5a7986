//! What the server has: each model's versions and the state that each is in.
//!
//! Contract: readers take a snapshot without a lock; the repository's task swaps in a changed copy. Cost: a change copies
//! the maps (of pointers), a lookup is two map look-ups.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use vespid_types::{Error, ErrorCode, ModelName, ModelRef, Version};

use crate::ReadyModel;

/// The state of a version, as the model repository extension names it.
#[derive(Clone)]
pub(crate) enum Entry {
    Loading,
    Ready(Arc<ReadyModel>),
    Unavailable { reason: String },
}

/// The state of a version, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being compiled or loaded.
    Loading,
    /// It answers requests.
    Ready,
    /// It did not load.
    Unavailable,
}

/// A line of the repository's index.
#[derive(Clone, Debug)]
pub struct IndexEntry {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// Its state.
    pub state: State,
    /// Why it is not ready; empty where it is.
    pub reason: String,
}

type Models = BTreeMap<ModelName, BTreeMap<Version, Entry>>;

#[derive(Default)]
pub(crate) struct Catalog {
    models: ArcSwap<Models>,
}

impl Catalog {
    /// The version asked for, else the greatest that is ready.
    pub(crate) fn get(&self, model: &ModelRef) -> Result<Arc<ReadyModel>, Error> {
        let models = self.models.load();
        let versions = models.get(&model.name).ok_or_else(|| unknown(model, None))?;
        let entry = match model.version {
            Some(version) => versions.get(&version).ok_or_else(|| unknown(model, Some(versions)))?,
            None => versions
                .values()
                .rev()
                .find(|entry| matches!(entry, Entry::Ready(_)))
                .or_else(|| versions.values().next_back())
                .ok_or_else(|| unknown(model, None))?,
        };
        match entry {
            Entry::Ready(ready) => Ok(Arc::clone(ready)),
            Entry::Loading => Err(unavailable(format!("model {model} is still loading; try again later"))),
            Entry::Unavailable { reason } => {
                Err(unavailable(format!("model {model} is not ready: {reason}")))
            }
        }
    }

    /// The versions of a model that are ready.
    pub(crate) fn ready_versions(&self, name: &ModelName) -> Vec<Version> {
        let models = self.models.load();
        let versions = models.get(name).into_iter().flatten();
        versions.filter(|(_, entry)| matches!(entry, Entry::Ready(_))).map(|(version, _)| *version).collect()
    }

    pub(crate) fn contains(&self, name: &ModelName, version: Version) -> bool {
        self.models.load().get(name).is_some_and(|versions| versions.contains_key(&version))
    }

    pub(crate) fn index(&self) -> Vec<IndexEntry> {
        let models = self.models.load();
        let line = |name: &ModelName, version: &Version, entry: &Entry| {
            let (state, reason) = match entry {
                Entry::Loading => (State::Loading, String::new()),
                Entry::Ready(_) => (State::Ready, String::new()),
                Entry::Unavailable { reason } => (State::Unavailable, reason.clone()),
            };
            IndexEntry { name: name.clone(), version: *version, state, reason }
        };
        models
            .iter()
            .flat_map(|(name, versions)| {
                versions.iter().map(move |(version, entry)| line(name, version, entry))
            })
            .collect()
    }

    /// Only the repository's task calls this: two writers could lose a change.
    pub(crate) fn set(&self, name: &ModelName, version: Version, entry: Entry) {
        let mut models = Models::clone(&self.models.load());
        models.entry(name.clone()).or_default().insert(version, entry);
        self.models.store(Arc::new(models));
    }

    /// As [`Catalog::set`].
    pub(crate) fn remove(&self, name: &ModelName, version: Version) {
        let mut models = Models::clone(&self.models.load());
        if let Some(versions) = models.get_mut(name) {
            versions.remove(&version);
            if versions.is_empty() {
                models.remove(name);
            }
        }
        self.models.store(Arc::new(models));
    }
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorCode::Unavailable, message)
}

fn unknown(model: &ModelRef, versions: Option<&BTreeMap<Version, Entry>>) -> Error {
    let mut message = format!("Request for unknown model: {model} is not found");
    if let Some(versions) = versions {
        let known: Vec<String> = versions.keys().map(Version::to_string).collect();
        message.push_str("; its versions are ");
        message.push_str(&known.join(", "));
    }
    Error::new(ErrorCode::NotFound, message)
}
