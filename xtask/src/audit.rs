//! The dependencies against known advisories, and against what the project allows.

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::setup::{self, tool};
use crate::ui;

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
