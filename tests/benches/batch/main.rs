//! Jobs over files beside a Python loop that does the same with pyarrow and onnxruntime, and beside the graph alone.
//!
//! `iris` over a Parquet of many rows, and `embed` over JSON Lines. The sides are run in turn, each as a process of its own with all
//! cores, from its start to its end; the ratio of each round is taken, and of these the median. The loop takes 1,024 rows at a time.
//! Then `iris` again over more and more rows: what the process has in memory at most.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::Table;
use serde_json::{Value, json};
use vespid_tests::built;

/// Jobs over files beside a loop in Python.
#[derive(Debug, Parser)]
struct Args {
    /// Rows of the Parquet file
    #[arg(long, default_value_t = 4_000_000)]
    rows: usize,
    /// Texts that are embedded
    #[arg(long, default_value_t = 2048)]
    texts: usize,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Rows of the files of which the memory is told
    #[arg(long, value_delimiter = ',', default_value = "1000000,5000000,20000000")]
    memory: Vec<usize>,
    /// A Python with what tests/python/batch_loop.py lists
    #[arg(long, env = "VESPID_BENCH_PYTHON")]
    python: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a side took.
#[derive(Clone, Copy, Debug)]
struct Took {
    rows: f64,
    seconds: f64,
    peak_mib: f64,
}

impl Took {
    fn rate(self) -> f64 {
        self.rows / self.seconds
    }
}

struct Desk {
    folder: tempfile::TempDir,
    python: PathBuf,
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn python(&self, script: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.python);
        command.arg(built::repository(script)).args(arguments).current_dir(self.folder.path());
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script} {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn flowers(&self, rows: usize) {
        self.python("examples/batch/generate.py", &["in.parquet", &rows.to_string()]);
    }

    fn loop_of(&self, arguments: &[&str]) -> Took {
        let told: Value =
            serde_json::from_str(&self.python("tests/python/batch_loop.py", arguments)).unwrap();
        let number = |name: &str| told[name].as_f64().unwrap();
        Took { rows: number("rows"), seconds: number("seconds"), peak_mib: number("peak_kib") / 1024.0 }
    }

    fn job(&self, model: &str, arguments: &[&str]) -> Took {
        let out = self.path("out");
        let _ = fs::remove_dir_all(&out);
        let mut command = Command::new(built::vespid());
        command.args(["batch", "--report", "json", "--output", "out", "--model"]).arg(built::package(model));
        command.args(arguments).current_dir(self.folder.path());
        command.args(["--onnxruntime", &built::onnxruntime()]).env("VESPID_LOG", "error");
        let began = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let peak_mib = peak(&mut child);
        let seconds = began.elapsed().as_secs_f64();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        Took { rows: report["rows"].as_f64().unwrap(), seconds, peak_mib }
    }
}

/// Waits for a process; the most that it had in memory, in MiB.
fn peak(child: &mut Child) -> f64 {
    let mut peak = 0.0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
        peak = kib.map_or(peak, |kib| kib / 1024.0);
        thread::sleep(Duration::from_millis(20));
    }
    peak
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rounds of the job, the loop and the graph alone.
fn compare(table: &mut Table, what: &str, rounds: usize, mut sides: [&mut dyn FnMut() -> Took; 3]) {
    let rounds: Vec<[Took; 3]> = (0..rounds).map(|_| sides.each_mut().map(|side| side())).collect();
    let rates = |side: usize| median(rounds.iter().map(|round| round[side].rate()).collect());
    let ratio =
        |side: usize| median(rounds.iter().map(|round| round[0].rate() / round[side].rate()).collect());
    let peak = |side: usize| rounds.iter().map(|round| round[side].peak_mib).fold(0.0, f64::max);
    let row = [
        what.to_owned(),
        format!("{:.0}", rates(0)),
        format!("{:.0}", rates(1)),
        format!("{:.2}", ratio(1)),
        format!("{:.0}", rates(2)),
        format!("{:.2}", ratio(2)),
        format!("{:.0} and {:.0}", peak(0), peak(1)),
    ];
    println!("{}", row.join("  "));
    table.add_row(row);
}

fn texts(path: &Path, count: usize) {
    let words = [
        "river", "of", "small", "flowers", "grows", "near", "the", "house", "where", "nobody", "waits",
        "today",
    ];
    let text = |row: usize| {
        let word = |index: usize| words[(row * 7 + index * index * 3 + index) % words.len()];
        (0..4 + row % 40).map(word).collect::<Vec<_>>().join(" ")
    };
    let lines: String =
        (0..count).map(|row| format!("{}\n", json!({"id": row, "text": text(row)}))).collect();
    fs::write(path, lines).unwrap();
}

fn main() {
    let args = Args::parse();
    let desk = Desk { folder: tempfile::tempdir().unwrap(), python: args.python.clone() };
    let mut table = Table::new();
    table.set_header([
        "",
        "job, rows/s",
        "loop, rows/s",
        "job / loop",
        "graph alone",
        "job / graph",
        "peak MiB, both",
    ]);
    let graph = |path: &str| built::repository(path).display().to_string();
    let (iris, embed) = (graph("plugins/iris/iris.onnx"), graph("plugins/embed/assets/model.onnx"));
    let rows = args.rows.to_string();
    let map =
        ["--map", "measurements=sepal_length,sepal_width,petal_length,petal_width", "--keep", "id,place"];
    let flowers = [&["--input", "in.parquet"], &map[..]].concat();
    desk.flowers(args.rows);
    compare(
        &mut table,
        "iris, Parquet",
        args.rounds,
        [
            &mut || desk.job("iris", &flowers),
            &mut || desk.loop_of(&["iris", &iris, "in.parquet", "loop.parquet"]),
            &mut || desk.loop_of(&["iris-graph", &iris, &rows]),
        ],
    );
    texts(&desk.path("in.jsonl"), args.texts);
    compare(
        &mut table,
        "embed, JSON Lines",
        args.rounds,
        [
            &mut || desk.job("embed", &["--input", "in.jsonl"]),
            &mut || desk.loop_of(&["embed", &embed, "in.jsonl", "loop.jsonl"]),
            &mut || desk.loop_of(&["embed-graph", &embed, "in.jsonl"]),
        ],
    );
    println!("{table}");
    for rows in args.memory {
        desk.flowers(rows);
        let took = desk.job("iris", &flowers);
        println!("{rows} rows: {:.0} MiB at most, {:.0} rows/s", took.peak_mib, took.rate());
    }
}
