//! The repository's task: the one writer of the store and the catalog.
//!
//! Contract: commands are done one after the other; none of them compiles anything, so that none keeps the next waiting
//! for long. What the store held at the start is loaded before the first of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use vespid_package::{Listed, Stored, Verified};
use vespid_types::{Error, ErrorCode, ModelName, Result, Version};

use super::Shared;
use super::load::{Loaded, Wanted};
use crate::catalog::Entry;
use crate::model::ReadyModel;

type Reply<T> = oneshot::Sender<Result<T>>;

pub(super) enum Command {
    Commit {
        package: Box<Verified>,
        ready: Arc<ReadyModel>,
        reply: Reply<()>,
    },
    Remove {
        name: ModelName,
        version: Version,
        reply: Reply<()>,
    },
    /// Answers with the packages that are to be loaded, which show as loading where they do not serve.
    Begin {
        name: ModelName,
        wanted: Wanted,
        reply: Reply<(Plan, Vec<Listed>)>,
    },
    /// What came of it.
    Finish {
        name: ModelName,
        plan: Plan,
        loaded: Vec<Loaded>,
        reply: Reply<()>,
    },
    Unload {
        name: ModelName,
        reply: Reply<()>,
    },
}

/// What a load that has begun is to do in the end. Uploads and removals of the model wait until then.
pub(super) struct Plan {
    as_stored: bool,
    /// The versions in the store.
    stored: BTreeSet<Version>,
    /// The versions that are to serve no more.
    retire: Vec<Version>,
}

pub(super) async fn serve(shared: Arc<Shared>, stored: Vec<Listed>, mut inbox: mpsc::Receiver<Command>) {
    load_all(&shared, stored).await;
    shared.loaded.store(true, Ordering::Release);
    tokio::spawn(sweep(Arc::clone(&shared)));
    while let Some(command) = inbox.recv().await {
        // Nobody may wait for the answer any more; it is done all the same.
        match command {
            Command::Commit { package, ready, reply } => {
                let _ = reply.send(commit(&shared, *package, ready).await);
            }
            Command::Remove { name, version, reply } => {
                let _ = reply.send(remove(&shared, name, version).await);
            }
            Command::Begin { name, wanted, reply } => {
                let _ = reply.send(begin(&shared, &name, &wanted).await);
            }
            Command::Finish { name, plan, loaded, reply } => {
                let _ = reply.send(finish(&shared, &name, plan, loaded));
            }
            Command::Unload { name, reply } => {
                let _ = reply.send(unload(&shared, &name).await);
            }
        }
    }
}

/// Clears what uploads that came to nothing have left in the store.
async fn sweep(shared: Arc<Shared>) {
    if let Err(error) = shared.store.sweep().await {
        tracing::warn!("what uploads have left stays in the store: {error}");
    }
}

async fn load_all(shared: &Arc<Shared>, stored: Vec<Listed>) {
    let catalog = shared.predictor.catalog();
    let mut loading = JoinSet::new();
    for package in stored {
        catalog.set(&package.name, package.version, Entry::Loading);
        let shared = Arc::clone(shared);
        loading.spawn(async move {
            let loaded = shared.load_stored(package.clone(), None).await;
            (package, loaded)
        });
    }
    while let Some(loaded) = loading.join_next().await {
        match loaded {
            Ok((Listed { name, version, .. }, loaded)) => settle(shared, &name, version, loaded),
            Err(error) => tracing::error!("loading a stored package ended early: {error}"),
        }
    }
}

/// Puts what came of loading a version into the catalog.
fn settle(shared: &Shared, name: &ModelName, version: Version, loaded: Result<ReadyModel>) {
    let entry = match loaded {
        Ok(ready) => {
            tracing::info!(model = %name, %version, "ready");
            Entry::Ready(Arc::new(ready))
        }
        Err(error) => {
            let reason = format!("failed to load: {error}");
            tracing::error!(model = %name, %version, "{reason}");
            Entry::Unavailable { reason }
        }
    };
    shared.predictor.catalog().set(name, version, entry);
}

async fn commit(shared: &Arc<Shared>, package: Verified, ready: Arc<ReadyModel>) -> Result<()> {
    let Stored { name, version, .. } = shared.store.commit(package).await?;
    shared.predictor.catalog().set(&name, version, Entry::Ready(ready));
    tracing::info!(model = %name, %version, "ready");
    Ok(())
}

async fn remove(shared: &Arc<Shared>, name: ModelName, version: Version) -> Result<()> {
    shared.store.remove(&name, version).await?;
    shared.predictor.catalog().remove(&name, version);
    tracing::info!(model = %name, %version, "removed");
    Ok(())
}

async fn begin(shared: &Arc<Shared>, name: &ModelName, wanted: &Wanted) -> Result<(Plan, Vec<Listed>)> {
    let catalog = shared.predictor.catalog();
    let mut load = in_store(shared, name).await?;
    let entries = catalog.versions(name);
    let stored: BTreeSet<Version> = load.iter().map(|package| package.version).collect();
    let stay = match wanted {
        Wanted::Files(versions) => versions.clone(),
        _ if stored.is_empty() => return Err(not_in_store()),
        Wanted::AsStored => stored.clone(),
        Wanted::Overridden(policy) => policy.select(stored.clone())?,
    };
    load.retain(|package| match wanted {
        Wanted::AsStored => !serves_as_stored(entries.get(&package.version)),
        Wanted::Overridden(_) => stay.contains(&package.version),
        Wanted::Files(_) => false,
    });
    for package in &load {
        if !serves(entries.get(&package.version)) {
            catalog.set(name, package.version, Entry::Loading);
        }
    }
    let retire = entries.into_keys().filter(|version| !stay.contains(version)).collect();
    Ok((Plan { as_stored: matches!(wanted, Wanted::AsStored), stored, retire }, load))
}

fn not_in_store() -> Error {
    let message = "failed to poll from model repository: the store holds no version of it";
    Error::new(ErrorCode::NotFound, message)
}

fn serves(entry: Option<&Entry>) -> bool {
    matches!(entry, Some(Entry::Ready(_)))
}

fn serves_as_stored(entry: Option<&Entry>) -> bool {
    matches!(entry, Some(Entry::Ready(model)) if model.overridden().is_none())
}

/// Where all went well, what was loaded serves, and of the rest what the load leaves. Where something failed, what served
/// before goes on, and beside it what a load as stored brought back.
fn finish(shared: &Shared, name: &ModelName, plan: Plan, loaded: Vec<Loaded>) -> Result<()> {
    let Plan { as_stored, stored, retire } = plan;
    let catalog = shared.predictor.catalog();
    let before = catalog.versions(name);
    let failures = failures(&loaded);
    for Loaded { version, result } in loaded {
        match result {
            Ok(model) if failures.is_ok() || as_stored => settle(shared, name, version, Ok(model)),
            // A version that is not stored came as files, and is not there before it serves.
            _ if serves(before.get(&version)) || !stored.contains(&version) => {}
            Ok(_) => catalog.unload(name, version),
            Err(error) => settle(shared, name, version, Err(error)),
        }
    }
    failures?;
    for version in retire {
        if !stored.contains(&version) {
            catalog.remove(name, version);
        } else if serves(before.get(&version)) {
            catalog.unload(name, version);
        }
    }
    Ok(())
}

/// The versions that failed to load, as one error.
fn failures(loaded: &[Loaded]) -> Result<()> {
    let failed = |loaded: &Loaded| Some((loaded.version, loaded.result.as_ref().err()?.clone()));
    let failed: Vec<(Version, Error)> = loaded.iter().filter_map(failed).collect();
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let texts: Vec<String> =
        failed.iter().map(|(version, error)| format!("version {version}: {error}")).collect();
    Err(Error::new(first.code(), texts.join("; ")).with_source(first.clone()))
}

async fn unload(shared: &Arc<Shared>, name: &ModelName) -> Result<()> {
    let stored = in_store(shared, name).await?;
    let catalog = shared.predictor.catalog();
    for (version, entry) in catalog.versions(name) {
        // What came with a load alone is gone then.
        if stored.iter().any(|stored| stored.version == version) {
            catalog.unload(name, version);
        } else {
            catalog.remove(name, version);
        }
        if serves(Some(&entry)) {
            tracing::info!(model = %name, %version, "unloaded");
        }
    }
    Ok(())
}

async fn in_store(shared: &Arc<Shared>, name: &ModelName) -> Result<Vec<Listed>> {
    Ok(shared.store.versions(name).await?)
}
