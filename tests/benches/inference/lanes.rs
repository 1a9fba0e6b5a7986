//! What lanes give where callers are many, and what they take where there is one: `embed` with batches against the same
//! with `max_rows = 1`, through the serving core.

use std::sync::Arc;

use vespid_serving::{ReadyModel, Statistics};

use crate::host::{self, Host, Requests};
use crate::pairs::{Compared, Plan, compare, time};
use crate::{table, texts};

const CALLERS: usize = 16;
/// Calls of each of the callers, at least: the first and the last are not in full company.
const CALLS: usize = 8;

/// Many callers: what counts is how many calls are answered.
pub(crate) fn many(plan: &Plan) {
    let rows = cases(plan, CALLERS, |name, compared, rows| {
        let a_second = |seconds: f64| format!("{:.0}", 1.0 / seconds);
        let [one, other] = [compared.one().median, compared.other().median].map(a_second);
        [name, one, other, compared.throughput().to_string(), format!("{rows:.1}")]
    });
    table(
        &format!("embed, {CALLERS} callers with a row each: batches against max_rows = 1"),
        ["backend, texts", "calls/s, max_rows = 1", "calls/s, batches", "times as many", "rows a run"],
        rows,
    );
}

/// One caller: what counts is how long it waits.
pub(crate) fn alone(plan: &Plan) {
    let rows = cases(plan, 1, |name, compared, _| {
        let [one, other] = [compared.one().median, compared.other().median].map(time);
        [name, one, other, compared.times().to_string()]
    });
    table(
        "embed, one caller: batches against max_rows = 1",
        ["backend, texts", "a call, max_rows = 1", "a call, batches", "times as long"],
        rows,
    );
}

/// Measures each backend with each kind of texts; a row of each.
fn cases<const N: usize>(
    plan: &Plan,
    callers: usize,
    row: impl Fn(String, &Compared, f64) -> [String; N],
) -> Vec<[String; N]> {
    let mut rows = Vec::new();
    for backend in host::BACKENDS {
        let host = Host::new();
        let graph = host::backend(backend);
        let none = host.add("embed", "none", &format!("{graph}\nbatching = {{ max_rows = 1 }}"));
        let batches = host.add("embed", "batches", &graph);
        for (kind, requests) in [("one length", texts::equal()), ("mixed", texts::mixed())] {
            let requests: Requests = requests.into();
            let mut before = Statistics::default();
            let calls = if callers > 1 { callers * CALLS } else { 1 };
            let unit = calls.next_multiple_of(requests.len());
            let compared = compare(
                &plan.in_units_of(unit as u64),
                &mut |calls| host.calls(&none, &requests, callers, calls),
                &mut |calls| host.calls(&batches, &requests, callers, calls),
                || before = batches.statistics(),
            );
            assert_eq!(none.statistics().batches.keys().copied().collect::<Vec<_>>(), [1]);
            let run = rows_a_run(&before, &batches);
            rows.push(row(format!("{backend}, {kind}"), &compared, run));
        }
    }
    rows
}

/// Rows of a run, on average.
fn rows_a_run(before: &Statistics, model: &Arc<ReadyModel>) -> f64 {
    let after = model.statistics();
    let rows = after.inference_count - before.inference_count;
    rows as f64 / (after.execution_count - before.execution_count) as f64
}
