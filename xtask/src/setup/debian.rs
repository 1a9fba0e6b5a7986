//! Fetches packages from the machine's Debian mirror, with a configuration of our own.
//!
//! Nothing under `/etc/apt` or `/var` is written and no privilege is needed. The mirror, its proxies and its
//! credentials are those that the machine's own configuration names; the signature is checked with Debian's keys.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::scratch::{self, Scratch};
use crate::ui::Step;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Packages of one suite.
pub(crate) struct Suite<'a> {
    cx: &'a Context,
    name: &'static str,
    root: PathBuf,
}

impl<'a> Suite<'a> {
    /// Reads which packages the suite holds.
    pub(crate) fn open(
        cx: &'a Context,
        step: &mut Step<'_>,
        scratch: &Scratch,
        name: &'static str,
    ) -> Result<Self> {
        Self::read(cx, step, scratch, name, &["deb"])
    }

    /// The same, and which sources.
    pub(crate) fn with_sources(
        cx: &'a Context,
        step: &mut Step<'_>,
        scratch: &Scratch,
        name: &'static str,
    ) -> Result<Self> {
        Self::read(cx, step, scratch, name, &["deb", "deb-src"])
    }

    fn read(
        cx: &'a Context,
        step: &mut Step<'_>,
        scratch: &Scratch,
        name: &'static str,
        kinds: &[&str],
    ) -> Result<Self> {
        if !cx.has_program("apt-get") || !Path::new(KEYRING).exists() {
            bail!("this is no Debian: there is no apt-get, or no {KEYRING}");
        }
        let suite = Self { cx, name, root: scratch.folder("apt")? };
        suite.configure(kinds)?;
        step.note(&format!("reading the list of Debian's {name}"));
        step.run(suite.command("apt-get", &["update"]))
            .with_context(|| format!("the Debian mirror does not give its {name}: is there a network?"))?;
        Ok(suite)
    }

    /// The versions of a package, newest first.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let table = output(&mut self.command("apt-cache", &["madison", package]))?;
        let version = |line: &str| line.split('|').nth(1).map(|field| field.trim().to_owned());
        Ok(table.lines().filter_map(version).collect())
    }

    /// Loads a package, a name or `name=version`, and unpacks what it holds under `path`. The sources of Rust are
    /// 46,000 files of which the standard library is a tenth: to write and remove all takes longer than to load.
    pub(crate) fn unpack(&self, step: &mut Step<'_>, package: &str, path: &str, into: &Path) -> Result<()> {
        let folder = self.root.join("packages").join(package);
        scratch::create(&folder)?;
        let mut download = self.command("apt-get", &["download", package]);
        download.current_dir(&folder);
        step.run(download).with_context(|| format!("{package} cannot be loaded from {}", self.name))?;
        let file = fs::read_dir(&folder)?.next().with_context(|| format!("{package} is empty"))??.path();
        step.note(&format!("unpacking {package}"));
        extract(self.cx, &file, path, into).with_context(|| format!("{} cannot be unpacked", file.display()))
    }

    /// Loads the packages of these names and unpacks what they hold under `usr`.
    pub(crate) fn unpack_all(&self, step: &mut Step<'_>, packages: &[String], into: &Path) -> Result<()> {
        let folder = self.root.join("packages");
        scratch::create(&folder)?;
        step.note(&format!("loading {} packages of Debian's {}", packages.len(), self.name));
        let mut download = self.command("apt-get", &["download"]);
        download.args(packages).current_dir(&folder);
        step.run(download).with_context(|| format!("they cannot be loaded from {}", self.name))?;
        step.note("unpacking them");
        for entry in fs::read_dir(&folder)? {
            let file = entry?.path();
            extract(self.cx, &file, "./usr", into)
                .with_context(|| format!("{} cannot be unpacked", file.display()))?;
        }
        Ok(())
    }

    /// The names of these packages and of all that they depend on, as on a machine that has none.
    pub(crate) fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        let nothing = self.root.join("status");
        fs::write(&nothing, "")?;
        let mut command =
            self.command("apt-get", &["install", "--no-install-recommends", "--print-uris", "-qq"]);
        command.arg("-o").arg(format!("Dir::State::status={}", nothing.display())).args(packages);
        // 'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH
        let table = output(&mut command)?;
        let name = |line: &str| Some(line.split(' ').nth(1)?.split('_').next()?.to_owned());
        Ok(table.lines().filter_map(name).collect())
    }

    /// Loads the newest source of a package as its authors gave it out, without Debian's changes, and unpacks it; its folder. To
    /// apply those takes dpkg-dev, which not every machine has.
    pub(crate) fn source(&self, step: &mut Step<'_>, package: &str, scratch: &Scratch) -> Result<PathBuf> {
        let folder = scratch.folder("source")?;
        step.note(&format!("loading the source of {package}"));
        let mut download =
            self.command("apt-get", &["source", "-qq", "--download-only", "--tar-only", package]);
        download.current_dir(&folder);
        step.run(download).with_context(|| format!("its source cannot be loaded from {}", self.name))?;
        let archive = fs::read_dir(&folder)?.next().context("it has no archive")??.path();
        let unpacked = scratch.folder("unpacked-source")?;
        step.note(&format!("unpacking the source of {package}"));
        let mut tar = self.cx.command("tar");
        tar.args(["--extract", "--strip-components=1", "--directory"]).arg(&unpacked);
        tar.arg("--file").arg(&archive);
        step.run(tar)?;
        Ok(unpacked)
    }

    fn configure(&self, kinds: &[&str]) -> Result<()> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            scratch::create(&self.root.join(folder))?;
        }
        let mirror = mirror(self.cx)?;
        let source = |kind: &&str| format!("{kind} [signed-by={KEYRING}] {mirror} {} main\n", self.name);
        fs::write(self.root.join("sources.list"), kinds.iter().map(source).collect::<String>())?;
        fs::write(self.root.join("apt.conf"), self.configuration()?)?;
        Ok(())
    }

    /// apt reads this file before the machine's own, and is told in it to leave those out: they may hold hooks
    /// that need root. How to reach the mirror is carried over.
    fn configuration(&self) -> Result<String> {
        let machine = output(self.cx.command("apt-config").arg("dump"))?;
        let mut text = String::new();
        for line in machine.lines().filter(|line| tells_how_to_fetch(line)) {
            writeln!(text, "{line}")?;
        }
        for (option, file) in [
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::sourcelist", "sources.list"),
        ] {
            writeln!(text, "{option} \"{}\";", self.root.join(file).display())?;
        }
        for option in ["parts", "main", "sourceparts", "preferences", "preferencesparts"] {
            writeln!(text, "Dir::Etc::{option} \"/dev/null\";")?;
        }
        for (option, value) in [
            // Root would otherwise fetch as a user that cannot write into this folder.
            ("APT::Sandbox::User", ""),
            // That the mirror is out of reach is a warning by default.
            ("APT::Update::Error-Mode", "any"),
            ("Acquire::Languages", "none"),
        ] {
            writeln!(text, "{option} \"{value}\";")?;
        }
        if self.name == "sid" {
            // Its lists are said to be good for a week, and mirrors that keep a day of it may be older.
            writeln!(text, "Acquire::Check-Valid-Until \"false\";")?;
        }
        Ok(text)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.cx.command(program);
        command.args(arguments).env("APT_CONFIG", self.root.join("apt.conf")).env("LC_ALL", "C.UTF-8");
        command
    }
}

fn extract(cx: &Context, package: &Path, path: &str, into: &Path) -> Result<()> {
    let mut unpacker = cx.command("dpkg-deb");
    let mut unpacker = unpacker.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let archive = unpacker.stdout.take().context("dpkg-deb has no output")?;
    let mut tar = cx.command("tar");
    let extracted = output(tar.args(["--extract", "--directory"]).arg(into).arg(path).stdin(archive));
    let unpacked = unpacker.wait()?;
    extracted?;
    if !unpacked.success() {
        bail!("dpkg-deb failed: {unpacked}");
    }
    Ok(())
}

fn tells_how_to_fetch(line: &str) -> bool {
    line.starts_with("Acquire::")
        && !["Acquire::IndexTargets", "Acquire::Languages"].iter().any(|prefix| line.starts_with(prefix))
}

/// The mirror that the machine takes its own release from.
fn mirror(cx: &Context) -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release cannot be read")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map_or("sid", |name| name.trim_matches('"'));
    let mut command = cx.command("apt-get");
    command.args(["indextargets", "--no-release-info", "--format", "$(RELEASE) $(REPO_URI)"]);
    let targets = output(&mut command)?;
    let of = |suite: &str| {
        let uri = targets.lines().find_map(|line| line.strip_prefix(suite)?.strip_prefix(' '))?;
        Some(uri.to_owned())
    };
    [codename, "stable", "testing", "unstable", "sid"].into_iter().find_map(of).with_context(|| {
        format!("apt's configuration names no Debian mirror for {codename}: add one, or use rustup")
    })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{:?} does not start", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
