//! Taking models out of service and bringing them back, as they are stored or otherwise.
//!
//! Contract: what changes one model comes one after the other; loads and unloads go on where the caller leaves. A load with
//! something in place of `model.toml`, or with files in place of the package, takes effect as a whole or not at all, and
//! lasts until the next load of that model, or a restart: nothing of it is written to the store. Cost: as an upload's;
//! while a version is loaded anew, the one that serves stays in memory beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use vespid_limits as limits;
use vespid_package::{Manifest, Overrides, PackageFiles, Stored, VersionPolicy};
use vespid_types::{Error, ErrorCode, ModelName, Result, Version};

use super::task::Command;
use super::{Repository, Shared, blocking, files_of};
use crate::catalog::Entry;
use crate::model::{CompiledModel, Files, ReadyModel};

/// What whoever asks for a load expects of the model: called before the model serves.
pub type Agreement = Arc<dyn Fn(&ReadyModel) -> Result<()> + Send + Sync>;

/// How a model is to be loaded. By default as it is stored.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// What is to be otherwise than in `model.toml`.
    pub overrides: Option<Overrides>,
    /// Files that stand in place of what is stored, by version.
    pub files: BTreeMap<Version, PackageFiles>,
    /// What the model must be like.
    pub agreement: Option<Agreement>,
}

/// Which versions a load is about.
pub(super) enum Wanted {
    /// Those in the store that do not serve as they are stored.
    AsStored,
    /// Those in the store that the policy selects, otherwise than they are stored.
    Overridden(VersionPolicy),
    /// Those that come with the load.
    Files(BTreeSet<Version>),
}

/// What came of one version.
pub(super) struct Loaded {
    pub(super) version: Version,
    pub(super) result: Result<ReadyModel>,
}

/// Where a version's files are.
enum Source {
    Stored(Version),
    Files(Version, PackageFiles),
}

impl Repository {
    /// Brings a model's versions into service: those in the store that are not, or what `options` say. When this returns,
    /// they are ready.
    ///
    /// # Errors
    /// `NOT_FOUND` where the store does not hold the model, or what is wrong with the versions that did not load. What
    /// served before then goes on.
    pub async fn load(&self, name: ModelName, options: LoadOptions) -> Result<()> {
        self.check_unmanaged(&name).map_err(|error| failed(&name, error))?;
        let place = Arc::clone(&self.shared.loads).try_acquire_owned().map_err(|_| {
            let message = "as many models are being loaded as there is room for; try again later";
            failed(&name, Error::new(ErrorCode::Unavailable, message))
        })?;
        let repository = self.clone();
        run(async move {
            let _place = place;
            let _turn = repository.shared.turns.take(&name).await;
            repository.load_in_turn(&name, options).await.map_err(|error| failed(&name, error))
        })
        .await
    }

    /// Takes all of a model's versions out of service until they are loaded again, or the server restarts. Requests that
    /// they are answering end first; new ones are refused from now on. The packages stay in the store. Where the model is
    /// not known, there is nothing to do.
    ///
    /// # Errors
    /// Where the server is shutting down.
    pub async fn unload(&self, name: ModelName) -> Result<()> {
        self.check_unmanaged(&name)?;
        let repository = self.clone();
        run(async move {
            let _turn = repository.shared.turns.take(&name).await;
            repository.ask(|reply| Command::Unload { name, reply }).await
        })
        .await
    }

    async fn load_in_turn(&self, name: &ModelName, options: LoadOptions) -> Result<()> {
        let LoadOptions { overrides, mut files, agreement } = options;
        let policy = overrides.as_ref().map(|overrides| &overrides.versions);
        let wanted = if files.is_empty() {
            policy.map_or(Wanted::AsStored, |policy| Wanted::Overridden(policy.clone()))
        } else {
            let selected = policy.cloned().unwrap_or_default().select(files.keys().copied().collect())?;
            files.retain(|version, _| selected.contains(version));
            Wanted::Files(selected)
        };
        let (plan, stored) = self.ask(|reply| Command::Begin { name: name.clone(), wanted, reply }).await?;
        let sources = stored.into_iter().map(Source::Stored);
        let sources = sources.chain(files.into_iter().map(|(version, files)| Source::Files(version, files)));
        let how = Arc::new(How { name: name.clone(), overrides, agreement });
        // All at once, as far as there is room; each in a task, so that a panic is that version's failure.
        let loading: Vec<_> = sources
            .map(|source| {
                let (version, how, shared) = (source.version(), Arc::clone(&how), Arc::clone(&self.shared));
                (version, tokio::spawn(async move { how.load(&shared, source).await }))
            })
            .collect();
        let mut loaded = Vec::with_capacity(loading.len());
        for (version, task) in loading {
            loaded.push(Loaded { version, result: task.await.unwrap_or_else(|error| Err(ended(error))) });
        }
        self.ask(|reply| Command::Finish { name: name.clone(), plan, loaded, reply }).await
    }
}

/// Runs work to its end, whether or not the caller stays for it.
pub(super) async fn run(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(ended(error)))
}

fn ended(error: tokio::task::JoinError) -> Error {
    Error::internal("a task failed").with_source(error)
}

/// In Triton's words, which its clients look for.
fn failed(name: &ModelName, error: Error) -> Error {
    Error::new(error.code(), format!("failed to load '{name}', {error}")).with_source(error)
}

impl Source {
    fn version(&self) -> Version {
        match self {
            Self::Stored(version) | Self::Files(version, _) => *version,
        }
    }
}

/// What is common to the versions of one load.
struct How {
    name: ModelName,
    overrides: Option<Overrides>,
    agreement: Option<Agreement>,
}

impl How {
    async fn load(&self, shared: &Arc<Shared>, source: Source) -> Result<ReadyModel> {
        let ready = match source {
            Source::Stored(version) => {
                shared.load_stored(&self.name, version, self.overrides.as_ref()).await?
            }
            Source::Files(version, files) => self.load_files(shared, version, files).await?,
        };
        self.agreement.as_ref().map_or(Ok(()), |agreement| agreement(&ready))?;
        Ok(ready)
    }

    async fn load_files(
        &self,
        shared: &Arc<Shared>,
        version: Version,
        files: PackageFiles,
    ) -> Result<ReadyModel> {
        let (store, name, limits) = (Arc::clone(&shared.store), self.name.clone(), shared.limits);
        let package =
            blocking(move || Ok(store.stage()?.verify_files(&files, (&name, version), limits)?)).await?;
        let overrides = self.overrides.clone().unwrap_or_default();
        let manifest = overrides.apply(package.manifest().clone(), &package.dir())?;
        let ready = shared.load(manifest, files_of(&package)).await?;
        // Of most packages all that is needed is in memory: they are dropped here, and their folders with them.
        Ok(ready.overridden_by(overrides.versions).out_of(package))
    }
}

impl Shared {
    /// Makes a package a model that can be called.
    pub(super) async fn load(&self, manifest: Manifest, files: Files) -> Result<ReadyModel> {
        let (name, version) = (manifest.name.clone(), manifest.version);
        self.check_limits(&name, version, 0)?;
        let _turn = self
            .compiling
            .acquire()
            .await
            .map_err(|error| Error::internal("the repository is closed").with_source(error))?;
        let (workshop, peers) = (Arc::clone(&self.workshop), self.predictor.peers());
        let compiled = blocking(move || CompiledModel::build(&workshop, manifest, files, peers)).await?;
        let model = compiled.describe().await?.warm_up(self.cases).await?;
        let Some(limits) = self.quotas.of(&name) else { return Ok(model) };
        let held = limits.hold(version, model.memory(), self.replaced(&name, version), limits::now())?;
        Ok(model.under(limits, held))
    }

    /// Sees whether a version may be loaded, before that costs anything; `needs` is what it took up before.
    pub(super) fn check_limits(&self, name: &ModelName, version: Version, needs: u64) -> Result<()> {
        let Some(limits) = self.quotas.of(name) else { return Ok(()) };
        limits.check_load(version, needs, self.replaced(name, version), limits::now())
    }

    /// What goes when a version is loaded: itself, as it is loaded now.
    fn replaced(&self, name: &ModelName, version: Version) -> u64 {
        match self.predictor.catalog().entry(name, version) {
            Some(Entry::Ready(before)) => before.held_memory(),
            _ => 0,
        }
    }

    /// Loads a version of the store.
    pub(super) async fn load_stored(
        &self,
        name: &ModelName,
        version: Version,
        overrides: Option<&Overrides>,
    ) -> Result<ReadyModel> {
        let Stored { manifest, dir, digests, .. } = self.store.fetch(name, version).await?;
        let files = Files { dir, digests };
        match overrides {
            None => self.load(manifest, files).await,
            Some(overrides) => {
                let ready = self.load(overrides.apply(manifest, &files.dir)?, files).await?;
                Ok(ready.overridden_by(overrides.versions.clone()))
            }
        }
    }
}

/// Sees to it that what changes one model comes one after the other: a load must not find other packages in the end than
/// in the beginning.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<ModelName, Weak<AsyncMutex<()>>>>);

impl Turns {
    pub(super) async fn take(&self, name: &ModelName) -> OwnedMutexGuard<()> {
        let turn = {
            // Nothing panics under the lock, so that a poisoned one is as good as any.
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(name.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}
