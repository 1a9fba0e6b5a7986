//! Magika's model, which the file-type package wraps: 3 MB that are fetched, not committed.
//!
//! It comes out of Magika's own Python package, at the version and with the hashes that the tests' list pins, so
//! that the model served is the one that the reference client runs. Its graph is then rewritten so that the embedded
//! backend rounds as that client does (plugins/file-type/graph).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::python::{self, Pin};
use super::wheel;
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome, Step};

const MODEL: &str = "magika/models/standard_v3_3/model.onnx";

/// The rewritten graph, which the package names.
const SERVED: &str = "model-ort-rounding.onnx";

/// What is taken out of the wheel. Its metadata names the licence, of which the wheel holds no text.
const FILES: [&str; 4] = [
    MODEL,
    "magika/models/standard_v3_3/config.min.json",
    "magika/config/content_types_kb.min.json",
    "magika-{version}.dist-info/METADATA",
];

/// Written last: the version that the files beside it belong to.
const VERSION: &str = "VERSION";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("Magika's model", |step| {
        let pin = python::CLIENTS.pinned(cx, "magika")?;
        let cached = cx.cache().join("assets").join(format!("magika-{}", pin.version));
        let assets = cx.root().join("plugins/file-type/assets");
        let there = holds(&assets, &pin.version);
        if !there {
            if !holds(&cached, &pin.version) {
                fetch(cx, step, &pin, &cached)?;
            }
            copy(&cached, &assets, &pin.version)?;
        }
        let same = !rewrite(cx, step, &assets)?;
        Ok(if there && same { Outcome::AlreadyThere } else { Outcome::Done })
    })
}

/// Writes the graph that is served; whether it is a new one. It is done each time, for it takes a fraction of a second,
/// and cargo builds the program anew where its sources changed: the graph is always what they make of the model.
fn rewrite(cx: &Context, step: &mut Step<'_>, assets: &Path) -> Result<bool> {
    let served = assets.join(SERVED);
    let before = fs::read(&served).ok();
    let mut cargo = cx.cargo();
    cargo.args(["run", "--quiet", "--manifest-path", "plugins/Cargo.toml", "--package", "magika-graph"]);
    cargo.arg("--").arg(assets.join(name(MODEL))).arg(&served);
    step.run(cargo).context("Magika's graph cannot be rewritten for the embedded backend")?;
    let after = fs::read(&served).with_context(|| format!("{} cannot be read", served.display()))?;
    Ok(before.is_none_or(|before| before != after))
}

fn fetch(cx: &Context, step: &mut Step<'_>, pin: &Pin, place: &Path) -> Result<()> {
    let scratch = Scratch::new(cx, "magika")?;
    // Every wheel of a version holds the same model.
    let unpacked = wheel::unpack(cx, step, pin, "magika", &scratch)?;
    let finished = scratch.folder("finished")?;
    for file in FILES {
        let file = unpacked.join(file.replace("{version}", &pin.version));
        scratch::copy_into(&file, &finished)
            .context("the wheel of magika is laid out anew: adapt xtask/src/setup/magika.rs to it")?;
    }
    mark(&finished, &pin.version)?;
    scratch::publish(&finished, place)
}

fn copy(from: &Path, to: &Path, version: &str) -> Result<()> {
    scratch::remove(to)?;
    scratch::create(to)?;
    for file in FILES {
        scratch::copy_into(&from.join(name(file)), to)?;
    }
    mark(to, version)
}

fn mark(folder: &Path, version: &str) -> Result<()> {
    fs::write(folder.join(VERSION), format!("magika {version}\n")).context("VERSION cannot be written")
}

fn holds(folder: &Path, version: &str) -> bool {
    fs::read_to_string(folder.join(VERSION)).is_ok_and(|text| text == format!("magika {version}\n"))
        && FILES.iter().all(|file| folder.join(name(file)).is_file())
}

fn name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}
