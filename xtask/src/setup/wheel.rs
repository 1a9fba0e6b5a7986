//! Files out of a Python wheel, which the tests' list pins by version and hash.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::python::{self, Pin};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome, Step};

/// Written last: the version that has been set up.
const VERSION: &str = "VERSION";

/// Puts what `copy` takes out of a package's unpacked wheel into `folder` of the cache, unless that version is there.
pub(crate) fn install(
    cx: &Context,
    title: &str,
    pin: &Pin,
    package: &str,
    folder: &str,
    copy: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<()> {
    ui::step(title, |step| {
        let place = cx.cache().join(folder);
        if fs::read_to_string(place.join(VERSION)).is_ok_and(|version| version == pin.version) {
            return Ok(Outcome::AlreadyThere);
        }
        let scratch = Scratch::new(cx, folder)?;
        let unpacked = unpack(cx, step, pin, package, &scratch)?;
        let finished = scratch.folder("finished")?;
        copy(&unpacked, &finished)
            .with_context(|| format!("the wheel of {package} is laid out anew: adapt the set-up to it"))?;
        fs::write(finished.join(VERSION), &pin.version)?;
        scratch::publish(&finished, &place)?;
        Ok(Outcome::Done)
    })
}

/// Loads the wheel for this machine and unpacks it; the folder with its content.
pub(crate) fn unpack(
    cx: &Context,
    step: &mut Step<'_>,
    pin: &Pin,
    name: &str,
    scratch: &Scratch,
) -> Result<PathBuf> {
    let wheel = download(cx, step, pin, name, scratch)?;
    let unpacked = scratch.folder("unpacked")?;
    let mut unpack = cx.command("python3");
    unpack.args(["-m", "zipfile", "--extract"]).args([wheel.as_path(), unpacked.as_path()]);
    step.run(unpack)?;
    Ok(unpacked)
}

fn download(cx: &Context, step: &mut Step<'_>, pin: &Pin, name: &str, scratch: &Scratch) -> Result<PathBuf> {
    let list = scratch.path().join("requirements.txt");
    fs::write(&list, &pin.lines)?;
    let wheels = scratch.folder("wheels")?;
    let mut command = python::pip(cx, OsStr::new("python3"));
    command.args(["download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]);
    command.arg("--dest").arg(&wheels).arg("--requirement").arg(&list);
    step.note(&format!("loading {name} {}", pin.version));
    step.run(command)
        .with_context(|| format!("pip cannot load {name}: are python3, its pip and a network there?"))?;
    first(&wheels)
}

fn first(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?;
    Ok(files.next().context("pip loaded nothing")??.path())
}
