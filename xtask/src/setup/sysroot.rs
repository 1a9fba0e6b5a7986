//! Builds a standard library for WebAssembly from Debian's copy of Rust's sources, for machines that reach a
//! Debian mirror and the crate registry but not rustup's server.
//!
//! The result lies in a sysroot of its own, named after the compiler's commit; the toolchain is not touched.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use vespid_toolchain::{GuestTarget, Rustc, Sysroot};

use super::debian::Suite;
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::Step;

/// Holds the sources of each recent Rust release, and a wasi-libc that knows WASI 0.2.
const SUITE: &str = "trixie-backports";

/// Where its wasi-libc puts the libraries of all targets.
const LIBRARIES: &str = "usr/lib";

/// What the linker takes from the sysroot for a WASI guest; rustup ships the same files.
const WASI_FILES: [&str; 3] = ["libc.a", "crt1-command.o", "crt1-reactor.o"];

pub(crate) fn build(cx: &Context, step: &mut Step<'_>) -> Result<()> {
    let rustc = Rustc::query()?;
    let scratch = Scratch::new(cx, "sysroot")?;
    let unpacked = scratch.folder("unpacked")?;
    fetch_sources(cx, step, &scratch, &rustc, &unpacked)?;
    let built = scratch.folder("target")?;
    compile(cx, step, &rustc, &unpacked, &built)?;
    let sysroot = Sysroot::new(scratch.folder("finished")?);
    for target in GuestTarget::ALL {
        collect(&sysroot, target, &built, &unpacked)?;
    }
    sysroot.stamp(&rustc, &GuestTarget::ALL).context("the sysroot cannot be stamped")?;
    scratch::publish(sysroot.path(), Sysroot::at(cx.cache(), &rustc).path())
}

fn fetch_sources(
    cx: &Context,
    step: &mut Step<'_>,
    scratch: &Scratch,
    rustc: &Rustc,
    into: &Path,
) -> Result<()> {
    let suite = Suite::open(cx, step, scratch, SUITE)?;
    let versions = suite.versions("rust-src")?;
    let release = format!("{}+", rustc.release());
    let version = versions.iter().find(|version| version.starts_with(&release)).with_context(|| {
        let held = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
        format!("Debian's {SUITE} holds no sources of rustc {}: it holds {held}", rustc.release())
    })?;
    let library = format!("./{}", library(rustc));
    suite.unpack(step, &format!("rust-src={version}"), &library, into)?;
    suite.unpack(step, "wasi-libc", &format!("./{LIBRARIES}"), into)
}

/// The folder of wasi-libc for a target, where there is one. What became WASI 0.1 has its first name there.
fn wasi_libc(target: GuestTarget) -> Option<&'static str> {
    match target {
        GuestTarget::Unknown => None,
        GuestTarget::WasiP1 => Some("wasm32-wasi"),
        GuestTarget::WasiP2 => Some("wasm32-wasip2"),
    }
}

/// Where the sources of the standard library lie.
fn library(rustc: &Rustc) -> String {
    format!("usr/src/rustc-{}/library", rustc.release())
}

fn compile(cx: &Context, step: &mut Step<'_>, rustc: &Rustc, unpacked: &Path, target: &Path) -> Result<()> {
    let library = unpacked.join(library(rustc));
    let mut cargo = cx.cargo();
    cargo
        .args(["build", "--locked", "--profile", "dist", "--manifest-path"])
        .arg(library.join("sysroot/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(GuestTarget::ALL.map(|target| format!("--target={target}")))
        // The standard library uses unstable features, and this is how a stable compiler is told to allow them.
        .env("RUSTC_BOOTSTRAP", "1")
        // The encoded form wins over every other source of flags, and takes paths with white space.
        .env("CARGO_ENCODED_RUSTFLAGS", compile_flags(rustc, &library).join(OsStr::new("\x1f")))
        .env_remove("RUSTFLAGS")
        .current_dir(target);
    step.note("compiling the standard library");
    step.run(cargo).context("the standard library does not compile")
}

/// Panics in a guest name files of the standard library. They get the names that Rust's own builds give them, so
/// that a guest is the same whoever builds it and names no folder of this machine.
fn compile_flags(rustc: &Rustc, library: &Path) -> Vec<OsString> {
    let remap = |from: &Path, to: &str| {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flag
    };
    let mut flags = vec![
        // Marks what is not public as unstable, which keeps guests from using it.
        OsString::from("-Zforce-unstable-if-unmarked"),
        remap(library, &format!("/rustc/{}/library", rustc.id())),
    ];
    flags.extend(cargo_home().map(|home| remap(&home.join("registry/src"), "/rust/deps")));
    flags
}

fn cargo_home() -> Option<PathBuf> {
    let chosen = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    chosen.or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// Copies what was built for one target to where rustc looks for it.
fn collect(sysroot: &Sysroot, target: GuestTarget, built: &Path, unpacked: &Path) -> Result<()> {
    let libdir = sysroot.libdir(target);
    scratch::create(&libdir)?;
    let deps = built.join(target.triple()).join("dist").join("deps");
    for entry in fs::read_dir(&deps).with_context(|| format!("{} cannot be read", deps.display()))? {
        let file = entry?.path();
        if file.extension() == Some(OsStr::new("rlib")) {
            scratch::copy_into(&file, &libdir)?;
        }
    }
    if let Some(libc) = wasi_libc(target) {
        let folder = libdir.join("self-contained");
        scratch::create(&folder)?;
        for name in WASI_FILES {
            scratch::copy_into(&unpacked.join(LIBRARIES).join(libc).join(name), &folder)?;
        }
    }
    Ok(())
}
