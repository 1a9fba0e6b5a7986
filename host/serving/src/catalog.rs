//! What the server has: each model's versions and the state that each is in, and how traffic is led to them.
//!
//! Contract: readers take a snapshot without a lock; the repository's task swaps in a changed copy. Cost: a change copies
//! the outer map (of pointers) and the versions of one model, a lookup is two map look-ups.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use vespid_types::{Error, ErrorCode, ModelName, ModelRef, SequenceId, Version};

use crate::ReadyModel;
use crate::stats::Counters;
use crate::traffic::{Route, Traffic};

/// The state of a version, as the model repository extension names it.
#[derive(Clone)]
pub(crate) enum Entry {
    Loading,
    Ready(Arc<ReadyModel>),
    /// Out of memory, and loaded when it is asked.
    Idle(Arc<Idle>),
    /// Taken out of service. The calls that it has hold what is left of it.
    Unloaded {
        last: Weak<ReadyModel>,
        why: Why,
    },
    Unavailable {
        reason: String,
    },
}

/// A version that is loaded when it is asked.
#[derive(Default)]
pub(crate) struct Idle {
    pub(crate) counters: Arc<Counters>,
    pub(crate) since: Option<SystemTime>,
    /// The bytes that it took up when it was loaded last.
    pub(crate) memory: Option<u64>,
}

/// What the index says of a version that is ready and not in memory.
const LOADS_WHEN_ASKED: &str = "loads when it is asked";

/// Why a version is out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody said so. It comes back when somebody says so.
    Asked,
    /// The model's policy does not select it.
    Policy,
}

/// The state of a version, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being compiled or loaded.
    Loading,
    /// It answers requests.
    Ready,
    /// It is loaded, and answers, when the first request comes.
    Idle,
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
    /// Why it is not ready; empty where it is, unless something is wrong with what the store holds of it now.
    pub reason: String,
}

/// A model's versions.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) versions: BTreeMap<Version, Entry>,
    /// What is wrong with what the store holds, of versions that serve what it held before.
    pub(crate) complaints: BTreeMap<Version, String>,
    pub(crate) route: Arc<Route>,
}

impl Model {
    /// The versions that can be asked, in order.
    pub(crate) fn askable(&self) -> impl Iterator<Item = (Version, &Entry)> {
        self.versions
            .iter()
            .map(|(version, entry)| (*version, entry))
            .filter(|(_, entry)| entry.can_be_asked())
    }
}

type Models = BTreeMap<ModelName, Arc<Model>>;

/// What was found of a version that can be asked.
pub(crate) enum Found {
    Ready(Arc<ReadyModel>),
    Idle(Version),
}

#[derive(Default)]
pub(crate) struct Catalog {
    models: ArcSwap<Models>,
}

impl Catalog {
    /// The version asked for; else one that the model's traffic is led to, and where nothing is said about that the greatest
    /// that can be asked.
    pub(crate) fn get(&self, model: &ModelRef) -> Result<Found, Error> {
        let models = self.models.load();
        let Model { versions, route, .. } = &**models.get(&model.name).ok_or_else(|| unknown(model, None))?;
        let (version, entry) = match model.version {
            Some(version) => (version, versions.get(&version).ok_or_else(|| unknown(model, Some(versions)))?),
            None => choose(versions, route).ok_or_else(|| unknown(model, None))?,
        };
        match entry {
            Entry::Ready(ready) => Ok(Found::Ready(Arc::clone(ready))),
            Entry::Idle(_) => Ok(Found::Idle(version)),
            Entry::Loading => Err(unavailable(format!("model {model} is still loading; try again later"))),
            Entry::Unloaded { why, .. } => Err(out_of_service(model, *why)),
            Entry::Unavailable { reason } => Err(not_ready(model, reason)),
        }
    }

    /// A model as it is now.
    pub(crate) fn model(&self, name: &ModelName) -> Option<Arc<Model>> {
        self.models.load().get(name).cloned()
    }

    /// Every model as it is now, in order.
    pub(crate) fn models(&self) -> Arc<Models> {
        self.models.load_full()
    }

    /// How traffic is led to a model's versions.
    pub(crate) fn route(&self, name: &ModelName) -> Option<Arc<Route>> {
        Some(Arc::clone(&self.model(name)?.route))
    }

    /// The version that keeps a sequence.
    pub(crate) fn keeper(&self, name: &ModelName, id: &SequenceId) -> Option<Arc<ReadyModel>> {
        let model = self.model(name)?;
        model.versions.values().filter_map(ready).find(|model| model.keeps(id)).cloned()
    }

    /// The versions of a model that can be asked.
    pub(crate) fn ready_versions(&self, name: &ModelName) -> Vec<Version> {
        let model = self.model(name).unwrap_or_default();
        model.askable().map(|(version, _)| version).collect()
    }

    /// All versions that are loaded.
    pub(crate) fn ready(&self) -> Vec<Arc<ReadyModel>> {
        self.models().values().flat_map(|model| model.versions.values()).filter_map(ready).cloned().collect()
    }

    /// What each version of a model is in.
    pub(crate) fn versions(&self, name: &ModelName) -> BTreeMap<Version, Entry> {
        self.model(name).map(|model| model.versions.clone()).unwrap_or_default()
    }

    /// What a version is in.
    pub(crate) fn entry(&self, name: &ModelName, version: Version) -> Option<Entry> {
        self.model(name)?.versions.get(&version).cloned()
    }

    pub(crate) fn index(&self) -> Vec<IndexEntry> {
        let models = self.models.load();
        let lines = |(name, model): (&ModelName, &Arc<Model>)| {
            let line = |(version, entry): (&Version, &Entry)| {
                let (state, reason) = entry.state();
                let complaint = model.complaints.get(version).cloned();
                IndexEntry {
                    name: name.clone(),
                    version: *version,
                    state,
                    reason: complaint.unwrap_or(reason),
                }
            };
            model.versions.iter().map(line).collect::<Vec<_>>()
        };
        models.iter().flat_map(lines).collect()
    }

    /// Only the repository's task calls this: two writers could lose a change. `change` sees a copy of the model, an empty
    /// one where it is not known; a model that has no versions afterwards is forgotten.
    pub(crate) fn change<T>(&self, name: &ModelName, change: impl FnOnce(&mut Model) -> T) -> T {
        let mut models = Models::clone(&self.models.load());
        let mut model = models.get(name).map(|model| Model::clone(model)).unwrap_or_default();
        let changed = change(&mut model);
        if model.versions.is_empty() {
            models.remove(name);
        } else {
            models.insert(name.clone(), Arc::new(model));
        }
        self.models.store(Arc::new(models));
        changed
    }

    /// As [`Catalog::change`].
    pub(crate) fn set(&self, name: &ModelName, version: Version, entry: Entry) {
        self.change(name, |model| {
            model.complaints.remove(&version);
            model.versions.insert(version, entry)
        });
    }

    /// As [`Catalog::change`]. The version answers no more, but for the calls that it has.
    pub(crate) fn unload(&self, name: &ModelName, version: Version, why: Why) {
        let last = match self.entry(name, version) {
            Some(Entry::Ready(model)) => Arc::downgrade(&model),
            Some(Entry::Unloaded { last, .. }) => last,
            _ => Weak::new(),
        };
        self.set(name, version, Entry::Unloaded { last, why });
    }

    /// As [`Catalog::change`].
    pub(crate) fn remove(&self, name: &ModelName, version: Version) {
        self.change(name, |model| {
            model.complaints.remove(&version);
            model.versions.remove(&version)
        });
    }

    /// As [`Catalog::change`]. What counts shadow copies begins anew.
    pub(crate) fn lead(&self, name: &ModelName, traffic: Traffic) {
        self.change(name, |model| model.route = Arc::new(Route::new(traffic)));
    }
}

fn ready(entry: &Entry) -> Option<&Arc<ReadyModel>> {
    match entry {
        Entry::Ready(model) => Some(model),
        _ => None,
    }
}

/// The version that a request is led to which names none; where none can be asked, the one that says why.
fn choose<'a>(versions: &'a BTreeMap<Version, Entry>, route: &Route) -> Option<(Version, &'a Entry)> {
    let entry = |version: Version| versions.get(&version).map(|entry| (version, entry));
    let weighted = route.choose(|version| versions.get(&version).is_some_and(Entry::can_be_asked));
    if let Some(version) = weighted {
        return entry(version);
    }
    let greatest = versions.iter().rev().find(|(_, entry)| entry.can_be_asked());
    let greatest = greatest.or_else(|| versions.iter().next_back());
    greatest.map(|(version, entry)| (*version, entry))
}

impl Entry {
    /// Whether a request is answered, be it after loading.
    pub(crate) fn can_be_asked(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Idle(_))
    }

    fn state(&self) -> (State, String) {
        match self {
            Self::Loading => (State::Loading, String::new()),
            Self::Ready(_) => (State::Ready, String::new()),
            Self::Idle(_) => (State::Idle, LOADS_WHEN_ASKED.to_owned()),
            Self::Unloaded { last, .. } if last.strong_count() > 0 => (State::Unloading, String::new()),
            Self::Unloaded { why, .. } => (State::Unavailable, why.as_str().to_owned()),
            Self::Unavailable { reason } => (State::Unavailable, reason.clone()),
        }
    }
}

impl Why {
    /// The first in Triton's word.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "unloaded",
            Self::Policy => "not among the versions that the model's policy selects",
        }
    }
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorCode::Unavailable, message)
}

/// A version that did not load.
pub(crate) fn not_ready(model: &ModelRef, reason: &str) -> Error {
    unavailable(format!("model {model} is not ready: {reason}"))
}

/// Triton's clients know it by how it begins.
fn out_of_service(model: &ModelRef, why: Why) -> Error {
    let ModelRef { name, .. } = model;
    let reason = match why {
        Why::Asked => {
            format!("it was taken out of service; load it with POST /v2/repository/models/{name}/load")
        }
        Why::Policy => format!(
            "it is not among the versions that the model's policy selects; see GET /v2/repository/models/{name}/traffic"
        ),
    };
    let message = format!("Request for unknown model: {model} has no available versions: {reason}");
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
