//! Compiles a plugin with cargo and finds the component that comes out.
//!
//! Cargo itself says where it put the component; no path is guessed. On a terminal cargo's progress shows as one
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

const TARGET: GuestTarget = GuestTarget::Unknown;
/// Where cargo keeps the guests' intermediate files, where it is set.
const TARGET_DIR: &str = "VESPID_GUEST_TARGET_DIR";

/// Builds the plugin in `folder`, for release; returns the component's path.
pub(crate) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let toolchain = GuestToolchain::find(TARGET)
        .hint("plugins cannot be compiled here", "`vespid doctor` lists what is missing")?;
    let manifest = fs::canonicalize(folder.join("Cargo.toml"))
        .hint(format!("{} cannot be found", folder.join("Cargo.toml").display()), "check the path")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    toolchain.configure(&mut cargo);
    cargo
        // As a component alone, whatever else the library is for: beside an `rlib` cargo would not optimise across crates.
        .args(["rustc", "--lib", "--crate-type", "cdylib", "--release", "--target", TARGET.triple()])
        .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(&manifest)
        // Cargo reads a project's .cargo/config.toml from the working folder upwards.
        .current_dir(manifest.parent().unwrap_or(folder));
    if let Some(folder) = env::var_os(TARGET_DIR).filter(|folder| !folder.is_empty()) {
        cargo.env("CARGO_TARGET_DIR", folder);
    }
    let artifacts = run(&mut cargo, &folder.display().to_string())?;
    choose(&artifacts, &manifest).map(Path::to_owned).ok_or_else(|| {
        Failure::new(format!("cargo built no component in {}", folder.display()))
            .hint("it needs to be a library: a Cargo.toml with a [lib], or a src/lib.rs")
    })
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
    let hint = "install Rust from https://rustup.rs";
    let mut child = cargo.spawn().hint("cargo does not start", hint)?;
    let spinner = ui::spinner(format!("compiling {name}"));
    let progress = child.stderr.take().map(|stream| {
        let spinner = spinner.clone();
        thread::spawn(move || relay(stream, &spinner))
    });
    let artifacts = child.stdout.take().map(read_artifacts).unwrap_or_default();
    let status = child.wait().hint("cargo does not end", hint)?;
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

/// The component of the package itself, rather than of one that it depends on.
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
    fn status_lines_are_told_from_the_compilers() {
        assert!(is_status("   Compiling scaler v0.1.0 (/p)"));
        assert!(!is_status("warning: unused variable"));
        assert!(!is_status("  --> src/lib.rs:1:1"));
        assert!(!is_status(" Compiler error"));
    }
}
