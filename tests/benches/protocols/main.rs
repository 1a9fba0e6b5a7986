//! What the protocols cost: JSON, binary tensors and gRPC side by side, on a small request and on a large one, each beside
//! a handler of the same kind that reads the request and does nothing. Run by `cargo xtask bench protocols`.
//!
//! The measure is the processor time of every thread but the clients', as the kernel counts it: how many requests one core
//! has time for in a second. Read the ratios. The cases are measured in turn, several rounds, and the best of each counts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bare;
mod clients;
mod servers;

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use tokio::runtime::Builder;

use clients::{Client, Request};
use servers::Servers;

/// Requests under way at a time, each on a connection of its own.
const CONCURRENCY: usize = 16;
const ROUNDS: usize = 5;
/// How long a case is measured in a round, about.
const ROUND: Duration = Duration::from_millis(600);

/// One protocol on one model, and the best that was measured of it.
struct Case {
    model: &'static str,
    protocol: &'static str,
    client: Client,
    best: Duration,
}

fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let servers = Servers::start(dir.path().join("store"));
    let row: Vec<f32> = vec![5.1, 3.5, 1.4, 0.2];
    let pixels: Vec<f32> = (0..3 * 224 * 224_u32).map(|n| (n as f32 * 0.731).sin()).collect();
    let iris = Request { model: "iris", input: "measurements", shape: vec![1, 4], values: row };
    let pool = Request { model: "pool", input: "image", shape: vec![1, 3, 224, 224], values: pixels };

    let mut cases = Vec::new();
    runtime.block_on(async {
        for request in [&iris, &pool] {
            for protocol in clients::PROTOCOLS {
                for (kind, server) in [("model", servers.vespid), ("bare", servers.bare)] {
                    let client = Client::connect(protocol, kind, server, request, CONCURRENCY).await;
                    cases.push(Case { model: request.model, protocol, client, best: Duration::MAX });
                }
            }
        }
        for case in &mut cases {
            case.measure(200).await;
        }
        for _ in 0..ROUNDS {
            for case in &mut cases {
                let time = case.best.max(Duration::from_micros(1));
                let requests = (ROUND.as_nanos() / time.as_nanos()).clamp(64, 100_000);
                case.measure(usize::try_from(requests).unwrap()).await;
            }
        }
    });
    println!("{}", report(&cases));
    // The servers run until the process ends.
    drop(dir);
    std::process::exit(0);
}

impl Case {
    async fn measure(&mut self, requests: usize) {
        let before = servers::processor_time();
        self.client.run(requests).await;
        let spent = servers::processor_time().checked_sub(before).unwrap();
        self.best = self.best.min(spent / u32::try_from(requests).unwrap());
    }
}

fn report(cases: &[Case]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["model", "protocol", "requests/s/core", "us/request", "bare handler", "model / bare"]);
    for pair in cases.chunks_exact(2) {
        let [model, bare] = pair else { continue };
        let micros = |case: &Case| case.best.as_secs_f64() * 1e6;
        table.add_row([
            model.model.to_owned(),
            model.protocol.to_owned(),
            format!("{:.0}", 1e6 / micros(model)),
            format!("{:.1}", micros(model)),
            format!("{:.1}", micros(bare)),
            format!("{:.1}", micros(model) / micros(bare)),
        ]);
    }
    for column in 2..6 {
        table.column_mut(column).unwrap().set_cell_alignment(CellAlignment::Right);
    }
    table
}
