//! ONNX Runtime for NVIDIA's processors and the libraries that it loads, for the bench that is carried to such a machine.
//!
//! No part of the set-up: they are 2 GB, and nothing here runs them.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{python, wheel};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome};

/// The folder in the cache, and in it that of ONNX Runtime and that of what it loads.
const FOLDER: &str = "onnxruntime-gpu";
const RUNTIME: &str = "runtime";
const LOADED: &str = "loaded";

/// Written last: what the files were made of.
const VERSION: &str = "VERSION";

const LIBRARY: &str = "libonnxruntime.so";

/// Where the libraries are.
pub(crate) struct Libraries {
    folder: PathBuf,
}

/// Fetches them where they are not there.
pub(crate) fn ensure(cx: &Context) -> Result<Libraries> {
    let _lock = super::lock(cx)?;
    let folder = cx.cache().join(FOLDER);
    ui::step("ONNX Runtime for NVIDIA's processors", |step| {
        let mut hasher = DefaultHasher::new();
        let list = python::GPU.list(cx)?;
        list.hash(&mut hasher);
        let version = format!("{:016x}", hasher.finish());
        if fs::read_to_string(folder.join(VERSION)).is_ok_and(|own| own == version) {
            return Ok(Outcome::AlreadyThere);
        }
        let scratch = Scratch::new(cx, "gpu")?;
        let finished = scratch.folder("finished")?;
        for package in list.lines().filter_map(|line| line.split_once("==")).map(|(name, _)| name) {
            let pin = python::GPU.pinned(cx, package)?;
            let own = Scratch::new(cx, package)?;
            let unpacked = wheel::unpack(cx, step, &pin, package, &own)?;
            let kind = if package == FOLDER { RUNTIME } else { LOADED };
            let place = finished.join(kind);
            scratch::create(&place)?;
            copy_libraries(&unpacked, &place)?;
        }
        fs::write(finished.join(VERSION), version)?;
        scratch::publish(&finished, &folder)?;
        Ok(Outcome::Done)
    })?;
    Ok(Libraries { folder })
}

impl Libraries {
    /// The files, of which `lean` leaves out NVIDIA's.
    pub(crate) fn files(&self, lean: bool) -> Result<Vec<PathBuf>> {
        let kinds: &[&str] = if lean { &[RUNTIME] } else { &[RUNTIME, LOADED] };
        let mut files = Vec::new();
        for kind in kinds {
            let folder = self.folder.join(kind);
            for file in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
                files.push(file?.path());
            }
        }
        Ok(files)
    }
}

/// Copies the shared libraries out of a wheel, wherever they are in it; those for Python are left out.
fn copy_libraries(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            copy_libraries(&path, to)?;
            continue;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.starts_with("lib") || !name.contains(".so") {
            continue;
        }
        // Its version is at the end of its name, under which nothing looks for it.
        let name = if name.starts_with(&format!("{LIBRARY}.")) { LIBRARY } else { name };
        fs::copy(&path, to.join(name)).with_context(|| format!("{} cannot be copied", path.display()))?;
    }
    Ok(())
}
