//! The tables of everything: a line a resource, with what kubectl's columns say, and why.

use comfy_table::Cell;
use kube::ResourceExt as _;
use vespid_resources::{Condition, ModelPool, StreamPrediction};

use super::Everything;
use crate::ui::{self, BAD, GOOD, WARN};

/// Prints a table for each kind that there is something of.
pub(super) fn print(found: &Everything, namespace: &str) -> anyhow::Result<()> {
    let Everything { models, pools, batches, streams } = found;
    if models.is_empty() && pools.is_empty() && batches.is_empty() && streams.is_empty() {
        ui::note(format!("the namespace {namespace} has nothing of Vespid's: `vespid deploy DIR` begins"));
        return Ok(());
    }
    let mut printed = false;
    table(&mut printed, ["MODEL", "READY", "POOL", "VERSIONS", "PODS", "WHY"], models, |model| {
        let status = model.status.clone().unwrap_or_default();
        let ready = of(&status.conditions, "Ready");
        [
            Cell::new(ui::clean(&model.name_any())),
            answer(ready),
            Cell::new(ui::clean(&model.spec.pool)),
            Cell::new(ui::clean(status.serving.as_deref().unwrap_or("-"))),
            Cell::new(status.ready_replicas.unwrap_or(0)),
            why(ready),
        ]
    })?;
    table(&mut printed, ["POOL", "READY", "PODS", "UP", "MODELS", "WHY"], pools, pool)?;
    table(&mut printed, ["BATCH", "STATE", "MODEL", "WORKERS", "ROWS", "WHY"], batches, |batch| {
        let status = batch.status.clone().unwrap_or_default();
        [
            Cell::new(ui::clean(&batch.name_any())),
            state(status.state.as_deref().unwrap_or("Unknown")),
            Cell::new(ui::clean(&batch.spec.model)),
            Cell::new(ui::clean(status.workers.as_deref().unwrap_or("-"))),
            status.report.as_ref().map_or_else(|| Cell::new("-"), |report| Cell::new(report.rows)),
            why(of(&status.conditions, "Complete")),
        ]
    })?;
    table(&mut printed, ["STREAM", "READY", "MODEL", "PODS", "LAG", "WHY"], streams, stream)
}

fn table<T, const N: usize>(
    printed: &mut bool,
    header: [&str; N],
    resources: &[T],
    row: impl Fn(&T) -> [Cell; N],
) -> anyhow::Result<()> {
    if resources.is_empty() {
        return Ok(());
    }
    if std::mem::replace(printed, true) {
        ui::result("")?;
    }
    let mut table = ui::table(header);
    table.add_rows(resources.iter().map(row));
    Ok(ui::print_table(&table)?)
}

fn pool(pool: &ModelPool) -> [Cell; 6] {
    let status = pool.status.clone().unwrap_or_default();
    let ready = of(&status.conditions, "Ready");
    // What the cluster does not take is told first, for it does not pass by itself.
    let refused = of(&status.conditions, "Accepted").filter(|condition| condition.status == "False");
    [
        Cell::new(ui::clean(&pool.name_any())),
        answer(ready),
        Cell::new(status.replicas.unwrap_or(0)),
        Cell::new(status.ready_replicas.unwrap_or(0)),
        Cell::new(status.models.unwrap_or(0)),
        why(refused.or(ready)),
    ]
}

fn stream(stream: &StreamPrediction) -> [Cell; 6] {
    let status = stream.status.clone().unwrap_or_default();
    let ready = of(&status.conditions, "Ready");
    [
        Cell::new(ui::clean(&stream.name_any())),
        answer(ready),
        Cell::new(ui::clean(&stream.spec.model)),
        Cell::new(status.replicas.unwrap_or(0)),
        status.lag.map_or_else(|| Cell::new("-"), Cell::new),
        why(ready),
    ]
}

/// A condition of that type.
pub(super) fn of<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether it holds. Where nobody has said so yet, the operator is not there.
pub(super) fn answer(condition: Option<&Condition>) -> Cell {
    match condition.map(|condition| condition.status.as_str()) {
        Some("True") => ui::coloured("yes", GOOD),
        Some("False") => ui::coloured("no", BAD),
        _ => ui::coloured("unknown", WARN),
    }
}

fn why(condition: Option<&Condition>) -> Cell {
    Cell::new(condition.map_or_else(
        || "no operator has seen it".to_owned(),
        |condition| if condition.status == "True" { String::new() } else { ui::clean(&condition.message) },
    ))
}

fn state(state: &str) -> Cell {
    match state {
        "Complete" => ui::coloured(state, GOOD),
        "Failed" => ui::coloured(state, BAD),
        "Running" => Cell::new(state),
        other => ui::coloured(&ui::clean(other), WARN),
    }
}
