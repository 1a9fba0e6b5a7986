//! One model: its versions and what becomes of requests, its pods and what they say.

use comfy_table::Cell;
use kube::ResourceExt as _;
use vespid_resources::{Model, ModelStatus, ModelVersion, PackageSource, PodVersionState};

use super::tables::of;
use crate::ui::{self, BAD, GOOD, WARN};

/// Prints it.
pub(super) fn print(model: &Model) -> anyhow::Result<()> {
    let status = model.status.clone().unwrap_or_default();
    let ready = of(&status.conditions, "Ready");
    ui::result(format!("{} in the pool {}", ui::clean(&model.name_any()), ui::clean(&model.spec.pool)))?;
    match ready {
        Some(ready) => ui::result(ui::clean(&ready.message))?,
        None => ui::result("no operator has seen it")?,
    }
    ui::result("")?;
    ui::print_table(&versions(model, &status))?;
    if status.pods.is_empty() {
        return Ok(());
    }
    ui::result("")?;
    Ok(ui::print_table(&pods(&status))?)
}

fn versions(model: &Model, status: &ModelStatus) -> comfy_table::Table {
    let mut table = ui::table(["VERSION", "SHARE", "PODS", "PACKAGE", "DIGEST", "WHY"]);
    let total: u64 = model.spec.versions.iter().filter_map(|version| version.weight).map(u64::from).sum();
    for version in &model.spec.versions {
        let said = status.versions.iter().find(|status| status.version == version.version);
        table.add_row([
            Cell::new(version.version),
            Cell::new(share(version, total)),
            Cell::new(said.map_or(0, |said| said.ready)),
            Cell::new(ui::clean(place(&version.package))),
            Cell::new(ui::clean(said.and_then(|said| said.digest.as_deref()).unwrap_or("-"))),
            Cell::new(ui::clean(said.and_then(|said| said.message.as_deref()).unwrap_or_default())),
        ]);
    }
    table
}

/// What it gets of the requests that name no version.
fn share(version: &ModelVersion, total: u64) -> String {
    match (version.weight, total) {
        (None, 0) => "if the greatest".to_owned(),
        (Some(weight), 1..) if weight > 0 => format!("{:.1} %", f64::from(weight) * 100.0 / total as f64),
        _ => "when named".to_owned(),
    }
}

fn place(package: &PackageSource) -> &str {
    let place = package.oci.as_deref().or(package.store.as_deref());
    place.unwrap_or("the gateway")
}

fn pods(status: &ModelStatus) -> comfy_table::Table {
    let mut table = ui::table(["POD", "VERSION", "STATE", "WHY"]);
    for (pod, version) in
        status.pods.iter().flat_map(|pod| pod.versions.iter().map(move |version| (pod, version)))
    {
        let state = match version.state {
            PodVersionState::Ready => ui::coloured("Ready", GOOD),
            PodVersionState::Loading => ui::coloured("Loading", WARN),
            PodVersionState::Failed => ui::coloured("Failed", BAD),
            PodVersionState::Listed => Cell::new("Listed"),
        };
        let why = ui::clean(version.message.as_deref().unwrap_or_default());
        table.add_row([Cell::new(ui::clean(&pod.pod)), Cell::new(version.version), state, Cell::new(why)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_those_that_have_a_weight() {
        let version = |weight| ModelVersion { version: 1, package: PackageSource::default(), weight };
        assert_eq!(share(&version(Some(1)), 4), "25.0 %");
        assert_eq!(share(&version(Some(0)), 4), "when named");
        assert_eq!(share(&version(None), 4), "when named");
        assert_eq!(share(&version(None), 0), "if the greatest");
    }
}
