//! The library of ONNX Runtime, at the place in the cache where `vespid` looks for it.
//!
//! It comes out of the Python package, at the version and with the hashes that the tests' list pins.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{python, wheel};
use crate::context::Context;
use crate::scratch;

const PACKAGE: &str = "onnxruntime";

/// The folder in the cache, and in it the library.
const FOLDER: &str = "onnxruntime";
const LIBRARY: &str = "libonnxruntime.so";

/// What is taken besides the library: its licence, and those of what it contains.
const NOTICES: [&str; 2] = ["onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"];

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    let pin = python::CLIENTS.pinned(cx, PACKAGE)?;
    wheel::install(cx, "ONNX Runtime", &pin, PACKAGE, FOLDER, copy)
}

/// The library, where it has been set up.
pub(crate) fn library(cx: &Context) -> PathBuf {
    cx.cache().join(FOLDER).join(LIBRARY)
}

fn copy(unpacked: &Path, finished: &Path) -> Result<()> {
    let folder = unpacked.join("onnxruntime/capi");
    // With its version at the end of its name; the other libraries there are for Python.
    let is_library = |name: &str| name.strip_prefix(LIBRARY).is_some_and(|rest| rest.starts_with('.'));
    let mut files = fs::read_dir(&folder)?.flatten();
    let library = files.find(|file| file.file_name().to_str().is_some_and(is_library));
    let library = library.with_context(|| format!("there is no {LIBRARY}.* in {}", folder.display()))?;
    fs::copy(library.path(), finished.join(LIBRARY))?;
    NOTICES.iter().try_for_each(|notice| scratch::copy_into(&unpacked.join(notice), finished))
}
