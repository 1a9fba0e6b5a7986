//! Waiting for a pod to load what was uploaded.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use vespid_resources::{PodModel, PodVersion, PodVersionState};
use vespid_types::{Error, ErrorCode, ModelName, Version};

use crate::gateway::Shared;
use crate::table::{Route, Table};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    Ready,
    /// Nobody loads it now, and why.
    Later(String),
    Failed(String),
}

/// Waits until pods say what came of a version, of which this is the package's digest: an earlier package under the same number
/// may still be spoken of.
///
/// # Errors
/// `DEADLINE_EXCEEDED` where they say nothing in time; the version stays.
pub(super) async fn until_loaded(
    shared: &Arc<Shared>,
    name: &ModelName,
    version: Version,
    digest: Option<&str>,
    time: Duration,
) -> Result<Loaded, Error> {
    let until = Instant::now() + time;
    let mut changes = shared.routes.changes();
    loop {
        if let Some(loaded) = look(&shared.routes.load(), name, version, digest) {
            return Ok(loaded);
        }
        if timeout_at(until, changes.changed()).await.is_err() {
            let message = format!(
                "model '{name}' version {version} has been added, and no pod has loaded it within {} s; it is loaded yet, unless \
                 it is removed: see `kubectl get model {name}`",
                time.as_secs()
            );
            return Err(Error::new(ErrorCode::DeadlineExceeded, message));
        }
    }
}

fn look(table: &Table, name: &ModelName, version: Version, digest: Option<&str>) -> Option<Loaded> {
    // It takes a moment for what was written to come back.
    let route = table.routes.get(name.as_str())?;
    route.versions.get(&version.number())?;
    if route.pool.open().next().is_none() {
        return Some(Loaded::Later(format!("pool '{}' has no pod that is ready", route.pool.name)));
    }
    let said: Vec<&PodVersion> = said(route, version)
        .filter(|said| said.digest.is_none() || digest.is_none() || said.digest.as_deref() == digest)
        .collect();
    let of = |state| said.iter().find(|said| said.state == state);
    if of(PodVersionState::Ready).is_some() {
        return Some(Loaded::Ready);
    }
    if of(PodVersionState::Loading).is_some() {
        return None;
    }
    if let Some(failed) = of(PodVersionState::Failed) {
        let why = failed.message.clone();
        return Some(Loaded::Failed(why.unwrap_or_else(|| "the pod does not say why".to_owned())));
    }
    let lazy = route.model.spec.replicas == 0;
    lazy.then(|| Loaded::Later("it is loaded when it is asked: the Model has `replicas: 0`".to_owned()))
}

/// What pods say of a version that may get calls.
fn said(route: &Route, version: Version) -> impl Iterator<Item = &PodVersion> {
    let open = |pod: &PodModel| route.pool.open().any(|member| member.pod.name == pod.pod);
    let pods = route.model.status.iter().flat_map(|status| &status.pods).filter(move |pod| open(pod));
    let versions = pods.flat_map(|pod| &pod.versions);
    versions.filter(move |said| u64::try_from(said.version) == Ok(version.number()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn what_pods_say_decides() {
        let (name, version): (ModelName, Version) = ("a".parse().unwrap(), "1".parse().unwrap());
        let mut world = World::default();
        assert_eq!(look(&world.table(), &name, version, Some("sha256:1")), None, "it has not come back yet");
        world.pool("default", None);
        world.model("a", &[(1, None)]);
        assert!(matches!(look(&world.table(), &name, version, Some("sha256:1")), Some(Loaded::Later(_))));
        world.pods("default", &["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!(look(&world.table(), &name, version, Some("sha256:1")), None);
        for (first, second, expected) in [
            ("Loading", "Failed", None),
            ("Ready", "Failed", Some(Loaded::Ready)),
            ("Listed", "Failed", Some(Loaded::Failed("no".to_owned()))),
        ] {
            world.says("a", "pod-0", &[(1, first, None)]);
            world.says("a", "pod-1", &[(1, second, Some("no"))]);
            assert_eq!(look(&world.table(), &name, version, Some("sha256:1")), expected, "{first}, {second}");
        }
        // What is said of another package under the same number is not of this one.
        world.change("a", |model| {
            let said = model.status.iter_mut().flat_map(|status| &mut status.pods);
            said.flat_map(|pod| &mut pod.versions).for_each(|said| said.digest = Some("sha256:0".to_owned()));
        });
        assert_eq!(look(&world.table(), &name, version, Some("sha256:1")), None);
        assert_eq!(
            look(&world.table(), &name, version, Some("sha256:0")),
            Some(Loaded::Failed("no".to_owned()))
        );
    }
}
