//! A model: what its pods say of it, put together. Nothing is made of one.
//!
//! Each pod owns its own entry of `status.pods`, and writes it; the operator owns the rest, and takes away the entries of pods that
//! are gone.

mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use serde_json::json;
use vespid_resources::names::FIELD_MANAGER;
use vespid_resources::{Model, ModelStatus};

use self::status::{PodSeen, Seen};
use crate::OperatorError;
use crate::apply::apply_status;
use crate::context::Context;
use crate::controller::Reconcile;
use crate::error::code;
use crate::pods::is_ready;
use crate::pool::is_of;

impl Reconcile for Model {
    const KIND: &'static str = "model";

    async fn reconcile(self: Arc<Self>, context: Arc<Context>) -> Result<Action, OperatorError> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        if release(&self, &context).await? {
            // The change of it is the next look.
            return Ok(Action::await_change());
        }
        let all = context.stores.pods.state();
        let pods = all.iter().filter(|pod| is_of(pod, &self.spec.pool));
        let pods: Vec<_> = pods.map(|pod| PodSeen { name: pod.name_any(), ready: is_ready(pod) }).collect();
        let pool = context.find(&context.stores.pools, &self.spec.pool);
        let status = status::status(&self, &Seen { pool: pool.as_deref(), pods: &pods });
        let before = self.status.clone().unwrap_or_default();
        if status == (ModelStatus { pods: Vec::new(), ..before.clone() }) {
            return Ok(Action::await_change());
        }
        // A digest is the first one that was seen: whoever has read an older status must not write another.
        let first = known(&status) > known(&before);
        let version = first.then(|| self.resource_version()).flatten();
        apply_status(&context, &*self, &status, version).await?;
        tell(&self, &context, &before, &status).await;
        Ok(Action::await_change())
    }
}

/// How many versions have a digest.
fn known(status: &ModelStatus) -> usize {
    status.versions.iter().filter(|version| version.digest.is_some()).count()
}

/// Takes away what pods said that are gone; whether there was some. That a watch has not told of a pod yet does not make it gone: the API
/// server is asked.
///
/// Not by applying nothing in each pod's name: that is a write for each, and an older API server makes `null` of a list whose last
/// entry goes so, and refuses it.
async fn release(model: &Model, context: &Context) -> Result<bool, OperatorError> {
    let said = model.status.as_ref().map(|status| status.pods.as_slice()).unwrap_or_default();
    let mut left = Vec::with_capacity(said.len());
    for entry in said {
        let pod = &entry.pod;
        let known = context.find(&context.stores.pods, pod).is_some();
        let asked = async || context.api::<Pod>().get_metadata_opt(pod).await;
        if known || asked().await.map_err(OperatorError::kube(format!("the pod {pod}")))?.is_some() {
            left.push(entry);
        }
    }
    if left.len() == said.len() {
        return Ok(false);
    }
    let name = model.name_any();
    // Of this list and no other: a pod may have written its entry meanwhile.
    let patch = json!({"metadata": {"resourceVersion": model.resource_version()}, "status": {"pods": left}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match context.api::<Model>().patch_status(&name, &params, &Patch::Merge(&patch)).await {
        Err(error) if code(&error) != Some(404) => {
            Err(OperatorError::kube(format!("what pods said of the model {name} that are gone"))(error))
        }
        _ => Ok(true),
    }
}

/// That a model does not load, or does again, is worth an event; that it is loading is not.
async fn tell(model: &Model, context: &Context, before: &ModelStatus, now: &ModelStatus) {
    let ready =
        |status: &ModelStatus| status.conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
    let (Some(now), before) = (ready(now), ready(before)) else { return };
    if before.as_ref().is_some_and(|before| (&before.reason, &before.message) == (&now.reason, &now.message))
    {
        return;
    }
    let failed = |reason: &str| matches!(reason, "LoadFailed" | "DigestChanged" | "PoolMissing");
    if failed(&now.reason) {
        context.tell(model, EventType::Warning, &now.reason, now.message).await;
    } else if now.status == "True" && before.is_some_and(|before| before.status != "True") {
        context.tell(model, EventType::Normal, "Ready", now.message).await;
    }
}
