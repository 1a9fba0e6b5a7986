//! The dashboard asks for metrics that there are.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use vespid_tests::built;

use crate::rendered::chart;

/// Where metrics are told of, or made.
const TOLD: [&str; 4] =
    ["docs/metrics.md", "docs/stream.md", "host/gateway/src/metrics.rs", "host/operator/src/metrics.rs"];

/// What a histogram makes of its name.
const ENDINGS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// The names in a query that are metrics.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| ["vespid_", "nv_", "process_"].iter().any(|start| word.starts_with(start)))
}

#[test]
fn every_metric_of_the_dashboard_is_one() {
    let dashboard = fs::read_to_string(chart().join("dashboards/vespid.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let told: String = TOLD.iter().map(|file| fs::read_to_string(built::repository(file)).unwrap()).collect();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<&str> = queries.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 20);
    let asked: BTreeSet<&str> = queries.iter().flat_map(|query| metrics(query)).collect();
    for metric in asked {
        let base = ENDINGS.iter().find_map(|ending| metric.strip_suffix(ending)).unwrap_or(metric);
        let known = [metric, base]
            .iter()
            .any(|name| told.contains(&format!("`{name}`")) || told.contains(&format!("\"{name}\"")));
        assert!(known, "{metric} is told of in none of {TOLD:?}");
    }
}

#[test]
fn panels_lie_beside_each_other() {
    let dashboard = fs::read_to_string(chart().join("dashboards/vespid.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && taken.insert((x, y)), "{}", panel["title"]);
            }
        }
    }
}
