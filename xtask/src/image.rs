//! The container image, as `Dockerfile` has it, with buildah and no daemon: of a binary that is there in place of compiling one in
//! a container, and from a base that Debian's mirror gives where no other is named.

mod base;
mod recipe;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::context::Context;
use crate::packages;
use crate::scratch::Scratch;
use crate::setup::{self, Part, tool};
use crate::ui::{self, Outcome};

/// What is built, and of what.
#[derive(Args)]
pub(crate) struct ImageArgs {
    /// What of the Dockerfile is built.
    #[arg(long, value_enum, default_value = "all")]
    target: Wanted,
    /// The binary, which is stripped here; without one it is built with the profile `dist`, which takes many minutes.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The image that libraries and certificates come from; one of Debian's packages, which debootstrap makes, without one.
    #[arg(long, value_name = "IMAGE")]
    base: Option<String>,
    /// What the images are called; the one with ONNX Runtime has `-onnxruntime` after its tag.
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("vespid:", env!("CARGO_PKG_VERSION")))]
    tag: String,
    /// Write each image to a file in this folder, for `docker load` and for clusters.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Whatever size comes out: for a binary that is not what is shipped.
    #[arg(long)]
    any_size: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    All,
    Cpu,
    CpuOnnxruntime,
}

/// A target of the Dockerfile.
struct Target {
    name: &'static str,
    /// After the image's tag.
    suffix: &'static str,
    /// Its files take up so many megabytes at most.
    limit: u64,
    onnxruntime: bool,
}

const CPU: Target = Target { name: "cpu", suffix: "", limit: 120, onnxruntime: false };
const ONNXRUNTIME: Target =
    Target { name: "cpu-onnxruntime", suffix: "-onnxruntime", limit: 200, onnxruntime: true };

/// The folder of the binary's package.
const CLI: &str = "host/cli";

const MEGABYTE: u64 = 1_000_000;

impl Wanted {
    fn targets(self) -> &'static [Target] {
        match self {
            Self::All => &[CPU, ONNXRUNTIME],
            Self::Cpu => &[CPU],
            Self::CpuOnnxruntime => &[ONNXRUNTIME],
        }
    }
}

pub(crate) fn run(cx: &Context, args: &ImageArgs) -> Result<()> {
    for program in ["buildah", "strip"] {
        if !cx.has_program(program) {
            bail!("{program} is not there: on Debian, `apt-get install buildah binutils`, as root");
        }
    }
    setup::run(cx, &[Part::Onnxruntime])?;
    tool::CYCLONEDX.ensure(cx)?;
    let binary = match &args.binary {
        Some(binary) => {
            fs::canonicalize(binary).with_context(|| format!("{} is not there", binary.display()))?
        }
        None => shipped(cx)?,
    };
    let base = match &args.base {
        Some(base) => base.clone(),
        None => base::ensure(cx)?,
    };
    let _lock = setup::lock(cx)?;
    let scratch = Scratch::new(cx, "image")?;
    fill(cx, &scratch, &binary)?;
    args.target.targets().iter().try_for_each(|target| build(cx, args, target, &base, scratch.path()))
}

/// Relocations in a few bytes each, where they took 5.5 MB; the loader of the image's release of Debian reads them, older ones do not.
const PACKED: &str = "link-arg=-Wl,-z,pack-relative-relocs";

/// Builds what is shipped, as the Dockerfile does.
fn shipped(cx: &Context) -> Result<PathBuf> {
    let _lock = packages::lock(cx)?;
    let mut cargo = cx.cargo();
    cargo.args([
        "rustc",
        "--locked",
        "--profile",
        "dist",
        "--package",
        "vespid",
        "--bin",
        "vespid",
        "--",
        "-C",
        PACKED,
    ]);
    ui::step_inherited("vespid, optimised as a whole", cargo)?;
    packages::take(&cx.target().join("dist/vespid"), &cx.output().join("vespid-dist"))
}

/// Puts together what the build reads.
fn fill(cx: &Context, scratch: &Scratch, binary: &Path) -> Result<()> {
    let recipe = fs::read_to_string(cx.root().join("Dockerfile")).context("Dockerfile cannot be read")?;
    fs::write(scratch.path().join("Dockerfile"), recipe::of_prebuilt(&recipe)?)?;
    let folder = scratch.folder("image")?;
    fs::copy(cx.root().join("image/rootfs.sh"), folder.join("rootfs.sh"))?;
    ui::step("what the image is made of", |step| {
        let mut strip = cx.command("strip");
        strip.arg("-o").arg(scratch.path().join("vespid")).arg(binary);
        step.run(strip)?;
        step.run(bill_of_materials(cx))?;
        let written = written(cx)?;
        let own = written.iter().find(|file| file.starts_with(cx.root().join(CLI)));
        fs::copy(
            own.context("cargo-cyclonedx has written nothing of the binary")?,
            scratch.path().join("sbom.cdx.json"),
        )?;
        written.iter().try_for_each(fs::remove_file)?;
        let library = setup::onnxruntime::library(cx);
        let from = library.parent().context("a library without a folder")?;
        for file in ["libonnxruntime.so", "LICENSE", "ThirdPartyNotices.txt"] {
            fs::copy(from.join(file), scratch.path().join(file))?;
        }
        Ok(Outcome::Done)
    })
}

fn bill_of_materials(cx: &Context) -> Command {
    let mut command = cx.command("cargo-cyclonedx");
    command.args(["cyclonedx", "--manifest-path"]).arg(cx.root().join(CLI).join("Cargo.toml"));
    command.args(["--format", "json", "--describe", "binaries"]);
    command
}

/// What cargo-cyclonedx has written: of each program of the workspace, beside its manifest, and nowhere else.
fn written(cx: &Context) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for folder in [cx.root().join(CLI), cx.root().join("xtask")] {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            written.extend(path.to_str().is_some_and(|name| name.ends_with(".cdx.json")).then_some(path));
        }
    }
    Ok(written)
}

fn build(cx: &Context, args: &ImageArgs, target: &Target, base: &str, folder: &Path) -> Result<()> {
    let image = format!("{}{}", args.tag, target.suffix);
    ui::step(&format!("image {image}"), |step| {
        let mut build = buildah(cx, "build");
        build.args(["--isolation", "chroot", "--layers", "--target", target.name, "--tag", &image]);
        for (name, value) in
            [("BASE", base), ("VERSION", env!("CARGO_PKG_VERSION")), ("REVISION", &revision(cx))]
        {
            build.arg("--build-arg").arg(format!("{name}={value}"));
        }
        build.arg("--file").arg(folder.join("Dockerfile")).arg(folder);
        step.run(build).context("the image does not build")?;
        Ok(Outcome::Done)
    })?;
    check(cx, args, target, &image)?;
    if let Some(output) = &args.output {
        crate::scratch::create(output)?;
        let name = format!("{}.tar", image.replace([':', '/'], "-"));
        let file = output.join(name);
        // What is there is not added to.
        crate::scratch::remove(&file)?;
        ui::step(&format!("{}", file.display()), |step| {
            let mut push = buildah(cx, "push");
            push.args(["--quiet", &image]).arg(format!("docker-archive:{}:{image}", file.display()));
            step.run(push)?;
            Ok(Outcome::Done)
        })?;
    }
    Ok(())
}

/// Measures the image, and runs it.
fn check(cx: &Context, args: &ImageArgs, target: &Target, image: &str) -> Result<()> {
    let container = printed(buildah(cx, "from").args(["--pull-never", image]))?;
    let looked_at = look(cx, target, &container);
    let mut remove = buildah(cx, "rm");
    remove.arg(&container);
    printed(&mut remove)?;
    let size = looked_at?;
    ui::say(&format!("{image}: {:.1} MB of {} MB", size as f64 / MEGABYTE as f64, target.limit));
    if size > target.limit * MEGABYTE && !args.any_size {
        bail!("{image} is too large: --any-size takes it as it is");
    }
    Ok(())
}

fn look(cx: &Context, target: &Target, container: &str) -> Result<u64> {
    let root = printed(buildah(cx, "mount").arg(container))?;
    let sum = printed(cx.command("du").args(["--summarize", "--bytes", &root]))?;
    let size = sum.split_whitespace().next().and_then(|size| size.parse().ok()).context("du says no size")?;
    for arguments in [["--version"], ["doctor"]] {
        let mut run = buildah(cx, "run");
        // By its own entry and user, as a cluster starts it.
        run.args(["--isolation", "chroot", container, "--", "/usr/local/bin/vespid"]).args(arguments);
        let said = printed(&mut run)?;
        ui::say(&said.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"));
        if arguments == ["doctor"] && target.onnxruntime && !said.contains("/usr/local/lib/libonnxruntime.so")
        {
            bail!("the image has a library of ONNX Runtime, which `vespid doctor` does not find in it");
        }
    }
    Ok(size)
}

fn buildah(cx: &Context, task: &str) -> Command {
    let mut command = cx.command("buildah");
    command.arg(task);
    command
}

/// What a command prints, without the line's end.
fn printed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The commit of the checkout, where it is one.
fn revision(cx: &Context) -> String {
    printed(cx.command("git").args(["rev-parse", "HEAD"])).unwrap_or_else(|_| "unknown".to_owned())
}
