//! What the sandbox takes: a plugin's call against the same code compiled for this machine, over the same lane.
//!
//! The time of the guest is what the engine counts for it, that for which it held a thread: instantiation, the guest's own
//! code, and the host calls that it makes. Beside it stands what the native code takes before and after the graph.

use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

use vespid_engine::PluginUsage;
use vespid_tests::built::repository;

use crate::pairs::{Plan, compare, time};
use crate::plugins::{Sides, Subject};
use crate::{host, table, texts};

pub(crate) fn run(plan: &Plan) {
    let mut rows = Vec::new();
    for backend in host::BACKENDS {
        let embed = Subject::embed().start(backend);
        let text = |text: &str| text.as_bytes().to_vec();
        for (name, elements) in [
            ("embed, a sentence", vec![text(texts::short())]),
            ("embed, 256 tokens", vec![text(&texts::long())]),
            ("embed, 8 sentences", vec![text(texts::short()); 8]),
        ] {
            rows.push(case(plan, format!("{backend}, {name}"), &embed, &elements));
        }
        let images = Subject::image_classify().start(backend);
        let image = |name: &str| fs::read(repository("plugins/image-classify/cases").join(name)).unwrap();
        for (name, elements) in [
            ("image-classify, a JPEG", vec![image("baseline-420.jpg")]),
            ("image-classify, a PNG", vec![image("rgb.png")]),
            ("image-classify, 8 JPEGs", vec![image("baseline-420.jpg"); 8]),
        ] {
            rows.push(case(plan, format!("{backend}, {name}"), &images, &elements));
        }
    }
    table(
        "A plugin's call against its own code native, over the same lane",
        ["backend, call", "native", "plugin", "times as long", "native before and after the graph", "guest"],
        rows,
    );
}

fn case(plan: &Plan, name: String, sides: &Sides, elements: &[Vec<u8>]) -> [String; 6] {
    sides.check(elements);
    // Of all measured calls; the warm-up is taken out.
    let (mut before, native) = (PluginUsage::default(), Cell::new(Native::default()));
    let compared = compare(
        plan,
        &mut |calls| {
            sides.take_in_graph();
            let took = repeat(calls, || drop(sides.native(elements)));
            native.set(native.get().and(calls, took, sides.take_in_graph()));
            took
        },
        &mut |calls| repeat(calls, || drop(sides.component(elements))),
        || {
            before = sides.plugin.usage();
            native.take();
        },
    );
    let guest = sides.plugin.usage().cpu.saturating_sub(before.cpu).as_secs_f64() / compared.calls as f64;
    [
        name,
        time(compared.one().median),
        time(compared.other().median),
        compared.times().to_string(),
        time(native.get().around_graph()),
        time(guest),
    ]
}

/// The native side's calls.
#[derive(Clone, Copy, Default)]
struct Native {
    calls: u64,
    all: Duration,
    graph: Duration,
}

impl Native {
    fn and(self, calls: u64, all: Duration, graph: Duration) -> Self {
        Self { calls: self.calls + calls, all: self.all + all, graph: self.graph + graph }
    }

    /// Seconds of a call outside of the graph.
    fn around_graph(&self) -> f64 {
        self.all.saturating_sub(self.graph).as_secs_f64() / self.calls as f64
    }
}

fn repeat(calls: u64, mut call: impl FnMut()) -> Duration {
    let began = Instant::now();
    (0..calls).for_each(|_| call());
    began.elapsed()
}
