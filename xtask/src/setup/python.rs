//! Python packages: one list pins them by version and hash, for the tests' clients and for what comes out of one.

use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::scratch;
use crate::ui::{self, Outcome};

/// Written last, so that a half-filled environment is not used.
const STAMP: &str = "vespid-venv.stamp";

/// Makes an environment that holds the listed packages.
pub(crate) fn ensure(cx: &Context) -> Result<()> {
    ui::step("Python clients for the tests", |step| {
        let venv = venv(cx)?;
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
        install.args(["install", "--require-hashes", "--only-binary", ":all:", "--requirement"]);
        install.arg(requirements(cx));
        step.run(install).context("the Python packages cannot be installed: is there a network?")?;
        fs::write(venv.join(STAMP), "").context("the virtual environment cannot be stamped")?;
        Ok(Outcome::Done)
    })
}

/// The environment's interpreter.
pub(crate) fn python(cx: &Context) -> Result<PathBuf> {
    Ok(interpreter(&venv(cx)?))
}

/// A pip command. Index, mirror and certificates are those of the user's own configuration.
pub(crate) fn pip(cx: &Context, python: &OsStr) -> Command {
    let mut command = cx.command(python);
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command
}

/// The lines of the list that pin one package.
pub(crate) fn pinned(cx: &Context, package: &str) -> Result<Pin> {
    let path = requirements(cx);
    Pin::parse(&read(&path)?, package).with_context(|| format!("{} does not pin {package}", path.display()))
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

/// Named after the list's content: a changed list gets a new environment, and checkouts do not fight over one.
fn venv(cx: &Context) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    read(&requirements(cx))?.hash(&mut hasher);
    Ok(cx.cache().join(format!("venv-{:016x}", hasher.finish())))
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

fn requirements(cx: &Context) -> PathBuf {
    cx.root().join("tests/python/requirements.txt")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
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
