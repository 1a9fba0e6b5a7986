//! What the tests push to and pull from, and check signatures with: Docker's registry and cosign, as Debian builds them; and
//! what a bench compares with, nginx.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::debian::Suite;
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome};

/// A program out of a package of Debian's, which needs nothing of the system but its C library.
struct Program {
    /// What the set-up calls it.
    title: &'static str,
    /// The release that has it.
    suite: &'static str,
    /// The package, the program, and the folder in the cache.
    name: &'static str,
    /// Where the package has its program.
    folder: &'static str,
    /// How it is asked for its version.
    version: &'static str,
}

/// The registry, at version 2.8.
const REGISTRY: Program = Program {
    title: "OCI registry for the tests",
    suite: "bookworm",
    name: "docker-registry",
    folder: "usr/bin",
    version: "--version",
};

/// What others sign and verify with, at version 2.5.
const COSIGN: Program = Program {
    title: "cosign for the tests",
    suite: "trixie",
    name: "cosign",
    folder: "usr/bin",
    version: "version",
};

/// What the gateway is compared with, at version 1.22.
const NGINX: Program = Program {
    title: "nginx for the benches",
    suite: "bookworm",
    name: "nginx",
    folder: "usr/sbin",
    version: "-v",
};

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    REGISTRY.ensure(cx)?;
    COSIGN.ensure(cx)
}

/// Sets up nginx alone.
pub(crate) fn ensure_nginx(cx: &Context) -> Result<()> {
    NGINX.ensure(cx)
}

/// nginx's program, where it has been set up.
pub(crate) fn nginx(cx: &Context) -> PathBuf {
    NGINX.path(cx)
}

/// The registry's program, where it has been set up.
pub(crate) fn program(cx: &Context) -> PathBuf {
    REGISTRY.path(cx)
}

/// Cosign's, where it has been set up.
pub(crate) fn cosign(cx: &Context) -> PathBuf {
    COSIGN.path(cx)
}

impl Program {
    fn ensure(&self, cx: &Context) -> Result<()> {
        ui::step(self.title, |step| {
            if self.works(cx) {
                return Ok(Outcome::AlreadyThere);
            }
            let scratch = Scratch::new(cx, self.name)?;
            let suite = Suite::open(cx, step, &scratch, self.suite)?;
            let unpacked = scratch.folder("unpacked")?;
            suite.unpack(step, self.name, "./usr", &unpacked)?;
            let finished = scratch.folder("finished")?;
            let notices = Path::new("usr/share/doc").join(self.name).join("copyright");
            scratch::copy_into(&unpacked.join(notices), &finished)?;
            let program = unpacked.join(self.folder).join(self.name);
            fs::metadata(&program)
                .with_context(|| format!("Debian's {0} holds no program {0}", self.name))?;
            scratch::copy_into(&program, &finished)?;
            scratch::publish(&finished, &cx.cache().join(self.name))?;
            Ok(Outcome::Done)
        })
    }

    fn path(&self, cx: &Context) -> PathBuf {
        cx.cache().join(self.name).join(self.name)
    }

    /// That the file is there does not say that it runs here.
    fn works(&self, cx: &Context) -> bool {
        let mut command = cx.command(self.path(cx));
        command.arg(self.version).output().is_ok_and(|output| output.status.success())
    }
}
