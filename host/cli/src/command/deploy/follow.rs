//! Waiting for a version to be served, and saying meanwhile what it waits for.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use kube::Api;
use kube::runtime::watcher;
use vespid_resources::Model;

use super::Deployed;
use super::weights::number;
use crate::failure::Failure;
use crate::ui::{self, GOOD};

/// How far a version is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// So many pods have it in memory; with none, it is loaded when it is asked.
    Served(i32),
    Waiting(String),
}

/// Waits until the version is served.
pub(super) async fn until_served(
    models: Api<Model>,
    deployed: &Deployed,
    limit: Duration,
) -> anyhow::Result<()> {
    let Deployed { name, version, .. } = deployed;
    let mut last = String::from("nobody has said anything of it");
    let spinner = ui::spinner("waiting");
    let waited = tokio::time::timeout(
        limit,
        served(models, deployed, |message| {
            if message != last {
                ui::progress(&spinner, &message);
                last = message;
            }
        }),
    );
    let outcome = waited.await;
    spinner.finish_and_clear();
    match outcome {
        Ok(Ok(0)) => {
            ui::result(format!("{} when it is asked", ui::styled(GOOD, "served"))).map_err(Into::into)
        }
        Ok(Ok(1)) => ui::result(format!("{} by 1 pod", ui::styled(GOOD, "served"))).map_err(Into::into),
        Ok(Ok(pods)) => {
            ui::result(format!("{} by {pods} pods", ui::styled(GOOD, "served"))).map_err(Into::into)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Failure::new(format!(
            "{name} version {version} is not served after {}: {last}",
            humantime::format_duration(limit)
        ))
        .hint(format!("`vespid status {name}` says what the pods say"))
        .into()),
    }
}

async fn served(models: Api<Model>, deployed: &Deployed, mut say: impl FnMut(String)) -> anyhow::Result<i32> {
    let mut states = pin!(watcher::watch_object(models, deployed.name.as_str()));
    while let Some(state) = states.next().await {
        match state {
            Ok(Some(model)) => match progress(&model, number(deployed.version)) {
                Progress::Served(pods) => return Ok(pods),
                Progress::Waiting(why) => say(why),
            },
            Ok(None) => return Err(Failure::new(format!("{} was deleted meanwhile", deployed.name)).into()),
            Err(error) => say(error.to_string()),
        }
    }
    None.context("the API server ended the watch")
}

fn progress(model: &Model, version: i64) -> Progress {
    let waiting = |why: &str| Progress::Waiting(why.to_owned());
    let Some(status) =
        model.status.as_ref().filter(|status| status.observed_generation == model.metadata.generation)
    else {
        return waiting("the operator has not seen it yet: does one run in this namespace?");
    };
    let of_version = status.versions.iter().find(|status| status.version == version);
    if let Some(ready) = of_version.map(|status| status.ready).filter(|ready| *ready > 0) {
        return Progress::Served(ready);
    }
    let condition = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    // With no replicas wanted there is nobody to load it but those that are asked.
    if model.spec.replicas == 0 && condition.is_some_and(|condition| condition.status == "True") {
        return Progress::Served(0);
    }
    match of_version.and_then(|status| status.message.as_deref()) {
        Some(message) => waiting(message),
        None => waiting(condition.map_or("no pod has loaded it yet", |condition| &condition.message)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(replicas: i32, status: &serde_json::Value) -> Model {
        let package = json!({"oci": "oci://registry.example/iris:1"});
        serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris", "generation": 2},
            "spec": {"replicas": replicas, "versions": [{"version": 1, "package": package}]}, "status": status,
        }))
        .unwrap()
    }

    fn condition(status: &str) -> serde_json::Value {
        json!([{"type": "Ready", "status": status, "reason": "R", "message": "no pod is there",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    #[test]
    fn what_is_waited_for_is_the_version_and_this_generation() {
        let ready = json!({"observedGeneration": 2, "versions": [{"version": 1, "ready": 2}]});
        assert_eq!(progress(&model(1, &ready), 1), Progress::Served(2));
        let mut stale = ready.clone();
        stale["observedGeneration"] = json!(1);
        assert!(matches!(progress(&model(1, &stale), 1), Progress::Waiting(why) if why.contains("operator")));
        let failed = json!({"observedGeneration": 2, "versions": [{"version": 1, "ready": 0, "message": "no such tag"}]});
        assert_eq!(progress(&model(1, &failed), 1), Progress::Waiting("no such tag".to_owned()));
        let none = json!({"observedGeneration": 2, "conditions": condition("False")});
        assert_eq!(progress(&model(1, &none), 1), Progress::Waiting("no pod is there".to_owned()));
        let listed = json!({"observedGeneration": 2, "conditions": condition("True")});
        assert_eq!(progress(&model(0, &listed), 1), Progress::Served(0));
    }
}
