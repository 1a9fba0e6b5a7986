//! The serving core in this process, for commands that need no server: the same engine, backends and predictor, over an
//! empty store that goes with it.
//!
//! Contract: [`Local::load`] brings a package into service as a load with files does it, so that the version before serves
//! until the next is ready, and goes on where that does not come up. Compiled code is kept in the user's cache, for a
//! component of Python takes ten seconds to compile. Left out on purpose: ports, and other models that a plugin may call.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use tempfile::TempDir;
use vespid_engine::{Engine, EngineOptions};
use vespid_ingress::cases;
use vespid_package::{Permissions, Store, StoreOptions};
use vespid_serving::{LoadOptions, Predictor, PredictorOptions, ReadyModel, Repository, RepositoryOptions};
use vespid_types::{ModelRef, Result};

use crate::failure::Hint;
use crate::registry::RegistryArgs;
use crate::source::Package;
use crate::{onnxruntime, openvino};

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
    _store: TempDir,
}

impl Local {
    /// A core without models and with room for so many calls at once. Within a runtime.
    pub(crate) async fn start(libraries: &Libraries, max_instances: u32) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().hint(
            "there is no place for temporary files",
            "check that the folder TMPDIR can be written to",
        )?;
        let store = Store::open(StoreOptions::folder(folder.path())).await?;
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
            ..RepositoryOptions::new(engine, backends, cases::request)
        };
        let repository = Repository::start(store, predictor.clone(), options).await?;
        Ok(Self { predictor, repository, _store: folder })
    }

    /// Brings a package into service, in the place of what was loaded before under its name.
    pub(crate) async fn load(&self, package: &Package) -> Result<Arc<ReadyModel>> {
        let (name, version) = (package.name.clone(), package.version);
        let files = BTreeMap::from([(version, package.files.clone())]);
        self.repository.load(name.clone(), LoadOptions { files, ..LoadOptions::default() }).await?;
        self.predictor.model(&ModelRef { name, version: Some(version) })
    }
}
