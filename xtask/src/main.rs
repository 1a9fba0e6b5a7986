//! Sets a machine up to build Vespid, and runs its chores: `cargo xtask --help`.

mod audit;
mod bench;
mod bindings;
mod chart;
mod context;
mod demo;
mod fuzz;
mod image;
mod operators;
mod packages;
mod scratch;
mod server;
mod setup;
mod test;
mod ui;

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::bench::Bench;
use crate::context::Context;
use crate::setup::Part;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Sets this machine up to build Vespid, and runs the project's chores"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch and build what is missing; by itself: what builds guests.
    Setup {
        /// The parts to set up.
        #[arg(default_values_t = [Part::Guest])]
        parts: Vec<Part>,
        /// Set up every part.
        #[arg(long)]
        all: bool,
        /// Set up the library of ONNX Runtime too.
        #[arg(long)]
        onnxruntime: bool,
    },
    /// Start a server, push two models to it, and ask each for predictions.
    Demo {
        /// Leave the server running until Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
    /// Build the packages of the models in this repository.
    Packages,
    /// Write the plugin SDK's bindings anew from wit/.
    Bindings {
        /// Only check that they are what wit/ gives.
        #[arg(long)]
        check: bool,
    },
    /// Write what is generated of the chart anew: the definitions of the resources, and the pages about them and the values.
    Chart {
        /// Only check that it is what the code gives.
        #[arg(long)]
        check: bool,
    },
    /// Build the container image, and see that it starts; with buildah, from a base that Debian's mirror gives.
    Image(image::ImageArgs),
    /// Measure: what Vespid adds to bare wasmtime and to a bare HTTP handler, or what its inference core gives.
    Bench {
        /// What to measure.
        #[arg(default_value_t = Bench::Overhead)]
        bench: Bench,
        /// Where `gpu` is put together, for a machine that has no network.
        #[arg(long, value_name = "DIR", required_if_eq("bench", "gpu"))]
        bundle: Option<PathBuf>,
        /// Leave NVIDIA's libraries out of the bundle: the machine has them.
        #[arg(long, requires = "bundle")]
        lean: bool,
        /// Arguments for the bench: `-- --help` tells them.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Feed what reads bytes of others with what a fuzzer makes up: see tests/fuzz.
    Fuzz {
        /// The targets; all of them where none is named.
        targets: Vec<String>,
        /// How long each runs.
        #[arg(long, default_value = "1m", value_parser = fuzz::time)]
        time: Duration,
        /// How many run at a time.
        #[arg(long, default_value = "1")]
        jobs: NonZero<usize>,
    },
    /// Run ONNX's own tests of its operators on each backend, and write docs/operators.md.
    Operators,
    /// Set up, check the format, lint, build and test everything.
    Test {
        /// Arguments for `cargo nextest run`.
        #[arg(last = true)]
        nextest: Vec<OsString>,
    },
    /// Check the dependencies against the advisories and against deny.toml.
    Audit,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::say(&format!("error: {error}"));
            error.chain().skip(1).for_each(|cause| ui::say(&format!("  because: {cause}")));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let cx = Context::new()?;
    match task {
        Task::Setup { all: true, .. } => setup::run(&cx, &Part::ALL),
        Task::Setup { mut parts, all: false, onnxruntime } => {
            parts.extend(onnxruntime.then_some(Part::Onnxruntime));
            setup::run(&cx, &parts)
        }
        Task::Demo { keep } => demo::run(&cx, keep),
        Task::Packages => packages::run(&cx),
        Task::Bindings { check } => bindings::run(&cx, check),
        Task::Chart { check } => chart::run(&cx, check),
        Task::Image(args) => image::run(&cx, &args),
        Task::Bench { bench, bundle, lean, arguments } => match (bench, bundle) {
            (Bench::Gpu, Some(folder)) => bench::bundle(&cx, &folder, lean),
            (Bench::Inference, None) => bench::with_server(&cx, "inference", &arguments),
            (Bench::Density, None) => bench::with_server(&cx, "density", &arguments),
            (Bench::Batch, None) => bench::with_server(&cx, "batch", &arguments),
            (Bench::Stream, None) => bench::with_server(&cx, "stream", &arguments),
            (Bench::Hostile, None) => bench::hostile(&cx, arguments),
            (Bench::Access, None) => bench::with_server(&cx, "access", &arguments),
            (Bench::Gateway, None) => bench::with_server(&cx, "gateway", &arguments),
            (Bench::Overhead, None) => bench::contained(&cx, "overhead", &arguments),
            (Bench::Protocols, None) => bench::contained(&cx, "protocols", &arguments),
            (_, Some(_)) => bail!("--bundle is for `gpu` alone"),
            (Bench::Gpu, None) => bail!("`gpu` runs on another machine: --bundle DIR puts it together"),
        },
        Task::Fuzz { targets, time, jobs } => fuzz::run(&cx, &targets, time, jobs),
        Task::Operators => operators::run(&cx),
        Task::Test { nextest } => test::run(&cx, &nextest),
        Task::Audit => audit::run(&cx),
    }
}
