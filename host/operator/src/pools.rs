//! Pools that a ConfigMap asks for: those of an installation.
//!
//! Contract: each of its entries is the spec of a ModelPool under its name, in YAML. The pool is made and belongs to the ConfigMap; it is
//! changed when the entry is, so that what somebody changes of it in between stays; and it goes when the entry does. An entry that is
//! not a spec is told in the log and as an event, and the others are made. A chart cannot make the pools itself in the release
//! that brings their definition.

use std::hash::Hasher as _;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource as _, ResourceExt as _};
use vespid_resources::{ModelPool, ModelPoolSpec};
use xxhash_rust::xxh3::Xxh3;

use crate::OperatorError;
use crate::apply::Making;
use crate::context::Context;
use crate::controller::Reconcile;

/// Who owns what is written here.
const MANAGER: &str = "vespid-operator-pools";

/// A hash of the entry that a pool was last made of.
const ENTRY: &str = "vespid.dev/entry";

/// After how long what was refused is tried again, where nothing changes.
const REFUSED: std::time::Duration = std::time::Duration::from_secs(120);

impl Reconcile for ConfigMap {
    const KIND: &'static str = "configmap";

    async fn reconcile(self: Arc<Self>, context: Arc<Context>) -> Result<Action, OperatorError> {
        if self.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let mut making = Making::of(&*self, &context);
        let mut wrong = Vec::new();
        for (name, text) in self.data.iter().flatten() {
            match serde_saphyr::from_str::<ModelPoolSpec>(text) {
                Ok(spec) => {
                    let pool = pool(&self, name, text, spec);
                    let there = context.find(&context.stores.pools, name);
                    if there.is_none_or(|there| !is_made_of(&there, &pool)) {
                        making.apply_as(&pool, &pool, MANAGER).await?;
                    }
                }
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
        for pool in context.stores.pools.state() {
            let name = pool.name_any();
            if !self.data.iter().flatten().any(|(declared, _)| *declared == name) {
                making.remove::<ModelPool>(&name).await?;
            }
        }
        wrong.extend(making.refused());
        if wrong.is_empty() {
            return Ok(Action::await_change());
        }
        let note = wrong.join("; ");
        tracing::warn!(config = self.name_any(), "pools that are declared: {note}");
        context.tell(&*self, EventType::Warning, "Refused", note).await;
        Ok(Action::requeue(REFUSED))
    }
}

fn pool(config: &ConfigMap, name: &str, text: &str, spec: ModelPoolSpec) -> ModelPool {
    let mut hasher = Xxh3::new();
    hasher.write(text.as_bytes());
    let mut pool = ModelPool::new(name, spec);
    pool.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: config.namespace(),
        annotations: Some([(ENTRY.to_owned(), format!("{:016x}", hasher.finish()))].into()),
        owner_references: Some(config.controller_owner_ref(&()).into_iter().collect()),
        ..ObjectMeta::default()
    };
    pool
}

/// Whether a pool that is there was made of the entry as it is.
fn is_made_of(there: &ModelPool, pool: &ModelPool) -> bool {
    let owners =
        |pool: &ModelPool| pool.owner_references().iter().map(|owner| owner.uid.clone()).collect::<Vec<_>>();
    there.annotations().get(ENTRY) == pool.annotations().get(ENTRY) && owners(there) == owners(pool)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Server, Stage, at, events, killed_anywhere};

    fn given() -> Server {
        let server = Server::default();
        server.put("configmaps", &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vespid-pools", "namespace": "models"},
            "data": {"default": "replicas: 2\npods:\n  labels: {team: botany}\n", "big": "memoryBudget: 8Gi\n"},
        }));
        server
    }

    #[tokio::test]
    async fn declared_pools_are_made_changed_and_taken_away() {
        let mut stage = Stage::new(given());
        stage.settle::<ConfigMap>("vespid-pools").await;
        let pool = stage.server.get("modelpools", "default").unwrap();
        assert_eq!(
            (at(&pool, "spec.replicas"), at(&pool, "spec.pods.labels.team")),
            (&json!(2), &json!("botany"))
        );
        assert_eq!(at(&pool, "metadata.ownerReferences.0.kind"), "ConfigMap");
        assert!(stage.server.get("modelpools", "big").is_some());
        stage.server.patch("modelpools", "default", &json!({"spec": {"replicas": 5}}));
        stage.settle::<ConfigMap>("vespid-pools").await;
        let pool = stage.server.get("modelpools", "default").unwrap();
        assert_eq!(
            at(&pool, "spec.replicas"),
            &json!(5),
            "what somebody has changed stays until the entry changes"
        );
        let own = json!({"apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "own"}, "spec": {}});
        stage.server.put("modelpools", &own);
        stage.server.patch(
            "configmaps",
            "vespid-pools",
            &json!({"data": {"big": null, "default": "replicas: 3"}}),
        );
        stage.settle::<ConfigMap>("vespid-pools").await;
        let pool = stage.server.get("modelpools", "default").unwrap();
        assert_eq!((at(&pool, "spec.replicas"), at(&pool, "spec.pods.labels")), (&json!(3), &json!(null)));
        assert!(
            stage.server.get("modelpools", "big").is_none()
                && stage.server.get("modelpools", "own").is_some()
        );
        stage.server.delete("configmaps", "vespid-pools");
        assert!(stage.server.get("modelpools", "default").is_none());
    }

    #[tokio::test]
    async fn what_is_wrong_with_one_is_told_and_the_other_is_made() {
        let server = given();
        server.patch("configmaps", "vespid-pools", &json!({"data": {"default": "replica: 2"}}));
        let mut stage = Stage::new(server);
        stage.look::<ConfigMap>("vespid-pools").await.unwrap();
        assert!(
            stage.server.get("modelpools", "big").is_some()
                && stage.server.get("modelpools", "default").is_none()
        );
        let told = events(&stage.server).concat();
        assert!(told.contains("Refused default: ") && told.contains("replica"), "{told}");
    }

    #[tokio::test]
    async fn an_operator_that_is_killed_anywhere_is_followed_by_one_that_ends_with_the_same() {
        killed_anywhere::<ConfigMap>(&given, "vespid-pools").await;
    }
}
