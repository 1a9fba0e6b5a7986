//! The plugin SDK's bindings, which are committed so that plugins build without the generator.

use anyhow::Result;

use crate::context::Context;
use crate::ui;

/// Writes the bindings, or only checks that they are what `wit/` gives.
pub(crate) fn run(cx: &Context, check: bool) -> Result<()> {
    let mut cargo = cx.cargo();
    cargo.args(["run", "--quiet", "--manifest-path", "plugins/Cargo.toml", "--package", "vespid-bindgen"]);
    if check {
        cargo.args(["--", "--check"]);
    }
    ui::step_inherited("bindings of wit/", cargo)
}
