//! What the inference core gives and what it costs, as ratios: batches against none, plugins against the same code
//! native, one backend against the other, and a server that is asked more than it can do.
//!
//! Contract: each comparison measures its two sides in turn, in one process and many times over ([`pairs`]), and prints the
//! median and the quartiles of the ratio. Nothing fails because it is slow; wrong answers and lost ones do fail. Run by
//! `cargo xtask bench inference`, which builds the packages and a `vespid` for release, and says where they are. Left out:
//! what a call costs over HTTP, which is the bench `overhead`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod backends;
mod device;
mod graphs;
mod host;
mod lanes;
mod native;
mod overload;
mod pairs;
mod parts;
mod plugins;
mod texts;

use std::time::Duration;

use clap::{Parser, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use vespid_types::Device;

/// Measures the inference core.
#[derive(Parser)]
struct Args {
    /// What to measure; all but `device` where nothing is named
    #[arg(value_enum)]
    benches: Vec<Bench>,
    /// How often the two sides of a comparison are measured
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long one measurement of one side takes, about
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..))]
    millis: u64,
    /// How long the server is overloaded
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// What `device` compares with the processor: gpu, gpu:N, or cpu, which proves all but the device
    #[arg(long, value_name = "DEVICE", default_value = "gpu")]
    device: Device,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// 16 callers of `embed`: batches against `max_rows = 1`
    Lanes,
    /// One caller of `embed`: the same
    Alone,
    /// `embed` and `image-classify`: the plugin against its own code compiled for the machine
    Native,
    /// The embedded backend against ONNX Runtime
    Backends,
    /// Where the time of a call goes, by the server's own statistics
    Parts,
    /// A server with eight models that is asked more than it can do
    Overload,
    /// A graphics processor against the processor
    Device,
}

fn main() {
    let args = Args::parse();
    let plan = pairs::Plan { rounds: args.rounds, time: Duration::from_millis(args.millis), unit: 1 };
    let all = [Bench::Lanes, Bench::Alone, Bench::Native, Bench::Backends, Bench::Parts, Bench::Overload];
    let chosen = if args.benches.is_empty() { &all[..] } else { &args.benches[..] };
    println!("{} rounds of about {} ms a side; ratios: median (quartiles)", args.rounds, args.millis);
    for bench in chosen {
        match bench {
            Bench::Lanes => lanes::many(&plan),
            Bench::Alone => lanes::alone(&plan),
            Bench::Native => native::run(&plan),
            Bench::Backends => backends::run(&plan),
            Bench::Parts => parts::run(&plan),
            Bench::Overload => overload::run(Duration::from_secs(args.seconds)),
            Bench::Device => device::run(&plan, args.device),
        }
    }
}

/// A table with a title, which can be pasted as it is.
fn table<const N: usize>(title: &str, header: [&str; N], rows: Vec<[String; N]>) {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    println!("\n{title}\n\n{table}");
}
