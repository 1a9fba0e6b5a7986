//! How many models a server holds, what they cost idle, and what the first call of one costs.
//!
//! One server, a thousand models of a hundred plugins and ten graphs, asked one call after the other over connections of
//! their own. The plugins are `iris` with another section each that says nothing, so that each is compiled by itself; the
//! graphs are its graph, each with another text. Figures are of this run; what is compared is compared in it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench"
)]

use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::Table;
use serde_json::Value;
use vespid_tests::archive::Archive;
use vespid_tests::http;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::{Home, Server};

/// How many models a server holds, and at what price.
#[derive(Debug, Parser)]
struct Args {
    /// Models
    #[arg(long, default_value_t = 1000)]
    models: usize,
    /// Different plugins among them
    #[arg(long, default_value_t = 100)]
    plugins: usize,
    /// Different graphs among them
    #[arg(long, default_value_t = 10)]
    graphs: usize,
    /// Rounds of load, call, unload
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let home = Home::default();
    let mut table = Table::new();
    table.set_header(["what", "figure"]);
    let mut say = |what: &str, figure: String| {
        println!("{what}: {figure}");
        table.add_row([what.to_owned(), figure]);
    };

    let server = home.start();
    let empty = settled(&server);
    let began = Instant::now();
    push(&server, &args);
    say("pushing all, each compiled and loaded", seconds(began.elapsed()));
    let loaded = settled(&server);
    say("resident with all loaded and idle, a model", kib(loaded.saturating_sub(empty), args.models));
    let counted = metric(&server, "vespid_models_memory_bytes");
    say("of that counted for the budget, a model", kib(counted as usize, args.models));
    server.stop();

    let began = Instant::now();
    let server = home.start_with(&["--load", "when-asked"]);
    say("start until all are registered and none is loaded", seconds(began.elapsed()));
    let registered = settled(&server);
    say("resident of an empty server", mib(empty));
    say("resident with all registered, a model", kib(registered.saturating_sub(empty), args.models));
    let first = calls(&server, args.models);
    say("first call, compiled code cached: p50, p99", percentiles(first));
    let warm = calls(&server, args.models);
    say("warm call: p50, p99", percentiles(warm));
    say("resident after a call of each, a model", kib(settled(&server).saturating_sub(empty), args.models));
    server.stop();

    rounds(&home, &args, &mut say);
    println!("\n{table}");
}

/// A round is a load, a call and an unload of one of the models, in turn.
fn rounds(home: &Home, args: &Args, say: &mut impl FnMut(&str, String)) {
    let server = home.start_with(&["--model-control", "explicit"]);
    let mut resident = Vec::new();
    let began = Instant::now();
    for round in 0..args.rounds {
        let model = name(round % args.models);
        let path = format!("/v2/repository/models/{model}");
        let loaded = server.send("POST", &format!("{path}/load"), &[], &[]);
        assert_eq!(loaded.status, 200, "{loaded}");
        assert_setosa(&server.infer(&model, &flower()));
        let unloaded = server.send("POST", &format!("{path}/unload"), &[], &[]);
        assert_eq!(unloaded.status, 200, "{unloaded}");
        if (round + 1) % (args.rounds / 10).max(1) == 0 {
            resident.push(server.resident());
        }
    }
    say(&format!("{} rounds of load, call, unload", args.rounds), seconds(began.elapsed()));
    let tenths: Vec<String> = resident.iter().map(|bytes| format!("{:.1}", *bytes as f64 / MIB)).collect();
    say("resident after each tenth of the rounds, MiB", tenths.join(" "));
    say("resident half a minute later", mib(after(&server, Duration::from_secs(30))));
    let allocated = metric(&server, "vespid_allocator_bytes{kind=\"allocated\"}");
    say("of that handed out by the allocator", mib(allocated as usize));
}

fn name(model: usize) -> String {
    format!("iris-{model:04}")
}

fn push(server: &Server, args: &Args) {
    let iris = Archive::built("iris");
    for model in 0..args.models {
        let name = name(model);
        let plugin = custom_section(iris.data("iris.wasm"), model % args.plugins);
        let graph = described(iris.data("iris.onnx"), model % args.graphs);
        let package =
            iris.clone().manifest("name = \"iris\"\nversion", &format!("name = \"{name}\"\nversion"));
        let package = package.file("iris.wasm", plugin).file("iris.onnx", graph).to_tar();
        let answer = server.upload(&name, "1", &package);
        assert_eq!(answer.status, 201, "{answer}");
    }
}

/// The component with one more custom section (id 0, its length, and a name).
fn custom_section(component: &[u8], number: usize) -> Vec<u8> {
    let name = format!("n{number:03}");
    let length = u8::try_from(name.len()).unwrap();
    [component, &[0, length + 1, length], name.as_bytes()].concat()
}

/// The graph with a text in the field `doc_string` of its `ModelProto` (6, of a length).
fn described(graph: &[u8], number: usize) -> Vec<u8> {
    let text = format!("graph {number:03}");
    [graph, &[0x32, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// One call of each model.
fn calls(server: &Server, models: usize) -> Vec<Duration> {
    let call = |model| {
        let began = Instant::now();
        let answer = server.infer(&name(model), &flower());
        let took = began.elapsed();
        assert_setosa(&answer);
        took
    };
    (0..models).map(call).collect()
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    format!("{:.2} ms, {:.2} ms", at(50), at(99))
}

/// What is resident when the allocator has given back what it gives back.
fn settled(server: &Server) -> usize {
    after(server, Duration::from_secs(12))
}

fn after(server: &Server, time: Duration) -> usize {
    std::thread::sleep(time);
    server.resident()
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]);
    let text = String::from_utf8(text.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    line.trim().parse::<Value>().unwrap().as_f64().unwrap()
}

const MIB: f64 = 1024.0 * 1024.0;

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

fn kib(bytes: usize, models: usize) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0 / models as f64)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
