//! The `vespid` binary, and the packages that it builds of this repository's models.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::scratch;
use crate::setup::{self, Part};
use crate::ui::{self, Outcome};

/// The folders whose subfolders are models, where they hold a manifest.
const PARENTS: [&str; 4] = ["plugins", "tests/hostile", "tests/preview1", "tests/scripted"];
const MANIFEST: &str = "model.toml";

/// Tells `vespid` where cargo keeps what it builds of guests.
pub(crate) const GUEST_TARGET: &str = "VESPID_GUEST_TARGET_DIR";

pub(crate) fn run(cx: &Context) -> Result<()> {
    setup::run(cx, &Part::PACKAGES)?;
    let vespid = binary(cx)?;
    let packages = build(cx, &vespid)?;
    ui::say(&format!("packages are in {}", packages.display()));
    Ok(())
}

/// Builds `vespid`; the path of a copy that belongs to this checkout.
pub(crate) fn binary(cx: &Context) -> Result<PathBuf> {
    // The binary must be taken before another checkout puts its own into the shared folder.
    let _lock = lock(cx)?;
    let mut cargo = cx.cargo();
    cargo.args(["build", "--package", "vespid"]);
    ui::step_inherited("vespid", cargo)?;
    take(&cx.target().join("debug").join("vespid"), &cx.output().join("vespid"))
}

/// Keeps two checkouts from building binaries at the same time, where they share a folder.
pub(crate) fn lock(cx: &Context) -> Result<File> {
    scratch::lock(cx.target(), "vespid", "another checkout is building: waiting for it")
}

/// Makes a built file this checkout's own; its path.
pub(crate) fn take(built: &Path, own: &Path) -> Result<PathBuf> {
    if let Some(folder) = own.parent() {
        scratch::create(folder)?;
    }
    if fs::exists(own)? {
        fs::remove_file(own)?;
    }
    // The target folder is shared, and the next build replaces the file in it: the linked one stays as it is.
    if fs::hard_link(built, own).is_err() {
        fs::copy(built, own).with_context(|| format!("{} cannot be copied", built.display()))?;
    }
    Ok(own.to_owned())
}

/// Of this checkout alone, for the file that `vespid build` takes bears the package's name and nothing else. All
/// guests together compile in seconds.
pub(crate) fn guest_target(cx: &Context) -> PathBuf {
    cx.output().join("guests")
}

/// Builds every package anew; the folder that holds them.
pub(crate) fn build(cx: &Context, vespid: &Path) -> Result<PathBuf> {
    let folder = cx.output().join("packages");
    scratch::remove(&folder)?;
    scratch::create(&folder)?;
    for model in models(cx.root())? {
        let name = model.file_name().unwrap_or_default().display().to_string();
        ui::step(&format!("package {name}"), |step| {
            let mut command = cx.command(vespid);
            command.env(GUEST_TARGET, guest_target(cx)).arg("build").arg(&model);
            command.arg("--output").arg(folder.join(format!("{name}.tar")));
            step.run(command).with_context(|| format!("{} does not build", model.display()))?;
            Ok(Outcome::Done)
        })?;
    }
    Ok(folder)
}

/// The folders that hold a manifest, in the order of their names.
fn models(root: &Path) -> Result<Vec<PathBuf>> {
    let mut models = Vec::new();
    for parent in PARENTS.map(|parent| root.join(parent)).iter().filter(|parent| parent.is_dir()) {
        for entry in fs::read_dir(parent).with_context(|| format!("{} cannot be read", parent.display()))? {
            let folder = entry?.path();
            if folder.join(MANIFEST).is_file() {
                models.push(folder);
            }
        }
    }
    models.sort();
    Ok(models)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_manifest_is_no_model() {
        let root = std::env::temp_dir().join(format!("xtask-models-{}", std::process::id()));
        for folder in ["plugins/b", "plugins/a", "plugins/sdk"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("plugins/a/model.toml"), "").unwrap();
        fs::write(root.join("plugins/b/model.toml"), "").unwrap();
        assert_eq!(models(&root).unwrap(), [root.join("plugins/a"), root.join("plugins/b")]);
        fs::remove_dir_all(root).unwrap();
    }
}
