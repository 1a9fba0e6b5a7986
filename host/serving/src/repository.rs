//! The repository: packages come in, are compiled, become ready, are taken out of service and brought back, and go.
//!
//! Contract: one task owns the store and writes the catalog; [`Repository`] reaches it by a bounded channel. A package is
//! received, verified, compiled and described before the task puts it in its place, and is in the catalog when it is: at
//! no time is a half-made version visible. Cost: at most two packages compile at once, on blocking threads.

mod import;
mod load;
mod task;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{Stream, StreamExt};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use vespid_engine::Engine;
use vespid_nn::Backends;
use vespid_package::{ArchiveLimits, Manifest, PackageError, Staged, Store};
use vespid_types::{BoxError, Error, ErrorCode, ModelName, Result, Version};

use crate::model::{CompiledModel, ReadyModel};
use crate::predictor::Predictor;

use load::Turns;
pub use load::{Agreement, LoadOptions};
use task::Command;

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
}

/// The way to the repository's task. Clones lead to the same one.
#[derive(Clone)]
pub struct Repository {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    engine: Engine,
    backends: Backends,
    predictor: Predictor,
    limits: ArchiveLimits,
    compiling: Semaphore,
    /// Places of loads that are asked for, each with what it brought.
    loads: Arc<Semaphore>,
    loaded: AtomicBool,
    turns: Turns,
}

impl Repository {
    /// Starts the task, which first loads what the store holds.
    ///
    /// # Errors
    /// Where the store cannot be listed.
    pub async fn start(store: Store, predictor: Predictor, options: RepositoryOptions) -> Result<Self> {
        let RepositoryOptions { engine, backends, max_package } = options;
        let stored = store.list().await?;
        let limits = ArchiveLimits { size: max_package, entries: 1024 };
        let shared = Arc::new(Shared {
            store: Arc::new(store),
            engine,
            backends,
            predictor,
            limits,
            compiling: Semaphore::new(COMPILE_AT_ONCE),
            loads: Arc::new(Semaphore::new(LOADS)),
            loaded: AtomicBool::new(false),
            turns: Turns::default(),
        });
        let (commands, inbox) = mpsc::channel(COMMANDS_WAITING);
        tokio::spawn(task::serve(Arc::clone(&shared), stored, inbox));
        Ok(Self { commands, shared })
    }

    /// Whether what the store held at the start has been loaded, or found not to load.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.shared.loaded.load(Ordering::Acquire)
    }

    /// How large an uploaded package may be.
    #[must_use]
    pub fn max_package(&self) -> ByteSize {
        self.shared.limits.size
    }

    /// Takes a package in. When this returns, the version is ready and will survive a restart.
    ///
    /// # Errors
    /// What is wrong with the package; the repository is then as it was.
    pub async fn upload<S>(&self, name: ModelName, version: Version, body: S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, BoxError>> + Unpin,
    {
        if self.shared.store.contains(&name, version).await? {
            return Err(PackageError::Exists { name, version }.into());
        }
        let staged = self.receive(body).await?;
        let limits = self.shared.limits;
        let expected = name.clone();
        let package = blocking(move || {
            let package = staged.verify(limits)?;
            package.expect(&expected, version)?;
            Ok(package)
        })
        .await?;
        let ready = self
            .shared
            .load(package.manifest().clone(), package.dir())
            .await
            .map_err(|error| error.context(format!("model '{name}' version {version} failed to load")))?;
        let ready = Arc::new(ready);
        let package = Box::new(package);
        let _turn = self.shared.turns.take(&name).await;
        self.ask(|reply| Command::Commit { package, ready, reply }).await
    }

    /// Removes a version. Requests that it is answering end first; new ones are refused from now on.
    ///
    /// # Errors
    /// `NOT_FOUND`, or what the file system says.
    pub async fn remove(&self, name: ModelName, version: Version) -> Result<()> {
        let _turn = self.shared.turns.take(&name).await;
        self.ask(|reply| Command::Remove { name, version, reply }).await
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
        let stopped = || Error::new(ErrorCode::Unavailable, "the server is shutting down");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal("a task failed").with_source(error)))
}

impl Shared {
    async fn load(&self, manifest: Manifest, dir: PathBuf) -> Result<ReadyModel> {
        let _turn = self
            .compiling
            .acquire()
            .await
            .map_err(|error| Error::internal("the repository is closed").with_source(error))?;
        let (engine, backends, peers) = (self.engine.clone(), self.backends.clone(), self.predictor.peers());
        let compiled =
            blocking(move || CompiledModel::build(&engine, &backends, manifest, &dir, peers)).await?;
        compiled.describe().await
    }
}
