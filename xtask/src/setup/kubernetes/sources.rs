//! Where the sources of the servers and their compilers come from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::build;
use crate::context::Context;
use crate::scratch::Scratch;
use crate::setup::debian::Suite;
use crate::ui::Step;

/// What the API server and the controllers are built from.
pub(super) struct Server {
    /// The compiler's folder.
    pub(super) go: PathBuf,
    /// The sources.
    pub(super) kubernetes: PathBuf,
}

/// What the server of custom resources is built from.
pub(super) struct Extensions {
    /// The compiler's folder.
    pub(super) go: PathBuf,
    /// The folder of the packages.
    pub(super) packages: PathBuf,
}

pub(super) fn server(cx: &Context, step: &mut Step<'_>, scratch: &Scratch) -> Result<Server> {
    let suite = Suite::with_sources(cx, step, scratch, "bookworm")?;
    let unpacked = scratch.folder("unpacked")?;
    for package in ["golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev"] {
        suite.unpack(step, package, "./usr", &unpacked)?;
    }
    let kubernetes = suite.source(step, "kubernetes", scratch)?;
    // What is in the sources crashes when Go 1.18 or later has compiled it: on the first custom resource.
    let reflect = "github.com/modern-go/reflect2";
    let newer = unpacked.join("usr/share/gocode/src").join(reflect);
    build::replace(&kubernetes.join("vendor").join(reflect), &newer)?;
    Ok(Server { go: unpacked.join("usr/lib/go-1.19"), kubernetes })
}

/// The largest of the packages that others depend on and of which nothing is compiled in: two thirds of what would be loaded. Were
/// one used, the compiler would say what is missing.
const UNUSED: [&str; 7] = [
    "golang-github-aws-aws-sdk-go-v2-dev",
    "golang-github-cloudflare-circl-dev",
    "golang-github-klauspost-compress-dev",
    "golang-github-pierrec-lz4-dev",
    "golang-golang-x-tools",
    "golang-google-api-dev",
    "golang-google-cloud-dev",
];

pub(super) fn extensions(cx: &Context, step: &mut Step<'_>, scratch: &Scratch) -> Result<Extensions> {
    let suite = Suite::open(cx, step, scratch, "sid")?;
    let unpacked = scratch.folder("unpacked")?;
    let wanted = ["golang-go", "golang-k8s-apiextensions-apiserver-dev"];
    let mut packages = suite.closure(&wanted)?;
    // What they are compiled with, and no library of the system's.
    packages.retain(|package| package.starts_with("golang-") && !UNUSED.contains(&package.as_str()));
    suite.unpack_all(step, &packages, &unpacked)?;
    let go = compiler(&unpacked.join("usr/lib"))?;
    Ok(Extensions { go, packages: unpacked.join("usr/share/gocode") })
}

/// The compiler's folder, whose name has its version.
fn compiler(folder: &Path) -> Result<PathBuf> {
    let named = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("go-"))
    };
    let mut paths = fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.find(named).context("Debian's golang-go has no compiler")
}
