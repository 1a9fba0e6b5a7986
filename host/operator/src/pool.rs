//! A pool: the pods that serve its models, and what stands around them.

mod access;
mod autoscale;
mod deployment;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod wanted;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use serde_json::json;
use vespid_resources::{ModelPool, ModelPoolStatus, names};

pub(crate) use self::status::{accepted, count, is_of};
use self::wanted::{Wanted, wanted};
use crate::OperatorError;
use crate::apply::{Making, apply_status};
use crate::context::Context;
use crate::controller::Reconcile;
use crate::metadata::Component;
use crate::network;

/// Who owns the number of a Deployment's pods, where the operator sets it: not who owns the rest, which would set it back to one when it
/// is left to an autoscaler.
const SCALE_MANAGER: &str = "vespid-operator-scale";

/// After how long what was refused is tried again, where nothing changes.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(120);

impl Reconcile for ModelPool {
    const KIND: &'static str = "modelpool";

    async fn reconcile(self: Arc<Self>, context: Arc<Context>) -> Result<Action, OperatorError> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let now = Timestamp::now();
        let name = names::of_pool(&self.name_any());
        let deployment = context.find(&context.stores.deployments, &name);
        let current = deployment.as_ref().and_then(|deployment| deployment.spec.as_ref()?.replicas);
        let wanted = wanted(&self, current, now);
        let mut making = Making::of(&*self, &context);
        surround(&mut making, &self, &context).await?;
        deploy(&mut making, &self, &context, deployment.as_deref(), &wanted).await?;
        scale(&mut making, &self, &name).await?;
        let refused = making.refused();
        tell(&self, &context, current, &wanted).await;
        let status = status::status(&self, &context, deployment.as_deref(), &wanted, refused.clone());
        // What the gateway says there is not the operator's to write.
        let before = self.status.clone().map(|status| ModelPoolStatus { asked: None, wake: None, ..status });
        if before.as_ref() != Some(&status) {
            apply_status(&context, &*self, &status, None).await?;
        }
        let again = [wanted.again, refused.map(|_| REFUSED)].into_iter().flatten().min();
        Ok(again.map_or_else(Action::await_change, Action::requeue))
    }
}

/// Who pods are, who reaches them, and how many may be away at once.
async fn surround(
    making: &mut Making<'_, ModelPool>,
    pool: &ModelPool,
    context: &Context,
) -> Result<(), OperatorError> {
    let name = names::of_pool(&pool.name_any());
    if pool.spec.pods.service_account_name.is_none() {
        making.apply(&access::account(pool)).await?;
        // An installation of another name has another Role, and which one is bound cannot be changed.
        making.apply_anew(&access::binding(pool, &context.options.host_role), "roleRef").await?;
    } else {
        making.remove::<RoleBinding>(&name).await?;
        making.remove::<ServiceAccount>(&name).await?;
    }
    making.apply(&access::service(pool)).await?;
    making.apply(&network::policy(pool, Component::Pool, name, &context.options.peers)).await?;
    making.apply(&autoscale::budget(pool)).await
}

/// The pods. How many there are is applied by itself, and first where they are there, so that nobody is without an owner in between.
async fn deploy(
    making: &mut Making<'_, ModelPool>,
    pool: &ModelPool,
    context: &Context,
    there: Option<&Deployment>,
    wanted: &Wanted,
) -> Result<(), OperatorError> {
    let mut deployment = deployment::deployment(pool, &context.options);
    let scaled = wanted.replicas.map(|replicas| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": deployment.metadata.name, "uid": there.and_then(|there| there.metadata.uid.as_deref())},
            "spec": {"replicas": replicas},
        })
    });
    if let (Some(scaled), Some(_)) = (&scaled, there) {
        making.apply_as(&deployment, scaled, SCALE_MANAGER).await?;
    }
    if there.is_none()
        && let Some(spec) = &mut deployment.spec
    {
        spec.replicas = wanted.replicas;
    }
    making.apply(&deployment).await
}

async fn scale(
    making: &mut Making<'_, ModelPool>,
    pool: &ModelPool,
    name: &str,
) -> Result<(), OperatorError> {
    match autoscale::autoscaler(pool) {
        Some(autoscaler) => making.apply(&autoscaler).await,
        None => making.remove::<HorizontalPodAutoscaler>(name).await,
    }
}

async fn tell(pool: &ModelPool, context: &Context, current: Option<i32>, wanted: &Wanted) {
    match (current, wanted.replicas) {
        (Some(0), Some(replicas)) if replicas > 0 && pool.spec.autoscaling.is_some() => {
            context.tell(pool, EventType::Normal, "Woken", "it was asked, and gets a pod".to_owned()).await;
        }
        (Some(before), Some(0)) if before > 0 && wanted.asleep => {
            let note = "nothing was asked, and its last pods go".to_owned();
            context.tell(pool, EventType::Normal, "ScaledToZero", note).await;
        }
        _ => {}
    }
}
