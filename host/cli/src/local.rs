//! The serving core in this process, for commands that need no server: the same engine, backends and predictor, over an
//! empty store that goes with it.
//!
//! Contract: [`Local::load`] brings a package into service as a load with files does it, so that the version before serves
//! until the next is ready, and goes on where that does not come up. Compiled code is kept in the user's cache, for a
//! component of Python takes ten seconds to compile. Left out on purpose: ports, and other models that a plugin may call.

pub(crate) mod admin;
pub(crate) mod models;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use tempfile::TempDir;
use vespid_engine::{Engine, EngineOptions};
use vespid_ingress::cases;
use vespid_package::{Permissions, Store, StoreLocation, StoreOptions};
use vespid_serving::{
    Control, LoadOptions, Predictor, PredictorOptions, ReadyModel, Repository, RepositoryOptions,
};
use vespid_types::{ModelName, ModelRef, Result};

use crate::failure::{Failure, Hint};
use crate::registry::RegistryArgs;
use crate::source::Package;
use crate::{onnxruntime, openvino};

/// How often it is looked whether a model is loaded.
const LOOK: Duration = Duration::from_millis(20);

/// The largest package; that of `vespid serve`.
const MAX_PACKAGE: ByteSize = ByteSize::gib(4);

/// Which libraries run graphs, what plugins may reach, and how registries are reached.
#[derive(Debug, Args)]
pub(crate) struct Libraries {
    #[command(flatten)]
    onnxruntime: onnxruntime::Choice,
    #[command(flatten)]
    openvino: openvino::Choice,
    /// A file that says what the plugin may reach outside of its sandbox (docs/grants.md) [default: its own package]
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryArgs,
}

/// The serving core.
pub(crate) struct Local {
    pub(crate) predictor: Predictor,
    pub(crate) repository: Repository,
    _folder: TempDir,
}

impl Local {
    /// A core without models and with room for so many calls at once. Within a runtime.
    pub(crate) async fn start(libraries: &Libraries, max_instances: u32) -> anyhow::Result<Self> {
        let folder = temporary()?;
        let store = Store::open(StoreOptions::folder(folder.path())).await?;
        Self::over(store, folder, Control::All, libraries, max_instances).await
    }

    /// A core that serves some models of a store, which may be a server's: what is kept of it here goes with the core.
    pub(crate) async fn of_store(
        location: &StoreLocation,
        models: BTreeSet<ModelName>,
        libraries: &Libraries,
        max_instances: u32,
    ) -> anyhow::Result<Self> {
        let folder = temporary()?;
        let cache = Some(folder.path().to_owned());
        let store = Store::open(StoreOptions { location: location.clone(), cache }).await;
        let store = store.with_context(|| format!("--store {location}"))?;
        Self::over(store, folder, Control::Explicit(models), libraries, max_instances).await
    }

    async fn over(
        store: Store,
        folder: TempDir,
        control: Control,
        libraries: &Libraries,
        max_instances: u32,
    ) -> anyhow::Result<Self> {
        let cache = vespid_toolchain::cache_dir()
            .hint("there is no place for compiled code", "set VESPID_CACHE to a folder")?;
        let engine = Engine::new(&EngineOptions { code_cache: cache.join("code"), max_instances })
            .context("the plugin engine does not start")?;
        let backends = libraries.openvino.join(libraries.onnxruntime.backends()?)?;
        let predictor = Predictor::new(PredictorOptions { max_in_flight: 1024 });
        let permissions = libraries.grants.as_deref().map(Permissions::read).transpose()?.unwrap_or_default();
        let options = RepositoryOptions {
            max_package: MAX_PACKAGE,
            permissions,
            control,
            ..RepositoryOptions::new(engine, backends, cases::request)
        };
        let repository = Repository::start(store, predictor.clone(), options).await?;
        Ok(Self { predictor, repository, _folder: folder })
    }

    /// Waits until a model of the store is loaded, or is said not to be.
    pub(crate) async fn ready(&self, model: &ModelRef) -> Result<Arc<ReadyModel>> {
        while !self.repository.is_loaded() {
            tokio::time::sleep(LOOK).await;
        }
        self.predictor.resolve(model).await
    }

    /// Brings a package into service, in the place of what was loaded before under its name.
    pub(crate) async fn load(&self, package: &Package) -> Result<Arc<ReadyModel>> {
        let (name, version) = (package.name.clone(), package.version);
        let files = BTreeMap::from([(version, package.files.clone())]);
        self.repository.load(name.clone(), LoadOptions { files, ..LoadOptions::default() }).await?;
        self.predictor.model(&ModelRef { name, version: Some(version) })
    }
}

fn temporary() -> Result<TempDir, Failure> {
    tempfile::tempdir()
        .hint("there is no place for temporary files", "check that the folder TMPDIR can be written to")
}
