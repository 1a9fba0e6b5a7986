//! Finds what builds guests: the machine's `rustc`, and a standard library for WebAssembly that fits it; and for other
//! languages a [`Tool`], which is installed into the cache on first use.
//!
//! # Contract
//! [`GuestToolchain::find`] looks first where rustup puts a target's standard library, then in the cache, where
//! `cargo xtask setup` of a Vespid checkout puts one it built for this very compiler. It installs nothing and
//! writes nothing. What it found turns a plain `cargo build --target ...` into a build of a guest through
//! [`GuestToolchain::configure`].
//!
//! # Cost
//! Two runs of `rustc` that compile nothing, some 30 ms each under rustup; nothing is cached between calls.
//!
//! # Left out
//! Whether the linker `wasm-component-ld` is there (it comes with the toolchains that rustup installs, and the
//! link step names it when it is not).

mod cache;
mod error;
mod rustc;
mod sysroot;
mod tool;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use cache::cache_dir;
pub use error::ToolchainError;
pub use rustc::Rustc;
pub use sysroot::Sysroot;
pub use tool::{Installed, Node, Tool};

/// A target that guests are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestTarget {
    /// `wasm32-unknown-unknown`: a component that imports what its own code names, and no WASI. The default.
    Unknown,
    /// `wasm32-wasip1`: a core module, a command that the host runs once for each call.
    WasiP1,
    /// `wasm32-wasip2`: for guests that need std's clocks, randomness or output.
    WasiP2,
}

impl GuestTarget {
    /// Every target there is.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::WasiP1, Self::WasiP2];

    /// The name that rustc and cargo give the target.
    #[must_use]
    pub const fn triple(self) -> &'static str {
        match self {
            Self::Unknown => "wasm32-unknown-unknown",
            Self::WasiP1 => "wasm32-wasip1",
            Self::WasiP2 => "wasm32-wasip2",
        }
    }

    /// The variable that holds cargo's flags for this target alone. Unlike `RUSTFLAGS` it adds to the flags that
    /// a plugin's own `.cargo/config.toml` sets, instead of replacing them.
    const fn rustflags_variable(self) -> &'static str {
        match self {
            Self::Unknown => "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            Self::WasiP1 => "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
            Self::WasiP2 => "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS",
        }
    }
}

impl fmt::Display for GuestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())
    }
}

/// Where the standard library of a target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The compiler's own sysroot, which `rustup target add` fills.
    Rustup,
    /// A sysroot in the cache, built by `cargo xtask setup`.
    Sysroot(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup => f.write_str("the compiler's own sysroot"),
            Self::Sysroot(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A compiler together with a standard library for one guest target.
#[derive(Clone, Debug)]
pub struct GuestToolchain {
    target: GuestTarget,
    rustc: Rustc,
    source: Source,
}

impl GuestToolchain {
    /// Finds the toolchain for `target`, with the `rustc` that `$RUSTC` names or else the one on the path.
    ///
    /// # Errors
    /// When there is no compiler, or no standard library that fits it: the error names the remedy.
    pub fn find(target: GuestTarget) -> Result<Self, ToolchainError> {
        let rustc = Rustc::query()?;
        let source = if rustc.has_std(target)? {
            Source::Rustup
        } else {
            Source::Sysroot(cached_sysroot(&rustc, target)?)
        };
        Ok(Self { target, rustc, source })
    }

    /// The target that this toolchain builds for.
    #[must_use]
    pub const fn target(&self) -> GuestTarget {
        self.target
    }

    /// The compiler.
    #[must_use]
    pub const fn rustc(&self) -> &Rustc {
        &self.rustc
    }

    /// Where the target's standard library comes from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// What a `cargo build --target` for this target needs in its environment. Prefer
    /// [`configure`](Self::configure), which also removes what would hide it.
    #[must_use]
    pub fn envs(&self) -> Vec<(OsString, OsString)> {
        let mut flags = Vec::new();
        if let Source::Sysroot(path) = &self.source {
            let mut flag = OsString::from("--sysroot=");
            flag.push(path);
            flags.push(flag);
        }
        if self.target == GuestTarget::Unknown {
            // Turns the module that comes out of the linker into a component; on wasip2 it is the default, and on wasip1
            // a module is what is wanted.
            flags.push(OsString::from("-Clinker=wasm-component-ld"));
        }
        if flags.is_empty() {
            return Vec::new();
        }
        vec![(OsString::from(self.target.rustflags_variable()), flags.join(OsStr::new(" ")))]
    }

    /// Prepares `command`, a cargo command that carries `--target` with this toolchain's target.
    ///
    /// `RUSTFLAGS` and `CARGO_ENCODED_RUSTFLAGS` are removed: cargo would take them in place of the target's own
    /// flags, and what a user sets there is meant for the host.
    pub fn configure<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").envs(self.envs())
    }
}

fn cached_sysroot(rustc: &Rustc, target: GuestTarget) -> Result<PathBuf, ToolchainError> {
    let sysroot = Sysroot::at(&cache_dir()?, rustc);
    if !sysroot.is_built_for(rustc, target) {
        return Err(ToolchainError::NoGuestStd { target, release: rustc.release().to_owned() });
    }
    refuse_whitespace(sysroot.path())?;
    Ok(sysroot.path().to_owned())
}

/// Cargo splits a flags variable at whitespace and knows no quoting, so such a path cannot be passed.
fn refuse_whitespace(path: &Path) -> Result<(), ToolchainError> {
    if path.to_string_lossy().contains(char::is_whitespace) {
        return Err(ToolchainError::Whitespace { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(target: GuestTarget, source: Source) -> GuestToolchain {
        GuestToolchain { target, rustc: Rustc::query().unwrap(), source }
    }

    fn flags(target: GuestTarget, source: Source) -> Vec<(OsString, OsString)> {
        found(target, source).envs()
    }

    #[test]
    fn the_flags_name_the_linker_and_the_sysroot_only_where_needed() {
        let unknown = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";
        let own = || Source::Sysroot("/c/sysroot/1".into());
        assert_eq!(
            flags(GuestTarget::Unknown, own()),
            [(unknown.into(), "--sysroot=/c/sysroot/1 -Clinker=wasm-component-ld".into())]
        );
        assert_eq!(
            flags(GuestTarget::Unknown, Source::Rustup),
            [(unknown.into(), "-Clinker=wasm-component-ld".into())]
        );
        assert_eq!(
            flags(GuestTarget::WasiP2, own()),
            [("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS".into(), "--sysroot=/c/sysroot/1".into())]
        );
        assert_eq!(
            flags(GuestTarget::WasiP1, own()),
            [("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS".into(), "--sysroot=/c/sysroot/1".into())]
        );
        for target in [GuestTarget::WasiP1, GuestTarget::WasiP2] {
            assert_eq!(flags(target, Source::Rustup), []);
        }
    }

    #[test]
    fn the_hosts_flags_do_not_reach_a_guest() {
        let mut command = Command::new("cargo");
        command.env("RUSTFLAGS", "-Ctarget-cpu=native");
        found(GuestTarget::WasiP2, Source::Rustup).configure(&mut command);
        let left: Vec<_> = command.get_envs().filter(|(_, value)| value.is_some()).collect();
        assert_eq!(left, []);
    }

    #[test]
    fn a_path_with_white_space_is_refused() {
        assert!(refuse_whitespace(Path::new("/home/a b/cache")).is_err());
        assert!(refuse_whitespace(Path::new("/home/ab/cache")).is_ok());
    }

    #[test]
    fn a_sysroot_counts_once_it_is_stamped_for_this_compiler() {
        let rustc = Rustc::query().unwrap();
        let folder = std::env::temp_dir().join(format!("vespid-toolchain-{}", std::process::id()));
        let sysroot = Sysroot::new(folder.clone());
        let libdir = sysroot.libdir(GuestTarget::Unknown);
        std::fs::create_dir_all(&libdir).unwrap();
        std::fs::write(libdir.join("libcore-0123.rlib"), "").unwrap();
        assert!(!sysroot.is_built_for(&rustc, GuestTarget::Unknown));
        sysroot.stamp(&rustc, &[GuestTarget::Unknown]).unwrap();
        assert!(sysroot.is_built_for(&rustc, GuestTarget::Unknown));
        assert!(!sysroot.is_built_for(&rustc, GuestTarget::WasiP2));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
