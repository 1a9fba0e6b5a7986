//! What a neighbour notices of a model or an upload that means harm.
//!
//! One server with the neighbour `iris`, which is asked at a steady pace over a connection a request; quiet for a while, and then
//! while one attacker strikes again and again as fast as it is answered. Each answer of both is held against what it must be.
//! Quiet and attacked are measured in turn, so that both are of the same minutes; what is quiet is so in each row, and taken together,
//! for a percentile of a few hundred answers says little. Figures are of this run on this machine, whose processors the client, the
//! attacker and the server share. What the attacker does to make its requests it does when nobody else wants a processor, for it would
//! do so on a machine of its own.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use vespid_tests::attacks::{Attack, GROUPS, places};
use vespid_tests::built;
use vespid_tests::neighbour::{self, Noticed, asked_during};
use vespid_tests::server::Server;

/// What a neighbour notices of attacks.
#[derive(Debug, Parser)]
struct Args {
    /// Seconds for which each attack goes on
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Milliseconds from one request of the neighbour to the next
    #[arg(long, default_value_t = 5)]
    pace: u64,
    /// Only attacks whose name holds this
    #[arg(long)]
    only: Option<String>,
    /// Where the table is written; else it is only printed
    #[arg(long)]
    table: Option<PathBuf>,
    /// How the server was built, for the table's head
    #[arg(long, default_value = "for release, without link-time optimisation")]
    profile: String,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Groups whose attacks are so much alike that they are measured as one, in turn.
const TOGETHER: [&str; 4] = ["places", "handles", "wasi-nn", "WASI"];

/// A line of the table.
struct Row {
    name: String,
    attacks: Vec<Attack>,
}

#[derive(Default)]
struct Measured {
    quiet: Noticed,
    under: Noticed,
    strikes: usize,
    faults: Vec<String>,
}

fn main() {
    let args = Args::parse();
    let onnxruntime = built::onnxruntime();
    let (mut quiet, mut measured_rows) = (Vec::new(), Vec::new());
    for row in rows().into_iter().filter(|row| args.only.as_ref().is_none_or(|only| row.name.contains(only)))
    {
        // A server for each, so that no attack meets what another one left.
        let server = Server::configured(&["--onnxruntime", &onnxruntime], &[]);
        neighbour::move_in(&server);
        row.attacks.iter().for_each(|attack| attack.prepare(&server));
        let measured = measure(&server, &row, &args);
        let [before, after] =
            [&measured.quiet, &measured.under].map(|noticed| percentile(&noticed.times, 99));
        println!("{}: {before:.1} / {after:.1} ms, {} strikes", row.name, measured.strikes);
        measured.faults.iter().for_each(|fault| println!("    {fault}"));
        let wrong = measured.quiet.wrong.iter().chain(&measured.under.wrong);
        wrong.for_each(|answer| println!("    the neighbour: {answer}"));
        quiet.extend_from_slice(&measured.quiet.times);
        measured_rows.push((row, measured));
        neighbour::check(&server);
        // One that still compiles what an attacker sent is not waited for.
        drop(server);
    }
    let table = table(&measured_rows, &quiet, &args);
    match &args.table {
        Some(file) => fs::write(file, table).unwrap(),
        None => println!("{table}"),
    }
}

fn rows() -> Vec<Row> {
    let one = |attack: Attack| Row { name: attack.name.clone(), attacks: vec![attack] };
    let mut rows = Vec::new();
    for (group, attacks) in GROUPS {
        if TOGETHER.contains(&group) {
            let attacks = attacks();
            rows.push(Row { name: format!("{group}: {} in turn", attacks.len()), attacks });
        } else {
            rows.extend(attacks().into_iter().map(one));
        }
    }
    rows.extend(places::endless().into_iter().map(one));
    rows
}

/// Rounds of quiet and attack in turn: what else the machine does then weighs on both.
const ROUNDS: u32 = 4;

fn measure(server: &Server, row: &Row, args: &Args) -> Measured {
    let (pace, time) = (Duration::from_millis(args.pace), Duration::from_secs(args.seconds));
    let mut measured = Measured::default();
    let mut attacks = row.attacks.iter().cycle();
    let mut spent = Duration::ZERO;
    while spent < time {
        let ((), quiet) = asked_during(server, pace, || thread::sleep(time / ROUNDS));
        let began = Instant::now();
        let strike = || {
            step_back();
            while began.elapsed() < time / ROUNDS {
                let attack = attacks.next().unwrap();
                measured.faults.extend(attack.fault(&attack.strike(server)));
                measured.strikes += 1;
            }
        };
        let attack = || thread::scope(|scope| scope.spawn(strike).join().unwrap());
        let ((), under) = asked_during(server, pace, attack);
        spent += began.elapsed();
        for (all, noticed) in [(&mut measured.quiet, quiet), (&mut measured.under, under)] {
            all.times.extend(noticed.times);
            all.wrong.extend(noticed.wrong);
        }
    }
    measured
}

/// Has this thread run when no other wants to. What it starts would do so too.
fn step_back() {
    let thread = fs::read_link("/proc/thread-self").unwrap();
    let mut command = Command::new("chrt");
    command.args(["--idle", "--pid", "0"]).arg(thread.file_name().unwrap());
    assert!(command.status().expect("chrt of util-linux").success());
}

fn line(row: &Row, measured: &Measured, quiet_p99: f64) -> String {
    let Measured { quiet, under, strikes, faults } = measured;
    let outcome = match &row.attacks[..] {
        [attack] => format!("{} {}", attack.status, attack.message.replace('|', " ")),
        _ => "each its own".to_owned(),
    };
    let outcome =
        if faults.is_empty() { outcome } else { format!("**{} of {strikes} otherwise**", faults.len()) };
    let [p50, p99] = [50, 99].map(|percent| percentile(&under.times, percent));
    let wrong = quiet.wrong.len() + under.wrong.len();
    format!(
        "| {} | {outcome} | {strikes} | {p50:.1} | {p99:.1} | {:.1} | {wrong} of {} |",
        row.name,
        p99 / quiet_p99,
        under.times.len(),
    )
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
}

const HEAD: &str = "\
# Attacks, and what a neighbour notices

`cargo xtask bench hostile` writes this page. A server has the model `iris`, which is asked every few milliseconds, and one
attacker that strikes again and again as fast as it is answered. *Quiet* is the neighbour without it, *attacked* the neighbour
meanwhile, in turn. The end-to-end tests (`tests/tests/e2e/hostile.rs`) hold the server to the same outcomes, and the
neighbour to right answers; times are measured here alone.

";

const NOTES: &str = "

Client, attacker and server share the processors; what the attacker does to make its requests it does when nobody else wants one. A
ratio above 2 says that the server's work for the attacker, which is as legitimate as anybody's until it ends, took its share of them: a thread that would serve the neighbour waits for the one on whose processor it
is. A guest gives way every millisecond; what the host does for an attacker itself (reading and copying megabytes, compiling, taking a
graph apart) does not, and Linux lets it go on until its own next tick, up to 4 ms. What bounds an attacker over time is the `cpu` of
[limits.md](limits.md), which this run does not set.

What is not contained:

- A graph of the embedded backend that makes a tensor for which there is no memory, from factors that the file does not name (an
  outer product, one `Tile` after the other), ends the server: its allocations cannot fail. Extents that are a constant or
  an input are checked (`host/nn/src/growth.rs`). ONNX Runtime fails alone where the system refuses the memory.
- A graph of the embedded backend that never ends (a `Loop`) keeps its lane's thread; its callers get 504. ONNX Runtime ends such a run
  with its last caller.
- Describing may take 30 s, and two packages are built at a time: two uploads that loop hold up other uploads, not calls.
- Whoever may write to the store's folder, and writes the digest that goes with it, can put machine code into its code cache.
";

fn table(rows: &[(Row, Measured)], quiet: &[Duration], args: &Args) -> String {
    let mut text = HEAD.to_owned();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let (seconds, pace) = (args.seconds, args.pace);
    writeln!(
        text,
        "Measured on {cores} cores, the server built {}: {seconds} s quiet and {seconds} s attacked, or as long as one strike takes, a request each {pace} ms; milliseconds.\n",
        args.profile
    )
    .unwrap();
    let [p50, p99] = [50, 99].map(|percent| percentile(quiet, percent));
    let attacked: Vec<f64> = rows.iter().map(|(_, measured)| percentile(&measured.under.times, 99)).collect();
    let within = attacked.iter().filter(|attacked| **attacked <= 2.0 * p99).count();
    let highest = attacked.iter().copied().fold(0.0, f64::max);
    writeln!(
        text,
        "Quiet, over {} answers: p50 {p50:.1}, p99 {p99:.1}. Attacked, p99 stays within twice that in {within} of {} rows, and the \
         highest is {highest:.1}.\n",
        quiet.len(),
        rows.len(),
    )
    .unwrap();
    text += "| attack | outcome | strikes | p50 | p99 | p99 to quiet | wrong answers |\n";
    text += "|---|---|---:|---:|---:|---:|---:|\n";
    rows.iter().for_each(|(row, measured)| text += &format!("{}\n", line(row, measured, p99)));
    text + NOTES
}
