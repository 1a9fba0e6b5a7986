//! Where things lie, and the commands that every chore starts from.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// The folders that the chores work in.
pub(crate) struct Context {
    root: PathBuf,
    cache: PathBuf,
    target: PathBuf,
    output: PathBuf,
}

impl Context {
    pub(crate) fn new() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask lies in no repository: run it as `cargo xtask` in a checkout")?
            .to_owned();
        let cache = vespid_toolchain::cache_dir()?;
        let chosen = env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()).map(|dir| root.join(dir));
        Ok(Self {
            target: chosen.clone().unwrap_or_else(|| cache.join("target")),
            output: chosen.unwrap_or_else(|| root.join("target")),
            root,
            cache,
        })
    }

    /// The repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What is fetched and built once for all checkouts on this machine.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// Cargo's target folder: `$CARGO_TARGET_DIR`, or else one that all checkouts share, so that a fresh one
    /// does not build the dependencies again.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What belongs to this checkout alone: another one that builds at the same time must not exchange the
    /// packages and the binary under a running test.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// Where tools that cargo installs go.
    pub(crate) fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// A command that runs in the repository.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("PATH", self.path());
        for name in leaked_by_cargo() {
            command.env_remove(name);
        }
        command
    }

    /// The cargo that runs this program, with the target folder above.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.env("CARGO_TARGET_DIR", &self.target).env_remove("CARGO_BUILD_TARGET");
        command
    }

    /// Whether a program is on the path or among the tools.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        env::split_paths(&self.path()).any(|folder| folder.join(name).is_file())
    }

    /// The path with our own tools at its end: what the user installed comes first.
    fn path(&self) -> OsString {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&inherited).chain([self.tools().join("bin")]);
        // Joining fails only where a folder's name holds a separator, which ours then cannot be added to.
        env::join_paths(folders).unwrap_or(inherited)
    }
}

/// What `cargo run` tells this program about its own package. Build scripts that watch such a variable would run
/// anew each time that the chore is started in another way.
fn leaked_by_cargo() -> impl Iterator<Item = OsString> {
    const PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    const NAMES: [&str; 3] = ["CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name.as_ref())
    })
}
