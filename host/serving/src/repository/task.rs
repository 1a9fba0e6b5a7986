//! The repository's task: the one writer of the catalog.
//!
//! Contract: commands are done one after the other; none of them compiles anything or moves a package, so that none keeps
//! the next waiting for long. Where there is a memory budget, it is looked at after each change, and now and then for what kept instances
//! take up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use vespid_package::Traffic;
use vespid_types::{Error, ErrorCode, ModelName, Result, Version};

use super::Shared;
use super::load::{Loaded, Wanted};
use super::reconcile;
use super::wake::may_pass;
use crate::catalog::{Entry, Idle, Why};
use crate::model::ReadyModel;

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// How often it is seen whether what is in memory is within the budget.
const LOOK: Duration = Duration::from_secs(1);

pub(super) enum Command {
    /// A version is in the store.
    Committed {
        ready: Arc<ReadyModel>,
        reply: Reply<()>,
    },
    /// Answers with the versions of the store that are to be loaded, which show as loading where they do not serve.
    Begin {
        name: ModelName,
        wanted: Wanted,
        reply: Reply<(Plan, Vec<Version>)>,
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
    /// Versions are in the store that were not known, or are otherwise than they were. Where they are not to be served,
    /// they wait for somebody to ask for it.
    Found {
        name: ModelName,
        versions: Vec<Version>,
        served: bool,
        reply: Reply<()>,
    },
    /// Versions are loaded when they are asked.
    List {
        name: ModelName,
        versions: Vec<Version>,
        reply: Reply<()>,
    },
    /// What came of loading anew a version that served.
    Renewed {
        name: ModelName,
        version: Version,
        loaded: Result<Arc<ReadyModel>>,
        reply: Reply<()>,
    },
    /// Versions are in the store no more.
    Gone {
        name: ModelName,
        versions: Vec<Version>,
        reply: Reply<()>,
    },
    /// How traffic is led.
    Lead {
        name: ModelName,
        traffic: Box<Traffic>,
        reply: Reply<()>,
    },
    /// Answers with the versions that are to be loaded so that the model is served as its policy says.
    Missing {
        name: ModelName,
        reply: Reply<Vec<Version>>,
    },
    /// What came of these.
    Settle {
        name: ModelName,
        loaded: Vec<Loaded>,
        reply: Reply<()>,
    },
    /// Takes what the policy does not select out of service.
    Retire {
        name: ModelName,
        reply: Reply<()>,
    },
    /// What serves is otherwise in the store now, and what is there does not load.
    Complain {
        name: ModelName,
        version: Version,
        reason: String,
        reply: Reply<()>,
    },
    MakeRoom {
        needs: u64,
        reply: Reply<()>,
    },
    /// What came of loading a version that was asked.
    Woken {
        name: ModelName,
        version: Version,
        loaded: Result<Arc<ReadyModel>>,
        reply: Reply<Arc<ReadyModel>>,
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

pub(super) async fn serve(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Command>) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                Some(command) => obey(&shared, command).await,
                None => return,
            },
            _ = looks.tick(), if shared.memory.is_some() => shared.make_room(0, None),
        }
    }
}

/// Nobody may wait for the answer any more; it is done all the same.
async fn obey(shared: &Shared, command: Command) {
    let catalog = shared.predictor.catalog();
    match command {
        Command::Committed { ready, reply } => {
            let name = ready.name().clone();
            tracing::info!(model = %name, version = %ready.version(), "ready");
            put(shared, ready);
            reconcile::retire(catalog, &name);
            let _ = reply.send(Ok(()));
        }
        Command::Begin { name, wanted, reply } => {
            let _ = reply.send(begin(shared, &name, &wanted).await);
        }
        Command::Finish { name, plan, loaded, reply } => {
            let _ = reply.send(finish(shared, &name, plan, loaded));
        }
        Command::Unload { name, reply } => {
            let _ = reply.send(unload(shared, &name).await);
        }
        Command::Found { name, versions, served, reply } => {
            reconcile::found(catalog, &name, &versions, served);
            let _ = reply.send(Ok(()));
        }
        Command::List { name, versions, reply } => {
            reconcile::list(catalog, &name, &versions);
            let _ = reply.send(Ok(()));
        }
        Command::Renewed { name, version, loaded, reply } => {
            let _ = reply.send(renewed(shared, &name, version, loaded));
        }
        Command::Gone { name, versions, reply } => {
            versions.iter().for_each(|version| catalog.remove(&name, *version));
            let _ = reply.send(Ok(()));
        }
        Command::Lead { name, traffic, reply } => {
            catalog.lead(&name, *traffic);
            let _ = reply.send(Ok(()));
        }
        Command::Missing { name, reply } => {
            let _ = reply.send(Ok(reconcile::missing(catalog, &name, shared.loading)));
        }
        Command::Settle { name, loaded, reply } => {
            loaded.into_iter().for_each(|Loaded { version, result }| settle(shared, &name, version, result));
            let _ = reply.send(Ok(()));
        }
        Command::Retire { name, reply } => {
            reconcile::retire(catalog, &name);
            let _ = reply.send(Ok(()));
        }
        Command::Complain { name, version, reason, reply } => {
            catalog.change(&name, |model| model.complaints.insert(version, reason));
            let _ = reply.send(Ok(()));
        }
        Command::MakeRoom { needs, reply } => {
            shared.make_room(needs, None);
            let _ = reply.send(Ok(()));
        }
        Command::Woken { name, version, loaded, reply } => {
            let _ = reply.send(woken(shared, &name, version, loaded));
        }
    }
}

/// Puts a version that is ready into the catalog, and makes room for it.
fn put(shared: &Shared, model: Arc<ReadyModel>) {
    let (name, version) = (model.name().clone(), model.version());
    shared.predictor.catalog().set(&name, version, Entry::Ready(model));
    shared.make_room(0, Some((&name, version)));
}

/// Puts what came of loading a version into the catalog.
fn settle(shared: &Shared, name: &ModelName, version: Version, loaded: Result<ReadyModel>) {
    match loaded {
        Ok(ready) => {
            tracing::info!(model = %name, %version, "ready");
            put(shared, Arc::new(ready));
        }
        Err(error) => {
            let reason = format!("failed to load: {error}");
            tracing::error!(model = %name, %version, "{reason}");
            shared.predictor.catalog().set(name, version, Entry::Unavailable { reason });
        }
    }
}

/// The same for one that is asked. Callers come again while it is not ready, which is not to fill the log.
fn woken(
    shared: &Shared,
    name: &ModelName,
    version: Version,
    loaded: Result<Arc<ReadyModel>>,
) -> Result<Arc<ReadyModel>> {
    let still_idle = matches!(shared.predictor.catalog().entry(name, version), Some(Entry::Idle(_)));
    match loaded {
        Ok(model) => {
            if still_idle {
                tracing::debug!(model = %name, %version, "loaded");
                put(shared, Arc::clone(&model));
            }
            Ok(model)
        }
        Err(error) => {
            if still_idle && !may_pass(&error) {
                settle(shared, name, version, Err(error.clone()));
            }
            Err(error)
        }
    }
}

/// The same for one that is to serve in the place of another.
fn renewed(
    shared: &Shared,
    name: &ModelName,
    version: Version,
    loaded: Result<Arc<ReadyModel>>,
) -> Result<()> {
    let catalog = shared.predictor.catalog();
    let counters = match catalog.entry(name, version) {
        Some(Entry::Ready(before)) => Some(Arc::clone(before.counters())),
        Some(Entry::Idle(before)) => Some(Arc::clone(&before.counters)),
        Some(_) => None,
        // It went meanwhile.
        None => return Ok(()),
    };
    match loaded {
        Ok(model) => {
            tracing::info!(model = %name, %version, "loaded anew");
            put(shared, model);
            Ok(())
        }
        Err(error) => {
            if may_pass(&error) {
                let idle = Idle { counters: counters.unwrap_or_default(), ..Idle::default() };
                catalog.set(name, version, Entry::Idle(Arc::new(idle)));
            } else {
                settle(shared, name, version, Err(error.clone()));
            }
            Err(error)
        }
    }
}

async fn begin(shared: &Shared, name: &ModelName, wanted: &Wanted) -> Result<(Plan, Vec<Version>)> {
    let catalog = shared.predictor.catalog();
    let stored = in_store(shared, name).await?;
    let entries = catalog.versions(name);
    let stay = match wanted {
        Wanted::Files(versions) => versions.clone(),
        _ if stored.is_empty() => return Err(not_in_store()),
        Wanted::AsStored => match catalog.route(name) {
            Some(route) => route.traffic().versions.among(stored.clone()),
            None => stored.clone(),
        },
        Wanted::Overridden(policy) => policy.select(stored.clone())?,
    };
    let load: Vec<Version> = match wanted {
        Wanted::AsStored => {
            stay.iter().filter(|version| !serves_as_stored(entries.get(version))).copied().collect()
        }
        Wanted::Overridden(_) => stay.iter().copied().collect(),
        Wanted::Files(_) => Vec::new(),
    };
    for version in &load {
        if !serves(entries.get(version)) {
            catalog.set(name, *version, Entry::Loading);
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
            Ok(_) => catalog.unload(name, version, Why::Asked),
            Err(error) => settle(shared, name, version, Err(error)),
        }
    }
    failures?;
    let why = if as_stored { Why::Policy } else { Why::Asked };
    for version in retire {
        if !stored.contains(&version) {
            catalog.remove(name, version);
        } else if before.get(&version).is_some_and(Entry::can_be_asked) || as_stored {
            catalog.unload(name, version, why);
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

async fn unload(shared: &Shared, name: &ModelName) -> Result<()> {
    let stored = in_store(shared, name).await?;
    let catalog = shared.predictor.catalog();
    for (version, entry) in catalog.versions(name) {
        // What came with a load alone is gone then.
        if stored.contains(&version) {
            catalog.unload(name, version, Why::Asked);
        } else {
            catalog.remove(name, version);
        }
        if entry.can_be_asked() {
            tracing::info!(model = %name, %version, "unloaded");
        }
    }
    Ok(())
}

async fn in_store(shared: &Shared, name: &ModelName) -> Result<BTreeSet<Version>> {
    Ok(shared.store.versions(name).await?.into_iter().map(|listed| listed.version).collect())
}
