//! How the servers are compiled. The steps are those of Debian's own packages, but for what these build besides.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{newer, sources};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::Step;

/// A program, and how it is built into a folder.
pub(super) struct Build {
    /// What it is; another one is built anew.
    pub(super) version: &'static str,
    pub(super) run: fn(&Context, &mut Step<'_>, &Scratch, &Path) -> Result<()>,
}

pub(super) const SERVER: Build = Build { version: "1.20.2 and what newer.rs adds", run: server };

pub(super) const EXTENSIONS: Build = Build { version: "1.36", run: extensions };

/// Where the sources of Kubernetes have their modules.
const VENDOR: &str = "k8s.io/kubernetes/vendor";

/// The API server and the controllers of 1.20.2, the release that bookworm keeps.
fn server(cx: &Context, step: &mut Step<'_>, scratch: &Scratch, finished: &Path) -> Result<()> {
    let fetched = sources::server(cx, step, scratch)?;
    newer::add(&fetched.kubernetes)?;
    let path = scratch.folder("go/src/k8s.io")?;
    symlink(&fetched.kubernetes, path.join("kubernetes"))?;
    let go = Go { cx, root: fetched.go, path: scratch.path().join("go"), scratch };
    // It is generated: what describes the API is not in the sources.
    step.note("generating the description of the API");
    let generator = scratch.path().join("openapi-gen");
    let root = path.join("kubernetes");
    let mut build = go.build(&root, &generator);
    build.arg(format!("{VENDOR}/k8s.io/kube-openapi/cmd/openapi-gen"));
    step.run(build)?;
    let mut generate = go.command(&generator.display().to_string(), &root);
    generate.args([
        "--logtostderr",
        "-i",
        &described(&root)?,
        "-p",
        "k8s.io/kubernetes/pkg/generated/openapi",
    ]);
    generate.args([
        "-O",
        "zz_generated.openapi",
        "-h",
        "vendor/k8s.io/code-generator/hack/boilerplate.go.txt",
    ]);
    generate.arg("-r").arg(scratch.path().join("violations"));
    step.run(generate)?;
    step.note("compiling the API server and the controllers");
    let mut build = go.build(&root, finished);
    let set = |module: &str, major: &str, minor: &str, patch: &str| {
        let set = |name: &str, value: &str| format!("-X {VENDOR}/k8s.io/{module}/version.{name}={value}");
        let version = set("gitVersion", &format!("v{major}.{minor}.{patch}"));
        [version, set("gitMajor", major), set("gitMinor", minor), set("gitTreeState", "clean")].join(" ")
    };
    // The first decides what is served, the second is what clients are told.
    let (major, minor) = newer::CLAIMED;
    let flags =
        ["-s -w".to_owned(), set("component-base", "1", "20", "2"), set("client-go/pkg", major, minor, "0")];
    build
        .arg("-ldflags")
        .arg(flags.join(" "))
        .args(["./cmd/kube-apiserver", "./cmd/kube-controller-manager"]);
    step.run(build).context("Kubernetes does not compile")
}

/// The packages whose types are described, as the generator is given them.
fn described(root: &Path) -> Result<String> {
    const LEFT_OUT: [&str; 5] = [
        "vendor/k8s.io/code-generator/",
        "vendor/k8s.io/sample-apiserver/",
        "testdata",
        "vendor/k8s.io/kube-openapi/",
        "vendor/k8s.io/gengo/",
    ];
    let mut packages = Vec::new();
    for top in ["pkg", "cmd", "plugin", "vendor/k8s.io"] {
        describe(root, &root.join(top), &mut packages)?;
    }
    packages.retain(|package| !LEFT_OUT.iter().any(|part| package.contains(part)));
    packages.sort();
    packages.dedup();
    Ok(packages.iter().map(|package| format!("k8s.io/kubernetes/{package}")).collect::<Vec<_>>().join(","))
}

/// The folders below this one with a file that asks for a description. Links are followed, as modules of the staging area are.
fn describe(root: &Path, folder: &Path, packages: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            describe(root, &path, packages)?;
        } else if path.extension().is_some_and(|ending| ending == "go") {
            let text = fs::read(&path)?;
            let marker = b"+k8s:openapi-gen=";
            if text.windows(marker.len()).any(|window| window == marker) {
                packages.push(folder.strip_prefix(root)?.display().to_string());
            }
        }
    }
    Ok(())
}

/// The server of custom resources. It and all that it is made of are packages of Debian's.
fn extensions(cx: &Context, step: &mut Step<'_>, scratch: &Scratch, finished: &Path) -> Result<()> {
    let fetched = sources::extensions(cx, step, scratch)?;
    let go = Go { cx, root: fetched.go, path: fetched.packages, scratch };
    step.note("compiling the server of custom resources");
    let mut build = go.build(scratch.path(), &finished.join("apiextensions-apiserver"));
    build.args(["-ldflags", "-s -w", "k8s.io/apiextensions-apiserver"]);
    step.run(build).context("the server of custom resources does not compile")
}

/// A Go compiler, and where it looks for packages.
struct Go<'a> {
    cx: &'a Context,
    root: PathBuf,
    path: PathBuf,
    scratch: &'a Scratch,
}

impl Go<'_> {
    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = self.cx.command(program);
        command.current_dir(folder).env("PWD", folder);
        command
            .env("GOROOT", &self.root)
            .env("GOPATH", &self.path)
            .env("GOCACHE", self.scratch.path().join("cache"));
        command.envs([
            ("GO111MODULE", "off"),
            ("GOFLAGS", ""),
            ("GOPROXY", "off"),
            ("CGO_ENABLED", "0"),
            ("GOTOOLCHAIN", "local"),
            ("GOTELEMETRY", "off"),
        ]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = vec![self.root.join("bin")];
        folders.extend(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(folders).unwrap_or(path));
        command
    }

    fn build(&self, folder: &Path, into: &Path) -> Command {
        let go = self.root.join("bin/go");
        let mut command = self.command(&go.display().to_string(), folder);
        command.args(["build", "-trimpath", "-o"]).arg(into);
        // A folder of several programs is one that ends with a slash.
        command
    }
}

/// Removes what a folder must not have in it, and copies there what it has in its place.
pub(super) fn replace(folder: &Path, with: &Path) -> Result<()> {
    let source = |path: &Path| path.extension().is_some_and(|ending| ending == "go" || ending == "s");
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if source(&path) {
            fs::remove_file(&path)?;
        }
    }
    for entry in fs::read_dir(with)? {
        let path = entry?.path();
        if source(&path) {
            scratch::copy_into(&path, folder)?;
        }
    }
    Ok(())
}
