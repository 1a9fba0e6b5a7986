//! What the gateway says of models by itself, from the table: lists, states, traffic.
//!
//! Contract: as the host has it of its own models. A version is ready where it can be asked: a pod has it in memory, or loads it then.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use vespid_package::Traffic;
use vespid_types::{Error, ErrorCode};

use crate::table::{Route, Table, VersionRoute};

/// Triton's extensions that are supported over the gateway, by Triton's names.
pub(crate) const EXTENSIONS: [&str; 9] = [
    "binary_tensor_data",
    "classification",
    "generate",
    "model_configuration",
    "parameters",
    "schedule_policy",
    "sequence",
    "sequence(string_id)",
    "statistics",
];

/// The name that the server goes by.
pub(crate) const NAME: &str = "vespid";

/// Its version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A version in the index.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

/// Every version of every model; of those only that can be asked where `ready`.
pub(crate) fn index(table: &Table, ready: bool) -> Vec<Entry> {
    let versions =
        table.routes.values().flat_map(|route| route.versions.iter().map(move |version| (route, version)));
    let entry = |(route, (version, of_version)): (&std::sync::Arc<Route>, (&u64, &VersionRoute))| {
        let (state, reason) = state(route, of_version);
        Entry { name: route.name().to_owned(), version: version.to_string(), state, reason }
    };
    versions.map(entry).filter(|entry| !ready || entry.state == READY).collect()
}

const READY: &str = "READY";
const UNKNOWN: &str = "UNKNOWN";

/// In Triton's words, and why.
fn state(route: &Route, version: &VersionRoute) -> (&'static str, String) {
    let standing = &version.standing;
    let failed = || version.message.clone().unwrap_or_else(|| "a pod cannot load it".to_owned());
    if standing.ready > 0 {
        return (READY, String::new());
    }
    if route.pool.open().next().is_none() {
        if route.pool.may_sleep {
            return (READY, "its pool has no pods, and is woken when it is asked".to_owned());
        }
        return ("UNAVAILABLE", format!("pool '{}' has no pod that is ready", route.pool.name));
    }
    if standing.failed > 0 {
        return ("UNAVAILABLE", failed());
    }
    if standing.loading > 0 {
        return ("LOADING", String::new());
    }
    // Pods load it when it is asked.
    if standing.listed > 0 || route.model.spec.replicas == 0 {
        return (READY, String::new());
    }
    (UNKNOWN, "no pod has said anything of it yet".to_owned())
}

/// Whether a model, or one of its versions, can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// No pod has said anything of it: whoever asks a pod knows.
    Unsaid,
    Not(String),
}

/// Says whether a model, or one of its versions, can be asked.
///
/// # Errors
/// `NOT_FOUND`.
pub(crate) fn readiness(table: &Table, name: &str, version: Option<u64>) -> Result<Readiness, Error> {
    let route = table.route(name)?;
    let states: Vec<_> = match version {
        Some(version) => vec![state(route, route.version(version)?)],
        None => route.versions.values().map(|version| state(route, version)).collect(),
    };
    let is = |wanted: &str| states.iter().any(|(state, _)| *state == wanted);
    if is(READY) {
        return Ok(Readiness::Ready);
    }
    if is(UNKNOWN) {
        return Ok(Readiness::Unsaid);
    }
    let why = states.last().map(|(_, why)| why.as_str()).filter(|why| !why.is_empty());
    Ok(Readiness::Not(why.unwrap_or("it is being loaded").to_owned()))
}

/// What is said of a model that is not ready.
pub(crate) fn not_ready(name: &str, why: &str) -> Error {
    Error::new(ErrorCode::Unavailable, format!("model '{name}' is not ready: {why}"))
}

/// OpenAI's list of models.
pub(crate) fn openai(table: &Table) -> Value {
    let object = |route: &std::sync::Arc<Route>| {
        let created = route.model.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        json!({"id": route.name(), "object": "model", "created": created, "owned_by": NAME})
    };
    let data: Vec<_> = table.routes.values().map(object).collect();
    json!({"object": "list", "data": data})
}

/// How a model's traffic is led, as the host's document has it.
///
/// # Errors
/// `NOT_FOUND`.
pub(crate) fn traffic(table: &Table, name: &str) -> Result<Traffic, Error> {
    let route = table.route(name)?;
    let weights = route.versions.iter().filter_map(|(version, of_version)| {
        Some((version.to_string(), of_version.standing.weight.filter(|weight| *weight > 0)?))
    });
    let weights: BTreeMap<_, _> = weights.collect();
    let shadow = route.model.spec.shadow.as_ref();
    let shadow =
        shadow.map(|shadow| json!({"version": shadow.version.to_string(), "percent": shadow.percent}));
    let document = match shadow {
        Some(shadow) => json!({"weights": weights, "shadow": shadow}),
        None => json!({"weights": weights}),
    };
    // What is left out is as usual there.
    Traffic::parse(document.to_string().as_bytes()).map_err(Error::from)
}

#[cfg(test)]
mod tests {
    use vespid_resources::Shadow;

    use super::*;
    use crate::testing;

    #[test]
    fn states_are_told_in_triton_s_words() {
        let mut world = testing::World::default();
        world.pool("default", None);
        world.model("a", &[(1, None), (2, None), (3, None), (4, None)]);
        world.says(
            "a",
            "pod-0",
            &[(1, "Ready", None), (2, "Loading", None), (3, "Failed", Some("too large"))],
        );
        world.pods("default", &["127.0.0.1:1", "127.0.0.1:2"]);
        let table = world.table();
        let states: Vec<_> =
            index(&table, false).into_iter().map(|entry| (entry.state, entry.reason)).collect();
        let text = str::to_owned;
        assert_eq!(
            states,
            [
                ("READY", String::new()),
                ("LOADING", String::new()),
                ("UNAVAILABLE", text("too large")),
                ("UNKNOWN", text("no pod has said anything of it yet")),
            ]
        );
        assert_eq!(index(&table, true).len(), 1);
        let of = |version| readiness(&table, "a", version).unwrap();
        assert_eq!(
            (of(None), of(Some(1)), of(Some(4))),
            (Readiness::Ready, Readiness::Ready, Readiness::Unsaid)
        );
        assert_eq!(of(Some(2)), Readiness::Not(text("it is being loaded")));
        assert_eq!(of(Some(3)), Readiness::Not(text("too large")));
        let unknown = readiness(&table, "a", Some(9)).unwrap_err();
        assert!(unknown.message().contains("its versions are 1, 2, 3, 4"), "{unknown}");
        assert_eq!(readiness(&table, "b", None).unwrap_err().code(), ErrorCode::NotFound);
    }

    #[test]
    fn a_pool_without_pods_is_ready_where_it_is_woken() {
        for (minimum, state) in [(Some(0), "READY"), (Some(1), "UNAVAILABLE")] {
            let mut world = testing::World::default();
            world.pool("default", minimum);
            world.model("a", &[(1, None)]);
            assert_eq!(index(&world.table(), false)[0].state, state);
        }
    }

    #[test]
    fn traffic_is_told_as_the_host_tells_it() {
        let mut world = testing::World::default();
        world.model("a", &[(1, Some(9)), (2, Some(0)), (3, None)]);
        world.change("a", |model| model.spec.shadow = Some(Shadow { version: 3, percent: 5 }));
        let told = String::from_utf8(traffic(&world.table(), "a").unwrap().to_json()).unwrap();
        assert_eq!(
            told,
            r#"{"versions":"all","weights":{"1":9},"shadow":{"version":"3","percent":5.0,"tolerance":0.00001}}"#
        );
    }
}
