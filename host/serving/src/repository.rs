//! The repository: packages come in, are compiled, become ready, are taken out of service and brought back, and go.
//!
//! Contract: one task writes the catalog; [`Repository`] reaches it by a bounded channel. A package is
//! received, verified, compiled, described and warmed up before it is put in its place, and is in the catalog when it
//! is: at no time is a half-made version visible, and one that fails leaves those that serve as they are. What changes
//! one model comes one after the other. Where a [memory budget](RepositoryOptions::memory) is set, the version that was
//! asked longest ago is dropped from memory when it is exceeded, and loaded again when it is asked. Cost: at most two
//! packages compile at once, on blocking threads.

mod follow;
mod import;
mod load;
mod managed;
mod reconcile;
mod residence;
mod task;
mod wake;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{Stream, StreamExt};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use vespid_engine::Engine;
use vespid_limits::{Coming, Limits, Upload};
use vespid_nn::Backends;
use vespid_package::{ArchiveLimits, Manifest, PackageError, Permissions, Staged, Store, Traffic, Verified};
use vespid_types::{BoxError, Error, ErrorCode, ModelName, Result, Version};

use crate::memory::Ledger;
use crate::model::{CaseReader, Files, ReadyModel, Workshop};
use crate::predictor::Predictor;

pub use follow::DEFAULT_POLL;
pub use load::{Agreement, LoadOptions};
use load::{Turns, run};
pub use managed::{Supplier, Supply};
use task::Command;
use wake::{Waker, Wakings};

const COMPILE_AT_ONCE: usize = 2;
const COMMANDS_WAITING: usize = 64;

/// Loads that may be asked for at once: they go on where their callers leave, and hold the files that they brought.
const LOADS: usize = 16;

/// What a [`Repository`] is made from.
#[derive(Clone)]
pub struct RepositoryOptions {
    /// What runs the plugins.
    pub engine: Engine,
    /// What runs the graphs.
    pub backends: Backends,
    /// How large an uploaded package may be.
    pub max_package: ByteSize,
    /// What models may reach outside of their sandboxes.
    pub permissions: Permissions,
    /// What reads the recorded cases that `[[warmup]]` names.
    pub cases: CaseReader,
    /// When the store's models are loaded.
    pub loading: Loading,
    /// How much memory loaded models may take up together; as much as they need where it is not said.
    pub memory: Option<ByteSize>,
    /// What each model and each tenant may use.
    pub limits: Limits,
    /// Which models of the store are served.
    pub control: Control,
    /// What brings packages into the store that are not there when they are to be loaded.
    pub supplier: Option<Arc<dyn Supplier>>,
}

impl RepositoryOptions {
    /// All models of the store are loaded at once, and take up what they need; packages may have 1 GiB.
    #[must_use]
    pub fn new(engine: Engine, backends: Backends, cases: CaseReader) -> Self {
        Self {
            engine,
            backends,
            max_package: ByteSize::gib(1),
            permissions: Permissions::default(),
            cases,
            loading: Loading::default(),
            memory: None,
            limits: Limits::default(),
            control: Control::default(),
            supplier: None,
        }
    }
}

/// When models of the store are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loading {
    /// When the server starts, or they are found.
    #[default]
    AtOnce,
    /// When they are asked.
    WhenAsked,
}

/// Which models of the store are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Control {
    /// All that are there at the start, and those that are uploaded.
    #[default]
    All,
    /// All, and the store is looked at from time to time for what others have put there, changed and removed.
    Poll(Duration),
    /// These, and those that are uploaded or that a load is asked for.
    Explicit(BTreeSet<ModelName>),
    /// None but those that this process [lists](Repository::list). What clients ask to have changed is refused, for it would be
    /// changed back.
    Managed,
}

impl Control {
    fn serves(&self, name: &ModelName) -> bool {
        match self {
            Self::All | Self::Poll(_) => true,
            Self::Explicit(names) => names.contains(name),
            Self::Managed => false,
        }
    }
}

/// The way to the repository's task. Clones lead to the same one.
#[derive(Clone)]
pub struct Repository {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    workshop: Arc<Workshop>,
    ledger: Ledger,
    predictor: Predictor,
    limits: ArchiveLimits,
    cases: CaseReader,
    loading: Loading,
    memory: Option<ByteSize>,
    quotas: Limits,
    compiling: Semaphore,
    /// Places of loads that are asked for, each with what it brought.
    loads: Arc<Semaphore>,
    loaded: AtomicBool,
    turns: Turns,
    wakings: Wakings,
    supplier: Option<Arc<dyn Supplier>>,
    /// Whether it is not for clients to change what is served.
    managed: bool,
}

impl Repository {
    /// Starts the task, and loads what the store holds.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn start(
        store: impl Into<Arc<Store>>,
        predictor: Predictor,
        options: RepositoryOptions,
    ) -> Result<Self> {
        let RepositoryOptions {
            engine,
            backends,
            max_package,
            permissions,
            cases,
            loading,
            memory,
            limits: quotas,
            control,
            supplier,
        } = options;
        let store = store.into();
        let listed = store.list().await?;
        let ledger = Ledger::default();
        let shared = Arc::new(Shared {
            store,
            workshop: Arc::new(Workshop::new(engine, backends, permissions, ledger.clone())),
            ledger,
            predictor: predictor.clone(),
            limits: ArchiveLimits { size: max_package, entries: 1024 },
            cases,
            loading,
            memory,
            quotas,
            compiling: Semaphore::new(COMPILE_AT_ONCE),
            loads: Arc::new(Semaphore::new(LOADS)),
            loaded: AtomicBool::new(false),
            turns: Turns::default(),
            wakings: Wakings::default(),
            supplier,
            managed: control == Control::Managed,
        });
        let (commands, inbox) = mpsc::channel(COMMANDS_WAITING);
        let repository = Self { commands, shared };
        predictor.load_with(Box::new(Waker::of(&repository)));
        tokio::spawn(task::serve(Arc::clone(&repository.shared), inbox));
        if control != Control::Managed {
            follow::start(&repository, listed, control);
        }
        Ok(repository)
    }

    /// Whether what the store held at the start, or what is to be served in its place, has been loaded, or found not to load.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.shared.loaded.load(Ordering::Acquire)
    }

    /// How large an uploaded package may be.
    #[must_use]
    pub fn max_package(&self) -> ByteSize {
        self.shared.limits.size
    }

    /// Takes a package in. When this returns, the version is ready and will survive a restart; unless the model's policy
    /// does not select it, it answers from now on.
    ///
    /// # Errors
    /// What is wrong with the package; the repository is then as it was.
    pub async fn upload<S>(&self, name: ModelName, version: Version, body: S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Unpin,
    {
        let upload = self.begin(&name, version).await?;
        let staged = self.receive(body).await?;
        let limits = self.shared.limits;
        let expected = name.clone();
        let package = blocking(move || {
            let package = staged.verify(limits)?;
            package.expect(&expected, version)?;
            Ok(package)
        })
        .await?;
        self.take_in(package, upload).await
    }

    async fn take_in(&self, package: Verified, upload: Upload) -> Result<()> {
        let (name, size) = (&package.manifest().name, package.files().values().map(|(_, size)| size).sum());
        let coming = self.shared.quotas.begin_store(&self.shared.store, (name, None), size).await?;
        let loaded = self.shared.load(package.manifest().clone(), files_of(&package)).await;
        let ready = loaded.map_err(|error| {
            let Manifest { name, version, .. } = package.manifest();
            error.context(format!("model '{name}' version {version} failed to load"))
        })?;
        self.shared.check_fits(&ready)?;
        let repository = self.clone();
        run(async move {
            repository.put(package, ready, coming).await?;
            upload.done();
            Ok(())
        })
        .await
    }

    /// Puts a package in its place, and into service.
    async fn put(&self, package: Verified, ready: ReadyModel, coming: Coming) -> Result<()> {
        let Manifest { name, version, grants, .. } = package.manifest();
        let (name, version, reads_files) = (name.clone(), *version, grants.folder.is_some());
        let _turn = self.shared.turns.take(&name).await;
        self.shared.store.commit(package).await?;
        self.shared.quotas.stored(&self.shared.store, coming).await;
        if !reads_files {
            let ready = Arc::new(ready);
            return self.ask(|reply| Command::Committed { ready, reply }).await;
        }
        // One that reads files of its package is to read those that stay.
        let versions = vec![version];
        self.ask(|reply| Command::Found { name: name.clone(), versions, served: true, reply }).await?;
        self.reconcile(&name).await
    }

    /// Removes a version. Requests that it is answering end first; new ones are refused from now on.
    ///
    /// # Errors
    /// `NOT_FOUND`, or what the store says.
    pub async fn remove(&self, name: ModelName, version: Version) -> Result<()> {
        self.check_unmanaged(&name)?;
        let repository = self.clone();
        run(async move {
            let _turn = repository.shared.turns.take(&name).await;
            repository.shared.store.remove(&name, version).await?;
            repository.shared.quotas.stored(&repository.shared.store, Coming::default()).await;
            let versions = vec![version];
            repository.ask(|reply| Command::Gone { name: name.clone(), versions, reply }).await?;
            tracing::info!(model = %name, %version, "removed");
            repository.reconcile(&name).await
        })
        .await
    }

    /// How a model's versions are served, and its traffic is led to them.
    ///
    /// # Errors
    /// `NOT_FOUND` for a model that the server does not know.
    pub fn traffic(&self, name: &ModelName) -> Result<Traffic> {
        let route = self.shared.predictor.catalog().route(name).ok_or_else(|| not_known(name))?;
        Ok(route.traffic().clone())
    }

    /// Sets it, and keeps it in the store. When this returns, it is in effect: versions that it selects are ready, or loaded
    /// when they are asked.
    ///
    /// # Errors
    /// `NOT_FOUND` for the model, and for a version that it leads traffic to and does not serve; or what the store says; all
    /// is then as it was. Where a version that it selects does not load, the others are served as it says.
    pub async fn set_traffic(&self, name: ModelName, traffic: Traffic) -> Result<()> {
        self.check_unmanaged(&name)?;
        let _turn = self.shared.turns.take(&name).await;
        let versions = self.shared.predictor.catalog().versions(&name);
        if versions.is_empty() {
            return Err(not_known(&name));
        }
        let served = traffic.versions.among(versions.into_keys().collect());
        if let Some(missing) = traffic.named().find(|version| !served.contains(version)) {
            let message = format!(
                "traffic: the model has no version {missing} among those that `versions` serves: upload it first, or name \
                 another"
            );
            return Err(Error::new(ErrorCode::NotFound, message));
        }
        self.shared.store.put_document(&name, traffic.to_json().into()).await?;
        let traffic = Box::new(traffic);
        self.ask(|reply| Command::Lead { name: name.clone(), traffic, reply }).await?;
        self.reconcile(&name).await
    }

    async fn receive<S>(&self, mut body: S) -> Result<Staged>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Unpin,
    {
        let store = Arc::clone(&self.shared.store);
        let staged = blocking(move || Ok(store.stage()?)).await?;
        let failed = |error| Error::internal("the package cannot be written to the store").with_source(error);
        let mut file = File::create(staged.archive()).await.map_err(|error| failed(BoxError::from(error)))?;
        let limit = self.shared.limits.size;
        let mut left = limit.as_u64();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                Error::invalid("the upload ended before the whole package had come; nothing was kept")
                    .with_source(error)
            })?;
            left = left.checked_sub(chunk.len() as u64).ok_or(PackageError::TooLarge { limit })?;
            file.write_all(&chunk).await.map_err(|error| failed(error.into()))?;
        }
        file.flush().await.map_err(|error| failed(error.into()))?;
        Ok(staged)
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command) -> Result<T> {
        ask(&self.commands, command).await
    }
}

async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
) -> Result<T> {
    let stopped = || Error::refused("the server is shutting down");
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).await.map_err(|_| stopped())?;
    answer.await.map_err(|_| stopped())?
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("a task failed").with_source(error)))
}

fn not_known(name: &ModelName) -> Error {
    Error::new(ErrorCode::NotFound, format!("Request for unknown model: '{name}' is not found"))
}

fn files_of(package: &Verified) -> Files {
    let digests = package.files().iter().map(|(path, (digest, _))| (path.clone(), *digest)).collect();
    Files { dir: package.dir(), digests }
}
