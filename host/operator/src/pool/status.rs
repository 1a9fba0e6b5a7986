//! What is said of a pool.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use vespid_resources::{ModelPool, ModelPoolStatus, Reason, names, set_condition};

use super::wanted::Wanted;
use crate::context::Context;
use crate::metadata::{Component, selector_text};
use crate::pods;

pub(super) fn status(
    pool: &ModelPool,
    context: &Context,
    deployment: Option<&Deployment>,
    wanted: &Wanted,
    refused: Option<String>,
) -> ModelPoolStatus {
    let name = pool.name_any();
    let generation = pool.metadata.generation;
    let counted = deployment.and_then(|deployment| deployment.status.as_ref());
    let replicas = counted.and_then(|status| status.replicas).unwrap_or(0);
    let ready = counted.and_then(|status| status.ready_replicas).unwrap_or(0);
    let models = context.stores.models.state().iter().filter(|model| model.spec.pool == name).count();
    let mut conditions = pool.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let (accepted, reason) = accepted(refused);
    set_condition(&mut conditions, "Accepted", accepted, reason, generation);
    let (holds, reason) = match ready {
        0 => (false, unready(pool, context, deployment, wanted, replicas)),
        ready => (true, Reason::new("Serving", format!("{ready} of {} answer", count(replicas)))),
    };
    set_condition(&mut conditions, "Ready", holds, reason, generation);
    let (holds, reason) = progressing(pool, context, deployment);
    set_condition(&mut conditions, "Progressing", holds, reason, generation);
    ModelPoolStatus {
        observed_generation: generation,
        conditions,
        replicas: Some(replicas),
        ready_replicas: Some(ready),
        selector: Some(selector_text(Component::Pool, &name)),
        models: i32::try_from(models).ok(),
        // The gateway's, which are left to it.
        asked: None,
        wake: None,
    }
}

/// Whether the pods are as the pool says, or become so. Old ones answer until there are new ones, so that nothing else tells of it.
fn progressing(pool: &ModelPool, context: &Context, deployment: Option<&Deployment>) -> (bool, Reason) {
    let Some(stuck) = deployment.and_then(|deployment| condition(deployment, "Progressing", "False")) else {
        return (true, Reason::new("Progressing", "its pods are as it says, or become so"));
    };
    let failure = deployment.and_then(|deployment| condition(deployment, "ReplicaFailure", "True"));
    let why = failure.and_then(|failure| failure.message.clone()).or_else(|| why_not(pool, context));
    let said = stuck.message.iter().cloned().chain(why).collect::<Vec<_>>().join(": ");
    (false, Reason::new("Stuck", said))
}

/// A condition of a Deployment, where that is its status.
fn condition<'a>(deployment: &'a Deployment, kind: &str, status: &str) -> Option<&'a DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)
}

/// What keeps pods of the pool from answering.
fn why_not(pool: &ModelPool, context: &Context) -> Option<String> {
    let all = context.stores.pods.state();
    pods::why_not(all.iter().map(|pod| &**pod).filter(|pod| is_of(pod, &pool.name_any())))
}

/// Whether the cluster takes all that is made.
pub(crate) fn accepted(refused: Option<String>) -> (bool, Reason) {
    match refused {
        None => (true, Reason::new("Applied", "the cluster takes all that is made of it")),
        Some(refused) => (false, Reason::new("Refused", refused)),
    }
}

fn unready(
    pool: &ModelPool,
    context: &Context,
    deployment: Option<&Deployment>,
    wanted: &Wanted,
    replicas: i32,
) -> Reason {
    if wanted.asleep {
        return Reason::new(
            "Asleep",
            "nothing was asked for a time, and it has no pods; the next call gets it one",
        );
    }
    if pool.spec.replicas == Some(0) {
        return Reason::new("NoReplicas", "it has no pods since replicas is 0");
    }
    let Some(deployment) = deployment else {
        return Reason::new(
            "Starting",
            format!("the Deployment {} is being made", names::of_pool(&pool.name_any())),
        );
    };
    if let Some(failure) = condition(deployment, "ReplicaFailure", "True") {
        return Reason::new("NoPods", failure.message.clone().unwrap_or_default());
    }
    match why_not(pool, context) {
        Some(why) => Reason::new("PodsNotReady", format!("none of {} answers: {why}", count(replicas))),
        None => Reason::new("Starting", format!("none of {} answers yet", count(replicas))),
    }
}

/// Whether a pod is of this pool.
pub(crate) fn is_of(pod: &Pod, pool: &str) -> bool {
    pod.labels().get(names::POOL_LABEL).is_some_and(|name| name == pool)
}

pub(crate) fn count(pods: i32) -> String {
    if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") }
}
