//! The embedded backend against ONNX Runtime: the same graph on the same inputs, through lanes, with one caller.

use std::cell::Cell;
use std::fs;
use std::num::NonZero;
use std::time::{Duration, Instant};

use vespid_nn::LaneHandle;
use vespid_tests::built::repository;
use vespid_types::{BackendName, NamedTensor};

use crate::graphs::{self, Source};
use crate::pairs::{Plan, compare, time};
use crate::table;

/// A graph, and the rows and lengths that it is asked for.
struct Case {
    graph: Source,
    shapes: Vec<(u64, u64)>,
}

fn cases() -> Vec<Case> {
    let plain = vec![(1, 1), (8, 1)];
    let iris = Source { name: "iris", data: graphs::of_package("iris", "iris.onnx").into() };
    // As Magika publishes it: the package holds it rewritten for one of the two.
    let file = repository("plugins/file-type/assets/model.onnx");
    let magika = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let magika = Source { name: "magika", data: magika.into() };
    let lengths = [16, 64, 256].into_iter().flat_map(|length| [(1, length), (8, length)]);
    vec![
        Case { graph: iris, shapes: plain.clone() },
        Case { graph: magika, shapes: plain.clone() },
        Case { graph: Source::minilm(), shapes: lengths.collect() },
        Case { graph: Source::efficientnet(), shapes: plain },
    ]
}

pub(crate) fn run(plan: &Plan) {
    let mut rows = Vec::new();
    for Case { graph, shapes } in cases() {
        for threads in [NonZero::new(1), None] {
            let lanes =
                [BackendName::Onnxruntime, BackendName::Embedded].map(|name| graph.lane(name, threads));
            for &(count, length) in &shapes {
                let inputs = graphs::inputs(lanes[0].signature(), count, length);
                let length = if length > 1 { format!(" x {length}") } else { String::new() };
                let threads = threads.map_or("all".to_owned(), |threads| threads.to_string());
                let name = format!("{}, {count}{length}", graph.name);
                rows.push(case(plan, name, threads, &lanes, &inputs));
            }
        }
    }
    table(
        "The embedded backend against ONNX Runtime, one caller",
        ["graph, rows (x length)", "threads", "onnxruntime", "embedded", "times as long"],
        rows,
    );
}

fn case(
    plan: &Plan,
    name: String,
    threads: String,
    [onnxruntime, embedded]: &[LaneHandle; 2],
    inputs: &[NamedTensor],
) -> [String; 5] {
    let compared = compare(
        plan,
        &mut |calls| repeat(onnxruntime, inputs, calls),
        &mut |calls| repeat(embedded, inputs, calls),
        || {},
    );
    let [one, other] = [compared.one().median, compared.other().median].map(time);
    [name, threads, one, other, compared.times().to_string()]
}

/// Runs a graph so many times, one after the other.
pub(crate) fn repeat(lane: &LaneHandle, inputs: &[NamedTensor], calls: u64) -> Duration {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = graphs::single();
    }
    let last = Cell::new(0);
    let took = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let began = Instant::now();
            for _ in 0..calls {
                last.set(graphs::compute(lane, inputs).await.len());
            }
            began.elapsed()
        })
    });
    assert!(last.get() > 0);
    took
}
