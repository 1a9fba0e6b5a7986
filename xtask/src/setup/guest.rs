//! A standard library for WebAssembly that fits this machine's compiler: rustup's, or one built here.

use std::time::Duration;

use anyhow::{Context as _, Result};
use vespid_toolchain::{GuestTarget, GuestToolchain, ToolchainError};

use super::sysroot;
use crate::context::Context;
use crate::ui::{self, Outcome, Step};

/// Enough to load some 40 MB over a slow line; where there is no way to rustup's server it gives up by itself.
const RUSTUP_LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("WebAssembly standard library", |step| {
        if is_there()? {
            return Ok(Outcome::AlreadyThere);
        }
        if !rustup_adds(cx, step)? {
            sysroot::build(cx, step).with_context(remedy)?;
            require()?;
        }
        Ok(Outcome::Done)
    })
}

fn remedy() -> String {
    let targets = GuestTarget::ALL.map(GuestTarget::triple).join(" ");
    format!(
        "rustup did not add the targets, and they cannot be built here \
         (`rustup target add {targets}`, where the network allows it, is all that is needed)"
    )
}

fn is_there() -> Result<bool> {
    for target in GuestTarget::ALL {
        match GuestToolchain::find(target) {
            Ok(_) => {}
            Err(ToolchainError::NoGuestStd { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn require() -> Result<()> {
    GuestTarget::ALL.into_iter().try_for_each(|target| Ok(GuestToolchain::find(target).map(drop)?))
}

/// Lets rustup try. That it cannot is no error, for there is another way.
fn rustup_adds(cx: &Context, step: &mut Step<'_>) -> Result<bool> {
    if !cx.has_program("rustup") {
        return Ok(false);
    }
    let mut command = cx.command("rustup");
    command.args(["target", "add"]).args(GuestTarget::ALL.map(GuestTarget::triple));
    step.note("asking rustup for the targets");
    Ok(step.attempt(command, RUSTUP_LIMIT)? && is_there()?)
}
