//! The benches, which need the packages built first.

use std::ffi::OsString;

use anyhow::Result;

use crate::context::Context;
use crate::setup::{self, Part};
use crate::{packages, ui};

/// Runs `cargo bench` over the workspace's criterion benches.
pub(crate) fn run(cx: &Context, criterion: &[OsString]) -> Result<()> {
    setup::run(cx, &Part::PACKAGES)?;
    let vespid = packages::binary(cx)?;
    let packages = packages::build(cx, &vespid)?;
    let mut bench = cx.cargo();
    bench.args(["bench", "--package", "vespid-tests", "--bench", "overhead", "--"]);
    bench.args(criterion).env("VESPID_PACKAGES", packages);
    ui::run_inherited(bench)
}
