//! The dependencies against known advisories, and against what the project allows.

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::setup::{self, tool};
use crate::ui;

/// The part that needs no network: licences, sources, and crates that are not wanted.
pub(crate) fn offline(cx: &Context) -> Result<()> {
    let mut command = cx.cargo();
    command.args(["deny", "--offline", "check", "bans", "licenses", "sources"]);
    ui::step_inherited("dependencies", command)
}

pub(crate) fn run(cx: &Context) -> Result<()> {
    {
        let _lock = setup::lock(cx)?;
        tool::DENY.ensure(cx)?;
        tool::AUDIT.ensure(cx)?;
    }
    for arguments in [["deny", "check"].as_slice(), &["audit"]] {
        let mut command = cx.cargo();
        command.args(arguments);
        let name = arguments.join(" ");
        ui::step_inherited(&name, command).with_context(|| {
            format!("cargo {name} found something, or could not load the advisories: see its lines above")
        })?;
    }
    Ok(())
}
