//! The benches, which need the packages built first.

use std::ffi::OsString;
use std::fmt;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::context::Context;
use crate::setup::{self, Part};
use crate::ui::Outcome;
use crate::{packages, scratch, ui};

/// A bench.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// What Vespid adds: a plugin's call beside bare wasmtime, a request beside a bare HTTP handler.
    Overhead,
    /// What the inference core gives: batches, backends, plugins beside native code, overload.
    Inference,
    /// What the protocols cost: JSON, binary tensors and gRPC, each beside a handler that does nothing.
    Protocols,
    /// How many models a server holds: what they cost idle, their first calls, and what unloading gives back.
    Density,
    /// Jobs over files beside a loop in Python; wants --python, or VESPID_BENCH_PYTHON.
    Batch,
    /// Streams beside the same loop without a model, and a Python consumer; wants --python, or VESPID_BENCH_PYTHON.
    Stream,
    /// Who asks and whether they may: a token and an API key beside nobody asking.
    Access,
    /// The gateway beside a host alone and beside nginx.
    Gateway,
    /// What a model beside others that mean harm notices of them; writes docs/hostile.md.
    Hostile,
    /// A graphics processor beside the processor: put together here, run on a machine that has one.
    Gpu,
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overhead => "overhead",
            Self::Inference => "inference",
            Self::Protocols => "protocols",
            Self::Density => "density",
            Self::Batch => "batch",
            Self::Stream => "stream",
            Self::Access => "access",
            Self::Gateway => "gateway",
            Self::Hostile => "hostile",
            Self::Gpu => "gpu",
        })
    }
}

/// Runs the bench of that name, `overhead` or `protocols`, which has its server in its own process.
pub(crate) fn contained(cx: &Context, name: &str, arguments: &[OsString]) -> Result<()> {
    let packages = built_packages(cx)?;
    let mut bench = cx.cargo();
    bench.args(["bench", "--package", "vespid-tests", "--bench", name, "--"]);
    bench.args(arguments).env("VESPID_PACKAGES", packages);
    ui::run_inherited(bench)
}

/// Runs the bench of that name, one of those that need one, with a server built as it is shipped but for link-time optimisation.
pub(crate) fn with_server(cx: &Context, name: &str, arguments: &[OsString]) -> Result<()> {
    setup::run(cx, &[Part::Onnxruntime, Part::Brokers])?;
    if name == "access" {
        setup::run(cx, &[Part::Oidc])?;
    }
    if name == "gateway" {
        setup::run(cx, &[Part::Nginx, Part::Kubernetes])?;
    }
    let packages = built_packages(cx)?;
    let Built { vespid, bench } = built_bench(cx, name)?;
    let mut bench = cx.command(bench);
    bench
        .args(arguments)
        // Cargo would say so: files of the repository are found by it.
        .env("CARGO_MANIFEST_DIR", cx.root().join("tests"))
        .env("VESPID_BIN", vespid)
        .env("VESPID_PACKAGES", packages)
        .env("VESPID_ONNXRUNTIME_LIBRARY", setup::onnxruntime::library(cx))
        .env("VESPID_KAFKA_BIN", setup::brokers::kafka(cx))
        .env("VESPID_NGINX_BIN", setup::registry::nginx(cx))
        .env("VESPID_KUBERNETES_BIN", setup::kubernetes::programs(cx));
    if name == "access" {
        bench.env("VESPID_OIDC_PROVIDER", setup::oidc::modules(cx)).env("VESPID_NODE", setup::oidc::node()?);
    }
    ui::run_inherited(bench)
}

/// The table that the bench `hostile` writes.
const HOSTILE: &str = "docs/hostile.md";

/// Runs the bench `hostile`, which writes its table anew unless only some of it is measured.
pub(crate) fn hostile(cx: &Context, mut arguments: Vec<OsString>) -> Result<()> {
    if arguments.is_empty() {
        arguments = vec!["--table".into(), cx.root().join(HOSTILE).into()];
    }
    with_server(cx, "hostile", &arguments)
}

/// What runs the bundle. It stands beside what it runs.
const RUN: &str = r#"#!/bin/sh
# Compares an NVIDIA processor of this machine with its processor: `./run.sh`, or `./run.sh --help`.
here=$(cd "$(dirname "$0")" && pwd) || exit 1
export VESPID_PACKAGES="$here/packages" VESPID_ONNXRUNTIME_LIBRARY="$here/lib/libonnxruntime.so"
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/inference" device "$@"
"#;

/// The packages whose graphs are compared.
const BUNDLED: [&str; 2] = ["embed", "image-classify"];

/// Puts into `folder` what a machine without network needs to compare its graphics processor with its processor.
pub(crate) fn bundle(cx: &Context, folder: &Path, lean: bool) -> Result<()> {
    // Chores run wherever they are called.
    let folder = env::current_dir()?.join(folder);
    if fs::exists(&folder)? && fs::read_dir(&folder)?.next().is_some() {
        bail!("{} is there already: name a folder that is empty or not there", folder.display());
    }
    let libraries = setup::gpu::ensure(cx)?;
    let packages = built_packages(cx)?;
    let Built { bench, .. } = built_bench(cx, "inference")?;
    ui::step("bundle", |_| {
        for name in ["lib", "packages"] {
            scratch::create(&folder.join(name))?;
        }
        for package in BUNDLED {
            scratch::copy_into(&packages.join(format!("{package}.tar")), &folder.join("packages"))?;
        }
        for library in libraries.files(lean)? {
            scratch::copy_into(&library, &folder.join("lib"))?;
        }
        let program = folder.join("inference");
        fs::copy(&bench, &program).with_context(|| format!("{} cannot be copied", bench.display()))?;
        let run = folder.join("run.sh");
        fs::write(&run, RUN).with_context(|| format!("{} cannot be written", run.display()))?;
        fs::set_permissions(&run, fs::metadata(&program)?.permissions())?;
        Ok(Outcome::Done)
    })?;
    ui::say(&format!("on a machine with an NVIDIA processor: {}", folder.join("run.sh").display()));
    Ok(())
}

fn built_packages(cx: &Context) -> Result<PathBuf> {
    setup::run(cx, &Part::PACKAGES)?;
    let vespid = packages::binary(cx)?;
    packages::build(cx, &vespid)
}

/// For release.
struct Built {
    vespid: PathBuf,
    bench: PathBuf,
}

/// Builds a bench and the server that it starts, in one go, so that they share what they depend on.
fn built_bench(cx: &Context, name: &str) -> Result<Built> {
    let _lock = packages::lock(cx)?;
    let mut cargo = cx.cargo();
    cargo.args(["build", "--release", "--package", "vespid", "--package", "vespid-tests"]);
    cargo.args(["--features", "vespid-tests/native", "--bin", "vespid", "--bench", name]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let executables = executables(cargo)?;
    let own = cx.output().join("bench");
    let take = |name: &str| {
        let is_it = |path: &&PathBuf| {
            path.file_name().and_then(|file| file.to_str()).is_some_and(|file| {
                // A bench has a hash at the end of its name.
                file == name || file.rsplit_once('-').is_some_and(|(stem, _)| stem == name)
            })
        };
        let built = executables.iter().find(is_it).with_context(|| format!("cargo built no {name}"))?;
        packages::take(built, &own.join(name))
    };
    Ok(Built { vespid: take("vespid")?, bench: take(name)? })
}

/// Runs cargo; the executables that it says it made.
fn executables(mut cargo: Command) -> Result<Vec<PathBuf>> {
    const KEY: &str = "\"executable\":\"";
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cargo does not start")?;
    let output = child.stdout.take().map(BufReader::new);
    let lines = output.into_iter().flat_map(std::io::BufRead::lines);
    // A line is one JSON object. What a path would have to escape stands in none here.
    let executable = |line: &String| {
        let (_, from) = line.split_once(KEY)?;
        from.split_once('"').map(|(path, _)| PathBuf::from(path))
    };
    let executables: Vec<PathBuf> =
        lines.map_while(Result::ok).filter_map(|line| executable(&line)).collect();
    let status = child.wait()?;
    if !status.success() {
        bail!("the bench does not build ({status})");
    }
    Ok(executables)
}
