//! Where the library of ONNX Runtime is looked for.
//!
//! Contract: the file that the operator names, or none; where nothing is said, the first that is there of the system's
//! library of that name and the one that `cargo xtask setup onnxruntime` put into the cache. One that is there and does
//! not load is an error, for models would otherwise run on another backend than the machine is meant to have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use vespid_nn::Backends;
use vespid_nn::onnxruntime::{FILE_NAME, OnnxRuntime};

use crate::failure::Failure;

/// Says that no library is to be loaded.
const OFF: &str = "off";

/// The folder in the cache, and in it the library.
const CACHED: &str = "onnxruntime";

/// Where the usual places of libraries are, should the loader be asked for none.
const SYSTEM: [&str; 4] =
    ["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// Which library of ONNX Runtime to load.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// The library of ONNX Runtime (libonnxruntime.so), or `off` for none; the system's or the set-up's where not given
    #[arg(long = "onnxruntime", value_name = "FILE", env = "VESPID_ONNXRUNTIME", hide_env = true)]
    library: Option<PathBuf>,
}

impl Choice {
    /// The library's file, if one is to be loaded.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        chosen(self.library.as_deref(), found)
    }

    /// Loads the library, if one is to be loaded.
    pub(crate) fn open(&self) -> anyhow::Result<Option<Arc<OnnxRuntime>>> {
        let Some(file) = self.file() else { return Ok(None) };
        let opened = OnnxRuntime::open(&file).map_err(|error| {
            Failure::new(format!("--onnxruntime: {error}"))
                .hint("name the right file, or run without it: --onnxruntime off")
        })?;
        Ok(Some(Arc::new(opened)))
    }

    /// What runs graphs.
    pub(crate) fn backends(&self) -> anyhow::Result<Backends> {
        let backends = Backends::embedded();
        Ok(match self.open()? {
            Some(onnxruntime) => backends.with_onnxruntime(onnxruntime),
            None => backends,
        })
    }
}

/// The library that the operator names, or none where that is `off`; where nothing is said, the one that is found.
pub(crate) fn chosen(named: Option<&Path>, found: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
    match named {
        Some(named) if named.as_os_str() == OFF => None,
        Some(named) => Some(std::path::absolute(named).unwrap_or_else(|_| named.to_owned())),
        None => found(),
    }
}

fn found() -> Option<PathBuf> {
    let in_system = SYSTEM.iter().map(|folder| Path::new(folder).join(FILE_NAME));
    let in_cache = vespid_toolchain::cache_dir().ok().map(|cache| cache.join(CACHED).join(FILE_NAME));
    in_system.chain(in_cache).find(|file| file.is_file())
}
