//! What a machine needs beyond a Rust compiler. Each part looks first whether its work was done.

pub(crate) mod brokers;
mod debian;
mod exported;
pub(crate) mod gpu;
mod guest;
pub(crate) mod kubernetes;
mod magika;
pub(crate) mod oidc;
pub(crate) mod onnxruntime;
pub(crate) mod openvino;
pub(crate) mod python;
pub(crate) mod registry;
pub(crate) mod s3;
mod silero;
mod sysroot;
pub(crate) mod tool;
mod wheel;

use std::fmt;
use std::fs::File;

use anyhow::Result;
use clap::ValueEnum;

use crate::context::Context;
use crate::scratch;

/// A part of the set-up.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// A standard library for WebAssembly, which guests are built with.
    Guest,
    /// The test runner.
    Nextest,
    /// What checks the dependencies.
    Deny,
    /// The model of the file-type package.
    Magika,
    /// The model of the embed package.
    Minilm,
    /// The model of the image-classify package.
    Efficientnet,
    /// The model of the voice-activity package, and a recording to try it on.
    Silero,
    /// The library of ONNX Runtime.
    Onnxruntime,
    /// The library of OpenVINO.
    Openvino,
    /// A Python client that the tests compare with.
    Python,
    /// Python clients of other servers, which the conformance tests run.
    Conformance,
    /// The Python package of ONNX, with ONNX's own tests of its operators.
    Onnx,
    /// A server with S3's interface, which packages are kept in.
    S3,
    /// A broker that speaks Kafka's protocol, and nats-server.
    Brokers,
    /// An API server of Kubernetes with its controllers, a newer one of custom resources, etcd, helm and kubectl.
    Kubernetes,
    /// A provider of OpenID Connect, whose tokens are tested with.
    Oidc,
    /// nginx, which a bench compares with.
    Nginx,
    /// The OCI registry that packages are pushed to and pulled from, a second client of it, and cosign.
    Registry,
}

impl Part {
    pub(crate) const ALL: [Self; 18] = [
        Self::Guest,
        Self::Nextest,
        Self::Deny,
        Self::Magika,
        Self::Minilm,
        Self::Efficientnet,
        Self::Silero,
        Self::Onnxruntime,
        Self::Openvino,
        Self::Python,
        Self::Conformance,
        Self::Onnx,
        Self::S3,
        Self::Brokers,
        Self::Kubernetes,
        Self::Oidc,
        Self::Nginx,
        Self::Registry,
    ];

    /// What the packages of this repository are built with and from.
    pub(crate) const PACKAGES: [Self; 5] =
        [Self::Guest, Self::Magika, Self::Minilm, Self::Efficientnet, Self::Silero];

    fn run(self, cx: &Context) -> Result<()> {
        match self {
            Self::Guest => guest::ensure(cx),
            Self::Nextest => tool::NEXTEST.ensure(cx),
            Self::Deny => tool::DENY.ensure(cx),
            Self::Magika => magika::ensure(cx),
            Self::Minilm => exported::MINILM.ensure(cx),
            Self::Efficientnet => exported::EFFICIENTNET.ensure(cx),
            Self::Onnxruntime => onnxruntime::ensure(cx),
            Self::Openvino => openvino::ensure(cx),
            Self::Python => python::ensure(cx),
            Self::Conformance => python::ensure_conformance(cx),
            Self::Onnx => python::ensure_onnx(cx),
            Self::Silero => silero::ensure(cx),
            Self::S3 => s3::ensure(cx),
            Self::Brokers => brokers::ensure(cx),
            Self::Kubernetes => kubernetes::ensure(cx).and_then(|()| python::ensure_manifests(cx)),
            Self::Oidc => oidc::ensure(cx),
            Self::Nginx => registry::ensure_nginx(cx),
            Self::Registry => registry::ensure(cx).and_then(|()| python::ensure_registry(cx)),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::Nextest => "nextest",
            Self::Deny => "deny",
            Self::Magika => "magika",
            Self::Minilm => "minilm",
            Self::Efficientnet => "efficientnet",
            Self::Onnxruntime => "onnxruntime",
            Self::Openvino => "openvino",
            Self::Python => "python",
            Self::Conformance => "conformance",
            Self::Onnx => "onnx",
            Self::Silero => "silero",
            Self::S3 => "s3",
            Self::Brokers => "brokers",
            Self::Kubernetes => "kubernetes",
            Self::Oidc => "oidc",
            Self::Nginx => "nginx",
            Self::Registry => "registry",
        })
    }
}

/// Sets the parts up, one after another, and alone on this machine.
pub(crate) fn run(cx: &Context, parts: &[Part]) -> Result<()> {
    let _lock = lock(cx)?;
    parts.iter().try_for_each(|part| part.run(cx))
}

/// Keeps two set-ups from doing the same work in the same place.
pub(crate) fn lock(cx: &Context) -> Result<File> {
    scratch::lock(cx.cache(), "setup", "another set-up is at work: waiting for it")
}
