//! Everything that must hold before a change is taken.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use vespid_toolchain::{GuestTarget, GuestToolchain};

use crate::context::Context;
use crate::setup::{self, Part};
use crate::{packages, ui};

/// The guests' workspace.
const GUESTS: &str = "plugins/Cargo.toml";

pub(crate) fn run(cx: &Context, nextest: &[OsString]) -> Result<()> {
    setup::run(cx, &Part::ALL)?;
    ui::step_inherited("format", cargo(cx, &["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    ui::step_inherited("lints", cargo(cx, &clippy))?;
    check_guests(cx)?;
    let vespid = packages::binary(cx)?;
    let packages = packages::build(cx, &vespid)?;
    let mut tests = cargo(cx, &["nextest", "run", "--workspace"]);
    tests
        .args(nextest)
        .env("VESPID_BIN", vespid)
        .env("VESPID_PACKAGES", packages)
        .env("VESPID_PYTHON", setup::python::python(cx)?);
    // No step of its own: the last lines are to be the runner's summary.
    ui::run_inherited(tests)
}

fn check_guests(cx: &Context) -> Result<()> {
    if !cx.root().join(GUESTS).is_file() {
        return Ok(());
    }
    let format = ["fmt", "--manifest-path", GUESTS, "--all", "--check"];
    ui::step_inherited("format of the guests", cargo(cx, &format))?;
    let target = GuestTarget::Unknown;
    let mut clippy = cargo(cx, &["clippy", "--manifest-path", GUESTS, "--target", target.triple()]);
    clippy.args(["--", "--deny", "warnings"]);
    GuestToolchain::find(target)?.configure(&mut clippy);
    ui::step_inherited("lints of the guests", clippy)
}

fn cargo(cx: &Context, arguments: &[&str]) -> Command {
    let mut command = cx.cargo();
    command.args(arguments);
    command
}
