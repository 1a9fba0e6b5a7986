//! What `cargo xtask test` has built, and where it says it is.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn named(variable: &str) -> PathBuf {
    env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`"))
}

/// The `vespid` binary.
#[must_use]
pub fn vespid() -> PathBuf {
    named("VESPID_BIN")
}

/// The library of ONNX Runtime, for `--onnxruntime`.
#[must_use]
pub fn onnxruntime() -> String {
    named("VESPID_ONNXRUNTIME_LIBRARY").display().to_string()
}

/// The library of OpenVINO, for `--openvino`.
#[must_use]
pub fn openvino() -> String {
    named("VESPID_OPENVINO_LIBRARY").display().to_string()
}

/// The program of the server with S3's interface.
#[must_use]
pub fn s3() -> PathBuf {
    named("VESPID_S3_BIN")
}

/// The program of Docker's registry.
#[must_use]
pub fn registry() -> PathBuf {
    named("VESPID_REGISTRY_BIN")
}

/// The broker that speaks Kafka's protocol.
#[must_use]
pub fn kafka() -> PathBuf {
    named("VESPID_KAFKA_BIN")
}

/// The program of NATS.
#[must_use]
pub fn nats() -> PathBuf {
    named("VESPID_NATS_BIN")
}

/// A program of Kubernetes's, or one that goes with it.
#[must_use]
pub fn kubernetes(program: &str) -> PathBuf {
    let folder = match program {
        "etcd" => "etcd",
        "helm" | "kubectl" => "tools",
        "apiextensions-apiserver" => "extensions",
        _ => "server",
    };
    named("VESPID_KUBERNETES_BIN").join(folder).join(program)
}

/// The program of nginx.
#[must_use]
pub fn nginx() -> PathBuf {
    named("VESPID_NGINX_BIN")
}

/// Cosign, about to do something.
#[must_use]
pub fn cosign() -> Command {
    Command::new(named("VESPID_COSIGN_BIN"))
}

/// The package that was built from a model's folder of that name.
#[must_use]
pub fn package(name: &str) -> PathBuf {
    let path = named("VESPID_PACKAGES").join(format!("{name}.tar"));
    assert!(path.is_file(), "{} is not there: run `cargo xtask test`", path.display());
    path
}

/// A Python that has the client of `tests/python/requirements.txt`, about to run one of this repository's scripts.
#[must_use]
pub fn python(script: &str) -> Command {
    let mut command = Command::new(named("VESPID_PYTHON"));
    command.arg(repository(script));
    command
}

/// A Python that has the clients of `tests/conformance/requirements.txt`, about to run a file of that folder's tests.
#[must_use]
pub fn pytest(file: &str) -> Command {
    let mut command = Command::new(named("VESPID_PYTHON_CONFORMANCE"));
    command.args(["-m", "pytest", file]).current_dir(repository("tests/conformance"));
    command
}

/// The same with a Python that has the package `onnx`.
#[must_use]
pub fn python_onnx(script: &str) -> Command {
    let mut command = Command::new(named("VESPID_PYTHON_ONNX"));
    command.arg(repository(script));
    command
}

/// The same with what checks objects of Kubernetes.
#[must_use]
pub fn python_manifests(script: &str) -> Command {
    let mut command = Command::new(named("VESPID_PYTHON_MANIFESTS"));
    command.arg(repository(script));
    command
}

/// The same with the client of `tests/python/registry-requirements.txt`.
#[must_use]
pub fn python_registry(script: &str) -> Command {
    let mut command = Command::new(named("VESPID_PYTHON_REGISTRY"));
    command.arg(repository(script));
    command
}

/// Node.js that has the provider of `tests/oidc`, about to run one of this repository's scripts.
#[must_use]
pub fn node(script: &str) -> Command {
    let mut command = Command::new(named("VESPID_NODE"));
    command.arg(repository(script));
    command
}

/// A path of this repository.
#[must_use]
pub fn repository(path: &str) -> PathBuf {
    // Asked for at run time: a target folder that several checkouts share may hold what another one built.
    named("CARGO_MANIFEST_DIR").join("..").join(path)
}
