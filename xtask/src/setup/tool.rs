//! Programs that cargo can install.

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::ui::{self, Outcome};

/// A program, at the version to install where there is none.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    features: &'static [&'static str],
}

/// Runs the tests.
pub(crate) const NEXTEST: Tool = Tool {
    name: "cargo-nextest",
    version: "0.9.151",
    // Without the part that updates itself, which is half of its build.
    features: &["--no-default-features", "--features=default-no-update"],
};

/// Checks licences, sources and duplicates.
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", features: &[] };

/// Checks the lock file against the advisories.
pub(crate) const AUDIT: Tool = Tool { name: "cargo-audit", version: "0.22.2", features: &[] };

/// Writes what a program is made of, which goes into the image beside it.
pub(crate) const CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9", features: &[] };

/// Builds what libFuzzer runs, and runs it.
pub(crate) const FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", features: &[] };

impl Tool {
    /// Installs it into the cache, unless the user has one of any version.
    pub(crate) fn ensure(&self, cx: &Context) -> Result<()> {
        ui::step(self.name, |step| {
            if cx.has_program(self.name) {
                return Ok(Outcome::AlreadyThere);
            }
            let mut command = cx.cargo();
            command
                .args(["install", "--locked", self.name, "--version", self.version])
                .args(self.features)
                .arg("--root")
                .arg(cx.tools());
            step.run(command).with_context(|| {
                format!("{0} cannot be installed: is there a network? Any {0} on the path will do", self.name)
            })?;
            Ok(Outcome::Done)
        })
    }
}
