//! The library of OpenVINO, at the place in the cache where `vespid` looks for it.
//!
//! It comes out of the Python package, at the version and with the hashes that a list pins. Of the wheel's 180 MB those
//! files are taken that run a graph of OpenVINO's own encoding on the processor; and it is told to run FP32 graphs in FP32.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{python, wheel};
use crate::context::Context;
use crate::scratch;

const PACKAGE: &str = "openvino";

/// The folder in the cache, and in it the library.
const FOLDER: &str = "openvino";
const LIBRARY: &str = "libopenvino_c.so";

/// The libraries that are taken, by how their names begin: the core, its reader of the encoding, and what they need.
const TAKEN: [&str; 4] = ["libopenvino.so.", "libopenvino_ir_frontend.so.", "libtbb", "libhwloc.so."];

/// How the name of the processor's plugin ends; it begins with that of its maker.
const PROCESSOR: &str = "_cpu_plugin.so";

/// Read by the library where it lies beside it. Without this one, FP32 graphs are run in BF16 where the processor has it.
const PLUGINS: &str = "plugins.xml";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    let pin = python::OPENVINO.pinned(cx, PACKAGE)?;
    wheel::install(cx, "OpenVINO", &pin, PACKAGE, FOLDER, |unpacked, finished| {
        let notices = unpacked.join(format!("openvino-{}.dist-info/licenses", pin.version));
        copy(&unpacked.join("openvino/libs"), &notices, finished)
    })
}

/// The library, where it has been set up.
pub(crate) fn library(cx: &Context) -> PathBuf {
    cx.cache().join(FOLDER).join(LIBRARY)
}

fn copy(libraries: &Path, notices: &Path, finished: &Path) -> Result<()> {
    let mut processor = None;
    for file in fs::read_dir(libraries).with_context(|| libraries.display().to_string())? {
        let file = file?.path();
        let name = file.file_name().unwrap_or_default().display().to_string();
        // With its version at the end of its name, which the loader of `vespid` is not to know.
        if name.starts_with(LIBRARY) {
            fs::copy(&file, finished.join(LIBRARY))?;
        } else if name.ends_with(PROCESSOR) {
            scratch::copy_into(&file, finished)?;
            processor = Some(name);
        } else if TAKEN.iter().any(|taken| name.starts_with(taken)) {
            scratch::copy_into(&file, finished)?;
        }
    }
    let processor = processor.with_context(|| format!("there is no *{PROCESSOR}"))?;
    fs::write(finished.join(PLUGINS), plugins(&processor))?;
    fs::metadata(finished.join(LIBRARY)).with_context(|| format!("there is no {LIBRARY}.*"))?;
    scratch::copy_into(&notices.join("LICENSE"), finished)?;
    for file in fs::read_dir(notices.join("licensing"))? {
        scratch::copy_into(&file?.path(), finished)?;
    }
    Ok(())
}

fn plugins(processor: &str) -> String {
    format!(
        "<ie>\n  <plugins>\n    <plugin name=\"CPU\" location=\"{processor}\">\n      <properties>\n        \
         <property key=\"INFERENCE_PRECISION_HINT\" value=\"f32\"/>\n      </properties>\n    </plugin>\n  \
         </plugins>\n</ie>\n"
    )
}
