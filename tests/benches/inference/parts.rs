//! Where the time of a call goes, by what the serving core itself counts.
//!
//! The parts are those of `docs/metrics.md`; `guest` is what is left of `compute_infer` beside the runs of graphs, and `rest`
//! what is left of the whole: the way from thread to thread.

use std::fs;
use std::sync::Arc;

use vespid_serving::{ReadyModel, Statistics, Times};
use vespid_tests::built::repository;
use vespid_types::NamedTensor;

use crate::host::{self, Host, Requests};
use crate::pairs::{Plan, Spread, time};
use crate::{table, texts};

/// The parts, in the order of the table.
const PARTS: usize = 6;

pub(crate) fn run(plan: &Plan) {
    let mut rows = Vec::new();
    for backend in host::BACKENDS {
        let host = Host::new();
        let graph = host::backend(backend);
        let image = fs::read(repository("plugins/image-classify/cases/baseline-420.jpg")).unwrap();
        let image: Vec<Vec<NamedTensor>> = vec![vec![texts::bytes("image", &[image])]];
        for (package, requests) in [("embed", texts::equal()), ("image-classify", image)] {
            let model = host.add(package, package, &graph);
            let requests: Requests = requests.into();
            for callers in [1, 16] {
                let parts = measure(plan, &host, &model, &requests, callers);
                rows.push(row(format!("{package}, {backend}, {callers}"), &parts));
            }
        }
    }
    table(
        "Where a call's time goes",
        ["model, backend, callers", "whole", "queue", "input", "guest", "graph", "output", "rest"],
        rows,
    );
}

/// Seconds of a call by rounds: the whole, and its parts.
struct Parts {
    whole: Vec<f64>,
    parts: [Vec<f64>; PARTS],
}

fn measure(plan: &Plan, host: &Host, model: &Arc<ReadyModel>, requests: &Requests, callers: usize) -> Parts {
    // Each request as often as the others, and each caller several.
    let unit = (callers * 8).next_multiple_of(requests.len()) as u64;
    let warm_up = host.calls(model, requests, callers, unit);
    let units = (plan.time.as_secs_f64() / warm_up.as_secs_f64()).ceil() as u64;
    let calls = units * unit;
    let mut parts = Parts { whole: Vec::new(), parts: Default::default() };
    for _ in 0..plan.rounds {
        let before = model.statistics();
        host.calls(model, requests, callers, calls);
        parts.add(&before, &model.statistics());
    }
    parts
}

impl Parts {
    fn add(&mut self, before: &Statistics, after: &Statistics) {
        assert_eq!(after.fail, before.fail);
        let calls = (after.success.count - before.success.count) as f64;
        let each =
            |part: fn(&Times) -> u64| (part(&after.success) - part(&before.success)) as f64 / 1e9 / calls;
        let whole = each(|times| times.total);
        let guest = each(|times| times.infer) - each(|times| times.graph);
        let (queue, input) = (each(|times| times.queue), each(|times| times.input));
        let (graph, output) = (each(|times| times.graph), each(|times| times.output));
        let rest = whole - queue - input - guest - graph - output;
        self.whole.push(whole);
        let parts = [queue, input, guest, graph, output, rest];
        self.parts.iter_mut().zip(parts).for_each(|(all, part)| all.push(part));
    }
}

fn row(name: String, parts: &Parts) -> [String; PARTS + 2] {
    let whole = Spread::of(parts.whole.clone()).median;
    let part = |values: &Vec<f64>| {
        let median = Spread::of(values.clone()).median;
        format!("{} ({:.1} %)", time(median), 100.0 * median / whole)
    };
    let [queue, input, guest, graph, output, rest] = parts.parts.each_ref().map(part);
    [name, time(whole), queue, input, guest, graph, output, rest]
}
