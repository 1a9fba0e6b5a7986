//! Everything that must hold before a change is taken.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use vespid_toolchain::{GuestTarget, GuestToolchain};

use crate::context::Context;
use crate::setup::{self, Part};
use crate::{audit, bindings, chart, packages, ui};

const PLUGINS: &str = "plugins/Cargo.toml";

/// The guests' workspaces, and what each is built for.
const GUESTS: [(&str, GuestTarget); 3] = [
    (PLUGINS, GuestTarget::Unknown),
    ("tests/hostile/Cargo.toml", GuestTarget::Unknown),
    ("tests/preview1/Cargo.toml", GuestTarget::WasiP1),
];

/// What of the SDK is off by itself.
const SDK: [&str; 2] = ["--features", "vespid-plugin/http,vespid-plugin/assets"];

pub(crate) fn run(cx: &Context, nextest: &[OsString]) -> Result<()> {
    setup::run(cx, &Part::ALL)?;
    ui::step_inherited("format", cargo(cx, &["fmt", "--all", "--check"]))?;
    audit::offline(cx)?;
    // With the bench that needs the plugins' code.
    let clippy = ["clippy", "--workspace", "--all-targets", "--features", "vespid-tests/native"];
    let clippy = [&clippy[..], &["--", "--deny", "warnings"]].concat();
    ui::step_inherited("lints", cargo(cx, &clippy))?;
    for (manifest, target) in GUESTS.into_iter().filter(|(manifest, _)| cx.root().join(manifest).is_file()) {
        check_guests(cx, manifest, target)?;
    }
    bindings::run(cx, true)?;
    // On the host, where a stand-in plays the server.
    let guests = [&["nextest", "run", "--manifest-path", PLUGINS, "--workspace"][..], &SDK].concat();
    ui::step_inherited("unit tests of the plugins", cargo(cx, &guests))?;
    let vespid = packages::binary(cx)?;
    chart::step(cx, &vespid, true)?;
    let packages = packages::build(cx, &vespid)?;
    let mut tests = cargo(cx, &["nextest", "run", "--workspace"]);
    tests
        .args(nextest)
        .env("VESPID_BIN", vespid)
        .env("VESPID_PACKAGES", packages)
        .env("VESPID_PYTHON", setup::python::CLIENTS.python(cx)?)
        .env("VESPID_PYTHON_CONFORMANCE", setup::python::CONFORMANCE.python(cx)?)
        .env("VESPID_PYTHON_MANIFESTS", setup::python::MANIFESTS.python(cx)?)
        .env("VESPID_PYTHON_ONNX", setup::python::EXPORTERS.python(cx)?)
        .env("VESPID_ONNXRUNTIME_LIBRARY", setup::onnxruntime::library(cx))
        .env("VESPID_OPENVINO_LIBRARY", setup::openvino::library(cx))
        .env("VESPID_S3_BIN", setup::s3::program(cx))
        .env("VESPID_KAFKA_BIN", setup::brokers::kafka(cx))
        .env("VESPID_NATS_BIN", setup::brokers::nats(cx))
        .env("VESPID_KUBERNETES_BIN", setup::kubernetes::programs(cx))
        .env("VESPID_OIDC_PROVIDER", setup::oidc::modules(cx))
        .env("VESPID_NODE", setup::oidc::node()?)
        .env("VESPID_NGINX_BIN", setup::registry::nginx(cx))
        .env("VESPID_REGISTRY_BIN", setup::registry::program(cx))
        .env("VESPID_COSIGN_BIN", setup::registry::cosign(cx))
        .env("VESPID_PYTHON_REGISTRY", setup::python::REGISTRY.python(cx)?);
    // No step of its own: the last lines are to be the runner's summary.
    ui::run_inherited(tests)
}

fn check_guests(cx: &Context, manifest: &str, target: GuestTarget) -> Result<()> {
    let format = ["fmt", "--manifest-path", manifest, "--all", "--check"];
    ui::step_inherited(&format!("format of {manifest}"), cargo(cx, &format))?;
    let mut clippy = cargo(cx, &["clippy", "--manifest-path", manifest, "--target", target.triple()]);
    if manifest == PLUGINS {
        clippy.args(SDK);
    }
    clippy.args(["--", "--deny", "warnings"]);
    GuestToolchain::find(target)?.configure(&mut clippy);
    ui::step_inherited(&format!("lints of {manifest}"), clippy)
}

fn cargo(cx: &Context, arguments: &[&str]) -> Command {
    let mut command = cx.cargo();
    command.args(arguments);
    command
}
