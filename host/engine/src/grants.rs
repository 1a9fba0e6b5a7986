//! What a plugin may reach outside of its sandbox, as its calls are bound to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vespid_types::{HttpHost, ModelName, Secret};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtx};

use crate::error::EngineError;

/// Where a guest finds its folder.
const ASSETS: &str = "/assets";

/// What a plugin may reach. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Other models that it may call.
    pub models: BTreeSet<ModelName>,
    /// Hosts that it may ask over HTTP.
    pub http: Vec<HttpHost>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its secrets, which it gets one by one and by name.
    pub secrets: BTreeMap<String, Secret>,
    /// A folder that it may read.
    pub folder: Option<Assets>,
}

/// An open folder, which guests see as `/assets` and can only read. It stays the same one where it is moved.
#[derive(Clone)]
pub struct Assets(WasiFilesystemCtx);

impl Assets {
    /// Opens the folder. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Folder`].
    pub fn open(folder: &Path) -> Result<Self, EngineError> {
        let mut builder = WasiCtx::builder();
        builder.preopened_dir(folder, ASSETS, FsPerms::ReadOnly).map_err(EngineError::Folder)?;
        Ok(Self(builder.build().filesystem().clone()))
    }
}

impl std::fmt::Debug for Assets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ASSETS)
    }
}

impl Grants {
    /// What WASI shows to a guest: no files but those of its folder, no network, no standard streams, and the environment that
    /// it was granted. Clocks and random numbers are there for all.
    pub(crate) fn wasi(&self) -> WasiCtx {
        let mut builder = WasiCtx::builder();
        for (name, value) in &self.env {
            builder.env(name, value);
        }
        let mut wasi = builder.build();
        if let Some(Assets(folder)) = &self.folder {
            *wasi.filesystem() = folder.clone();
        }
        wasi
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::component::ResourceTable;
    use wasmtime_wasi::cli::WasiCliCtxView;
    use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
    use wasmtime_wasi::p2::bindings::cli::environment::Host as _;
    use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;

    use super::*;

    #[test]
    fn wasi_shows_what_is_granted_and_nothing_of_the_server_s() {
        let folder = tempfile::tempdir().unwrap();
        let region = ("REGION".to_owned(), "eu".to_owned());
        let granted = Grants {
            env: [region.clone()].into(),
            secrets: [("key".to_owned(), Secret::new("hunter2"))].into(),
            folder: Some(Assets::open(folder.path()).unwrap()),
            ..Grants::default()
        };
        for (grants, environment, folders) in
            [(Grants::default(), vec![], vec![]), (granted, vec![region], vec![ASSETS])]
        {
            let mut wasi = grants.wasi();
            let mut table = ResourceTable::new();
            let mut cli = WasiCliCtxView { ctx: wasi.cli(), table: &mut table };
            assert_eq!(cli.get_environment().unwrap(), environment);
            assert_eq!(cli.get_arguments().unwrap(), Vec::<String>::new());
            let mut files = WasiFilesystemCtxView { ctx: wasi.filesystem(), table: &mut table };
            let found = files.get_directories().unwrap();
            assert_eq!(found.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), folders);
        }
        assert!(matches!(Assets::open(&folder.path().join("none")), Err(EngineError::Folder(_))));
    }
}
