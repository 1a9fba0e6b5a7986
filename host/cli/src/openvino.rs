//! Where the library of OpenVINO is looked for.
//!
//! Contract: the file that the operator names, or none; where nothing is said, the one of an installed OpenVINO, or else
//! the one that `cargo xtask setup openvino` put into the cache. One that is named is loaded at once, so that a wrong name
//! shows; one that is found is loaded with the first graph that needs it, and fails that graph where it does not load.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use vespid_nn::Backends;
use vespid_nn::openvino::{FILE_NAME, OpenVino, find};

use crate::failure::Failure;
use crate::onnxruntime::chosen;

/// The folder in the cache, and in it the library.
const CACHED: &str = "openvino";

/// Which library of OpenVINO to load.
#[derive(Clone, Debug, Args)]
// The group would be named after the type, as that of ONNX Runtime's choice is.
#[group(skip)]
pub(crate) struct Choice {
    /// The library of OpenVINO (libopenvino_c.so), or `off` for none; the installed or the set-up's where not given
    #[arg(long = "openvino", value_name = "FILE", env = "VESPID_OPENVINO", hide_env = true)]
    openvino: Option<PathBuf>,
}

impl Choice {
    /// The library, if there is to be one; loaded where it is named.
    pub(crate) fn open(&self) -> anyhow::Result<Option<Arc<OpenVino>>> {
        let Some(file) = chosen(self.openvino.as_deref(), found) else { return Ok(None) };
        let openvino = OpenVino::at(file);
        if self.openvino.is_some() {
            openvino.loaded().map_err(|error| {
                Failure::new(format!("--openvino: {error}"))
                    .hint("name the right file, or run without it: --openvino off")
            })?;
        }
        Ok(Some(Arc::new(openvino)))
    }

    /// What runs graphs, with it besides.
    pub(crate) fn join(&self, backends: Backends) -> anyhow::Result<Backends> {
        Ok(match self.open()? {
            Some(openvino) => backends.with_openvino(openvino),
            None => backends,
        })
    }
}

fn found() -> Option<PathBuf> {
    let in_cache = || vespid_toolchain::cache_dir().ok().map(|cache| cache.join(CACHED).join(FILE_NAME));
    find().or_else(|| in_cache().filter(|file| file.is_file()))
}
