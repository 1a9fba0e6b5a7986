//! A server with eight models that is asked more than it can do, and a light model beside a heavy one.
//!
//! Each request is sent at its time, whatever becomes of the others (`vespid bench --rate`), so that the latency of `iris` is
//! what its callers see. The clients take their part of the same processor. An answer that is lost fails the bench.

use std::time::Duration;

use vespid_tests::archive::Archive;
use vespid_tests::built;
use vespid_tests::load::{self, Load, Outcome};
use vespid_tests::server::Server;

use crate::pairs::time;
use crate::table;

const IRIS: &[&str] = &["measurements=5.1,3.5,1.4,0.2"];
const TEXT: &[&str] = &["text=The train to Vienna leaves at half past seven."];
const IMAGE: &[&str] = &["--file", "plugins/image-classify/cases/baseline-420.jpg"];

/// Of the light model whose latency is looked at: far from what it could do.
const LIGHT: u32 = 50;
/// Of each heavy model: far more than it can do.
const HEAVY: u32 = 300;
/// Of the other light ones.
const OTHERS: u32 = 200;
/// Of each model: all together more than a server takes in.
const OUTSTANDING: u32 = 256;

pub(crate) fn run(time: Duration) {
    let server = Server::configured(
        &["--onnxruntime", &built::onnxruntime()],
        &["iris", "iris-native", "simple", "file-type", "embed", "image-classify"],
    );
    for (package, name) in [("embed", "embed-2"), ("image-classify", "image-classify-2")] {
        let renamed =
            Archive::built(package).manifest(&format!("name = \"{package}\""), &format!("name = \"{name}\""));
        let answer = server.upload(name, "1", &renamed.to_tar());
        assert_eq!(answer.status, 201, "{answer}");
    }
    let before = server.resident();
    let (iris, mut all) = loads();
    let mut rows = Vec::new();
    let mut stage = |name: &str, loads: &[Load]| {
        let (outcomes, peak) = load::peak_memory(&server, || load::run(&server, loads, time));
        outcomes.iter().for_each(Outcome::check);
        load::check_recovered(&server);
        rows.extend(outcomes.iter().map(|outcome| row(name, outcome)));
        peak
    };
    let alone = stage("alone", std::slice::from_ref(&iris));
    let beside = stage("beside one heavy model", &[iris.clone(), all[0].clone()]);
    all.insert(0, iris);
    let under = stage("eight models", &all);
    table(
        "Under more load than the server can do",
        ["load", "model", "sent", "answered", "refused (503)", "late (504)", "p50", "p99"],
        rows,
    );
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    println!(
        "\nresident: {} with the models loaded; at most {} with iris alone, {} beside one heavy model, {} with all",
        mib(before),
        mib(alone),
        mib(beside),
        mib(under)
    );
    server.stop();
}

/// The model that is looked at, and the others, of which the first is a heavy one.
fn loads() -> (Load, Vec<Load>) {
    let heavy = |model, input| Load::new(model, input, HEAVY, OUTSTANDING);
    let light = |model, input| Load::new(model, input, OTHERS, OUTSTANDING);
    let others = vec![
        heavy("image-classify", IMAGE),
        heavy("image-classify-2", IMAGE),
        heavy("embed", TEXT),
        heavy("embed-2", TEXT),
        light("file-type", &["--file", "README.md"]),
        light("iris-native", &[]),
        light("simple", &[]),
    ];
    (Load::new("iris", IRIS, LIGHT, OUTSTANDING), others)
}

fn row(load: &str, outcome: &Outcome) -> [String; 8] {
    let Outcome { model, sent, answered, refused, late, latency, .. } = outcome;
    let [median, high] = latency
        .map_or_else(|| ["-".to_owned(), "-".to_owned()], |latency| latency.map(|micros| time(micros / 1e6)));
    let [sent, answered, refused, late] = [sent, answered, refused, late].map(u64::to_string);
    [load.to_owned(), model.clone(), sent, answered, refused, late, median, high]
}
