//! What the server has: each model's versions and the state that each is in.
//!
//! Contract: readers take a snapshot without a lock; the repository's task swaps in a changed copy. Cost: a change copies
//! the maps (of pointers), a lookup is two map look-ups.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use vespid_types::{Error, ErrorCode, ModelName, ModelRef, Version};

use crate::ReadyModel;

/// The state of a version, as the model repository extension names it.
#[derive(Clone)]
pub(crate) enum Entry {
    Loading,
    Ready(Arc<ReadyModel>),
    /// Taken out of service. The calls that it has hold what is left of it.
    Unloaded(Weak<ReadyModel>),
    Unavailable {
        reason: String,
    },
}

/// Why a version that was taken out of service is not ready, in Triton's word.
const UNLOADED: &str = "unloaded";

/// The state of a version, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being compiled or loaded.
    Loading,
    /// It answers requests.
    Ready,
    /// It is out of service, and finishes the calls that it has.
    Unloading,
    /// It did not load, or is out of service.
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
            Entry::Unloaded(_) => Err(out_of_service(model)),
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

    /// All versions that are ready.
    pub(crate) fn ready(&self) -> Vec<Arc<ReadyModel>> {
        let models = self.models.load();
        let ready = |entry: &Entry| match entry {
            Entry::Ready(model) => Some(Arc::clone(model)),
            _ => None,
        };
        models.values().flat_map(BTreeMap::values).filter_map(ready).collect()
    }

    /// What each version of a model is in.
    pub(crate) fn versions(&self, name: &ModelName) -> BTreeMap<Version, Entry> {
        self.models.load().get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn index(&self) -> Vec<IndexEntry> {
        let models = self.models.load();
        let line = |name: &ModelName, version: &Version, entry: &Entry| {
            let (state, reason) = match entry {
                Entry::Loading => (State::Loading, String::new()),
                Entry::Ready(_) => (State::Ready, String::new()),
                Entry::Unloaded(last) if last.strong_count() > 0 => (State::Unloading, String::new()),
                Entry::Unloaded(_) => (State::Unavailable, UNLOADED.to_owned()),
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

    /// As [`Catalog::set`]. The version answers no more, but for the calls that it has.
    pub(crate) fn unload(&self, name: &ModelName, version: Version) {
        let last = match self.versions(name).get(&version) {
            Some(Entry::Ready(model)) => Arc::downgrade(model),
            Some(Entry::Unloaded(last)) => Weak::clone(last),
            _ => Weak::new(),
        };
        self.set(name, version, Entry::Unloaded(last));
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

/// Triton's clients know it by how it begins.
fn out_of_service(model: &ModelRef) -> Error {
    let ModelRef { name, .. } = model;
    let message = format!(
        "Request for unknown model: {model} has no available versions: it was taken out of service; load it with POST \
         /v2/repository/models/{name}/load"
    );
    Error::new(ErrorCode::NotFound, message)
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
