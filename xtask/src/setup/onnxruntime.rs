//! The library of ONNX Runtime, at the place in the cache where `vespid` looks for it.
//!
//! It comes out of the Python package, at the version and with the hashes that the tests' list pins.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{python, wheel};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome};

const PACKAGE: &str = "onnxruntime";

/// The folder in the cache, and in it the library.
const FOLDER: &str = "onnxruntime";
const LIBRARY: &str = "libonnxruntime.so";

/// Written last: the version that the library has.
const VERSION: &str = "VERSION";

/// What is taken besides the library: its licence, and those of what it contains.
const NOTICES: [&str; 2] = ["onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"];

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("ONNX Runtime", |step| {
        let pin = python::CLIENTS.pinned(cx, PACKAGE)?;
        let place = cx.cache().join(FOLDER);
        if fs::read_to_string(place.join(VERSION)).is_ok_and(|version| version == pin.version) {
            return Ok(Outcome::AlreadyThere);
        }
        let scratch = Scratch::new(cx, FOLDER)?;
        let unpacked = wheel::unpack(cx, step, &pin, PACKAGE, &scratch)?;
        let finished = scratch.folder("finished")?;
        copy(&unpacked, &finished).context(
            "the wheel of onnxruntime is laid out anew: adapt xtask/src/setup/onnxruntime.rs to it",
        )?;
        fs::write(finished.join(VERSION), &pin.version)?;
        scratch::publish(&finished, &place)?;
        Ok(Outcome::Done)
    })
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
