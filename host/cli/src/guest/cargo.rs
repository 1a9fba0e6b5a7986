//! Compiles a plugin with cargo and finds the component or the command that comes out.
//!
//! A package with a library is built as a component, one with nothing but a program as a command for WASI 0.1. Cargo
//! itself says which of them it is and where it put the result; no path is guessed. On a terminal cargo's progress shows as one
//! changing line, and what the compiler has to say is passed on; elsewhere cargo writes as it always does.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io, thread};

use indicatif::ProgressBar;
use serde::Deserialize;
use vespid_toolchain::{GuestTarget, GuestToolchain};

use crate::failure::{Failure, Hint};
use crate::ui;

/// Where cargo keeps the guests' intermediate files, where it is set.
const TARGET_DIR: &str = "VESPID_GUEST_TARGET_DIR";
const INSTALL: &str = "install Rust from https://rustup.rs";

/// Builds the plugin in `folder`, for release; returns the path of what came out.
pub(crate) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = fs::canonicalize(folder.join("Cargo.toml"))
        .hint(format!("{} cannot be found", folder.join("Cargo.toml").display()), "check the path")?;
    let target = target(&manifest)?;
    let toolchain = GuestToolchain::find(target)
        .hint("plugins cannot be compiled here", "`vespid doctor` lists what is missing")?;
    let mut cargo = cargo();
    toolchain.configure(&mut cargo);
    cargo
        .args(arguments(target))
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(&manifest)
        // Cargo reads a project's .cargo/config.toml from the working folder upwards.
        .current_dir(manifest.parent().unwrap_or(folder));
    if let Some(folder) = env::var_os(TARGET_DIR).filter(|folder| !folder.is_empty()) {
        cargo.env("CARGO_TARGET_DIR", folder);
    }
    let artifacts = run(&mut cargo, &folder.display().to_string())?;
    choose(&artifacts, &manifest).map(Path::to_owned).ok_or_else(|| {
        Failure::new(format!("cargo built no plugin in {}", folder.display()))
            .hint("Cargo.toml needs a `[lib]`, or a program and no library")
    })
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// What cargo is to do.
fn arguments(target: GuestTarget) -> Vec<&'static str> {
    let command: &[&str] = match target {
        GuestTarget::WasiP1 => &["build"],
        // As a component alone, whatever else the library is for: beside an `rlib` cargo would not optimise across crates.
        GuestTarget::Unknown | GuestTarget::WasiP2 => &["rustc", "--lib", "--crate-type", "cdylib"],
    };
    [command, &["--release", "--target", target.triple()]].concat()
}

/// What the package of this manifest is built for.
fn target(manifest: &Path) -> Result<GuestTarget, Failure> {
    let mut cargo = cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    cargo.current_dir(manifest.parent().unwrap_or(manifest)).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().hint("cargo does not start", INSTALL)?;
    if !output.status.success() {
        return Err(Failure::new(format!("cargo cannot read {}", manifest.display()))
            .hint("see what cargo says above"));
    }
    choose_target(&output.stdout, manifest)
        .hint("cargo's description of the package cannot be read", "report it with `cargo --version`")
}

fn choose_target(metadata: &[u8], manifest: &Path) -> serde_json::Result<GuestTarget> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        manifest_path: PathBuf,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        kind: Vec<String>,
    }
    let Metadata { packages } = serde_json::from_slice(metadata)?;
    let own = packages.iter().find(|package| package.manifest_path == manifest);
    let kinds = || own.iter().flat_map(|package| &package.targets).flat_map(|target| &target.kind);
    let library = kinds().any(|kind| kind.contains("lib"));
    let command = !library && kinds().any(|kind| kind == "bin");
    Ok(if command { GuestTarget::WasiP1 } else { GuestTarget::Unknown })
}

/// A file that cargo says it produced.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    manifest: PathBuf,
    file: PathBuf,
}

fn run(cargo: &mut Command, name: &str) -> Result<Vec<Artifact>, Failure> {
    let terminal = io::stderr().is_terminal();
    cargo.stdin(Stdio::null()).stdout(Stdio::piped());
    if terminal {
        cargo.stderr(Stdio::piped()).env("CARGO_TERM_COLOR", "always");
    }
    let mut child = cargo.spawn().hint("cargo does not start", INSTALL)?;
    let spinner = ui::spinner(format!("compiling {name}"));
    let progress = child.stderr.take().map(|stream| {
        let spinner = spinner.clone();
        thread::spawn(move || relay(stream, &spinner))
    });
    let artifacts = child.stdout.take().map(read_artifacts).unwrap_or_default();
    let status = child.wait().hint("cargo does not end", INSTALL)?;
    if let Some(progress) = progress {
        let _it_only_prints = progress.join();
    }
    spinner.finish_and_clear();
    if !status.success() {
        return Err(Failure::new(format!("the plugin in {name} does not compile ({status})"))
            .hint("see what the compiler says above"));
    }
    Ok(artifacts)
}

/// Shows cargo's status lines beside the spinner, and prints the other lines above it.
fn relay(stream: impl Read, spinner: &ProgressBar) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let plain = anstream::adapter::strip_str(&line).to_string();
        if is_status(&plain) {
            spinner.set_message(plain.trim().to_owned());
        } else {
            spinner.suspend(|| ui::note(&line));
        }
    }
}

/// Cargo's status lines begin with a verb, set flush right in twelve columns; those of the compiler do not.
fn is_status(line: &str) -> bool {
    const VERBS: [&str; 9] = [
        "Compiling",
        "Finished",
        "Updating",
        "Locking",
        "Adding",
        "Downloading",
        "Downloaded",
        "Blocking",
        "Fresh",
    ];
    line.starts_with(' ') && line.split_whitespace().next().is_some_and(|verb| VERBS.contains(&verb))
}

fn read_artifacts(stream: impl Read) -> Vec<Artifact> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        manifest_path: Option<PathBuf>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    // A line that is not cargo's comes from a build script; it says nothing about artifacts.
    let messages = lines.filter_map(|line| serde_json::from_str::<Message>(&line).ok());
    messages
        .filter(|message| message.reason == "compiler-artifact")
        .flat_map(|message| {
            let manifest = message.manifest_path.unwrap_or_default();
            let wasm = message.filenames.into_iter().filter(|f| f.extension().is_some_and(|e| e == "wasm"));
            wasm.map(move |file| Artifact { manifest: manifest.clone(), file })
        })
        .collect()
}

/// What came of the package itself, rather than of one that it depends on.
fn choose<'a>(artifacts: &'a [Artifact], manifest: &Path) -> Option<&'a Path> {
    let own = artifacts.iter().find(|artifact| artifact.manifest == manifest);
    own.or_else(|| artifacts.last()).map(|artifact| artifact.file.as_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_one_that_cargo_names() {
        let stream = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/p/dep/Cargo.toml","filenames":["/t/libdep.rlib"]}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/mine.wasm"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/p/other/Cargo.toml","filenames":["/t/other.wasm"]}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let artifacts = read_artifacts(stream.as_bytes());
        assert_eq!(artifacts.len(), 2);
        assert_eq!(choose(&artifacts, Path::new("/p/Cargo.toml")), Some(Path::new("/t/mine.wasm")));
        assert_eq!(choose(&[], Path::new("/p/Cargo.toml")), None);
    }

    #[test]
    fn a_package_with_nothing_but_a_program_is_a_command() {
        let target = |kinds: &str| {
            let text = format!(
                r#"{{"packages": [
                    {{"manifest_path": "/p/other/Cargo.toml", "targets": [{{"kind": ["cdylib"]}}]}},
                    {{"manifest_path": "/p/Cargo.toml", "targets": [{kinds}]}}
                ]}}"#
            );
            choose_target(text.as_bytes(), Path::new("/p/Cargo.toml")).unwrap()
        };
        assert_eq!(target(r#"{"kind": ["bin"]}, {"kind": ["test"]}"#), GuestTarget::WasiP1);
        assert_eq!(target(r#"{"kind": ["cdylib", "rlib"]}"#), GuestTarget::Unknown);
        assert_eq!(target(r#"{"kind": ["lib"]}, {"kind": ["bin"]}"#), GuestTarget::Unknown);
        assert_eq!(target(""), GuestTarget::Unknown);
        assert!(choose_target(b"{}", Path::new("/p/Cargo.toml")).is_err());
    }

    #[test]
    fn status_lines_are_told_from_the_compilers() {
        assert!(is_status("   Compiling scaler v0.1.0 (/p)"));
        assert!(!is_status("warning: unused variable"));
        assert!(!is_status("  --> src/lib.rs:1:1"));
        assert!(!is_status(" Compiler error"));
    }
}
