//! What is said of a model.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use vespid_resources::{
    Model, ModelPool, ModelStatus, ModelVersion, PodModel, PodVersion, PodVersionState, Reason,
    VersionStatus, set_condition,
};

use crate::metadata::{Component, selector_text};

/// A pod of the model's pool.
pub(super) struct PodSeen {
    pub(super) name: String,
    pub(super) ready: bool,
}

/// What there is around the model.
pub(super) struct Seen<'a> {
    pub(super) pool: Option<&'a ModelPool>,
    pub(super) pods: &'a [PodSeen],
}

/// The operator's part of a status.
pub(super) fn status(model: &Model, seen: &Seen<'_>) -> ModelStatus {
    let before = model.status.as_ref();
    let said: Vec<&PodModel> = before
        .iter()
        .flat_map(|status| &status.pods)
        .filter(|said| seen.pods.iter().any(|pod| pod.name == said.pod))
        .collect();
    let views: Vec<View<'_>> =
        model.spec.versions.iter().map(|version| View::of(model, version, &said)).collect();
    let loaded =
        |said: &&&PodModel| said.versions.iter().any(|version| version.state == PodVersionState::Ready);
    let shares = shares(&views);
    let (holds, reason) = ready(model, seen, &views, &shares);
    let mut conditions = before.map(|status| status.conditions.clone()).unwrap_or_default();
    set_condition(&mut conditions, "Ready", holds, reason, model.metadata.generation);
    ModelStatus {
        observed_generation: model.metadata.generation,
        conditions,
        ready_replicas: i32::try_from(said.iter().filter(loaded).count()).ok(),
        selector: Some(selector_text(Component::Pool, &model.spec.pool)),
        serving: Some(serving(&shares)),
        versions: views.iter().map(View::status).collect(),
        pods: Vec::new(),
    }
}

/// A version, in all pods together.
struct View<'a> {
    version: &'a ModelVersion,
    digest: Option<String>,
    ready: i32,
    listed: bool,
    /// Pods that cannot load it, and why.
    failed: Vec<(&'a str, String)>,
    /// Whether what they read is another package than before.
    changed: bool,
}

impl<'a> View<'a> {
    fn of(model: &Model, version: &'a ModelVersion, said: &[&'a PodModel]) -> Self {
        let of_pod = |pod: &'a PodModel| {
            let said = pod.versions.iter().find(|said| said.version == version.version)?;
            Some((pod.pod.as_str(), said))
        };
        let said: Vec<(&str, &PodVersion)> = said.iter().copied().filter_map(of_pod).collect();
        let before = model.status.iter().flat_map(|status| &status.versions);
        let before = before.into_iter().find(|known| known.version == version.version);
        let read = said.iter().find(|(_, said)| said.state != PodVersionState::Failed);
        let digest = version
            .package
            .upload
            .clone()
            .or_else(|| before?.digest.clone())
            .or_else(|| read?.1.digest.clone());
        let other = |said: &PodVersion| said.digest.is_some() && said.digest != digest;
        let failed = |(pod, said): &(&'a str, &PodVersion)| {
            let reason = said.message.clone().unwrap_or_else(|| "no reason is given".to_owned());
            match said.state {
                PodVersionState::Failed => Some((*pod, reason)),
                _ if other(said) => Some((*pod, "it has another package than the first pod had".to_owned())),
                _ => None,
            }
        };
        let is_ready = |said: &PodVersion| said.state == PodVersionState::Ready && !other(said);
        Self {
            ready: i32::try_from(said.iter().filter(|(_, said)| is_ready(said)).count()).unwrap_or(i32::MAX),
            listed: said.iter().any(|(_, said)| said.state == PodVersionState::Listed),
            failed: said.iter().filter_map(failed).collect(),
            changed: digest.is_some() && said.iter().any(|(_, said)| other(said)),
            version,
            digest,
        }
    }

    fn message(&self) -> Option<String> {
        let (pod, reason) = self.failed.first()?;
        let others = match self.failed.len() {
            1 => String::new(),
            all => format!(" (and {} more)", all - 1),
        };
        Some(format!("pod {pod}: {reason}{others}"))
    }

    fn status(&self) -> VersionStatus {
        VersionStatus {
            version: self.version.version,
            digest: self.digest.clone(),
            ready: self.ready,
            message: self.message(),
        }
    }
}

/// Versions that requests without one are led to, with their shares: as the weights say, else the greatest that can answer.
fn shares<'a, 'b>(views: &'b [View<'a>]) -> BTreeMap<i64, (&'b View<'a>, f64)> {
    let weight = |view: &View<'_>| f64::from(view.version.weight.unwrap_or(0));
    let sum: f64 = views.iter().map(weight).sum();
    if sum > 0.0 {
        let weighted = views.iter().filter(|view| weight(view) > 0.0);
        return weighted.map(|view| (view.version.version, (view, weight(view) / sum))).collect();
    }
    let greatest = |good: fn(&View<'_>) -> bool| {
        views.iter().filter(|view| good(view)).max_by_key(|view| view.version.version)
    };
    let one = greatest(|view| view.ready > 0)
        .or_else(|| greatest(|view| view.listed && view.failed.is_empty()))
        .or_else(|| greatest(|view| view.failed.is_empty()))
        .or_else(|| greatest(|_| true));
    one.map(|view| (view.version.version, (view, 1.0))).into_iter().collect()
}

/// The shares in a line: `1 (90%), 2 (10%)`.
fn serving(shares: &BTreeMap<i64, (&View<'_>, f64)>) -> String {
    let part = |(version, (_, share)): (&i64, &(&View<'_>, f64))| {
        let percent = (share * 1000.0).round() / 10.0;
        format!("{version} ({percent}%)")
    };
    match shares.len() {
        1 => shares.keys().map(ToString::to_string).collect(),
        _ => shares.iter().map(part).collect::<Vec<_>>().join(", "),
    }
}

fn ready(
    model: &Model,
    seen: &Seen<'_>,
    views: &[View<'_>],
    shares: &BTreeMap<i64, (&View<'_>, f64)>,
) -> (bool, Reason) {
    let name = &model.spec.pool;
    let Some(pool) = seen.pool else {
        let message =
            format!("there is no pool '{name}' in this namespace: make one, or name another in spec.pool");
        return (false, Reason::new("PoolMissing", message));
    };
    if !seen.pods.iter().any(|pod| pod.ready) {
        return away(pool);
    }
    // What gets requests counts; another version that does not load is told beside it.
    for (version, (view, _)) in shares {
        if view.ready > 0 || (model.spec.replicas == 0 && view.failed.is_empty()) {
            continue;
        }
        let said = view.message();
        return (
            false,
            match said {
                Some(said) if view.changed => Reason::new("DigestChanged", changed(*version, &said)),
                Some(said) => Reason::new("LoadFailed", format!("version {version} does not load: {said}")),
                None => Reason::new("Loading", format!("no pod has loaded version {version} yet")),
            },
        );
    }
    let beside: Vec<String> = views
        .iter()
        .filter_map(|view| Some(format!("; version {}: {}", view.version.version, view.message()?)))
        .collect();
    let message = match model.spec.replicas {
        0 if shares.values().all(|(view, _)| view.ready == 0) => "a pod loads it when it is asked",
        _ => "requests are answered",
    };
    (true, Reason::new("Serving", format!("{message}{}", beside.concat())))
}

fn changed(version: i64, said: &str) -> String {
    format!(
        "version {version} leads to another package than when it was first read, and a version is never overwritten: {said}; \
         add the new package as another version"
    )
}

/// What is so of a pool of which no pod is ready. One that sleeps is woken by the first call.
fn away(pool: &ModelPool) -> (bool, Reason) {
    let name = pool.name_any();
    let conditions = pool.status.iter().flat_map(|status| &status.conditions);
    match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.reason == "Asleep" => (
            true,
            Reason::new(
                "PoolAsleep",
                format!("the pool '{name}' has no pods, and gets one with the first call"),
            ),
        ),
        Some(condition) => {
            (false, Reason::new("PoolNotReady", format!("the pool '{name}': {}", condition.message)))
        }
        None => {
            (false, Reason::new("PoolNotReady", format!("the pool '{name}' has no pod that answers yet")))
        }
    }
}
