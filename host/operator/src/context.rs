//! What all controllers share.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::PartialObjectMeta;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource};
use vespid_resources::{BatchPrediction, Model, ModelPool, StreamPrediction, names};

use crate::OperatorOptions;
use crate::apply::Memo;
use crate::controller::Reconcile as _;
use crate::metrics::Metrics;
use crate::stream::{Asker, Memory};

/// What there is, as far as the watches have told.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) models: Store<Model>,
    pub(crate) pools: Store<ModelPool>,
    pub(crate) batches: Store<BatchPrediction>,
    pub(crate) streams: Store<StreamPrediction>,
    /// The ConfigMap that declares pools.
    pub(crate) declared: Store<ConfigMap>,
    pub(crate) deployments: Store<Deployment>,
    pub(crate) jobs: Store<Job>,
    pub(crate) pods: Store<Pod>,
    pub(crate) accounts: Store<PartialObjectMeta<ServiceAccount>>,
    pub(crate) bindings: Store<PartialObjectMeta<RoleBinding>>,
    pub(crate) services: Store<PartialObjectMeta<Service>>,
    pub(crate) policies: Store<PartialObjectMeta<NetworkPolicy>>,
    pub(crate) configs: Store<PartialObjectMeta<ConfigMap>>,
    pub(crate) autoscalers: Store<PartialObjectMeta<HorizontalPodAutoscaler>>,
    pub(crate) budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
}

/// What all controllers share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) options: OperatorOptions,
    pub(crate) stores: Stores,
    pub(crate) metrics: Metrics,
    pub(crate) asker: Asker,
    recorder: Recorder,
    /// What was applied last, by kind and name.
    applied: Mutex<HashMap<(String, String), Memo>>,
    /// What is known of streams that scale.
    streams: Mutex<HashMap<String, Memory>>,
    /// How often in a row an object could not be looked at.
    failures: Mutex<HashMap<(&'static str, String), u32>>,
}

impl Context {
    pub(crate) fn new(client: Client, options: OperatorOptions, stores: Stores, metrics: Metrics) -> Self {
        let reporter =
            Reporter { controller: "vespid-operator".to_owned(), instance: Some(options.identity.clone()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            options,
            stores,
            metrics,
            asker: Asker::default(),
            applied: Mutex::default(),
            streams: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// The objects of a kind in the operator's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.options.namespace)
    }

    /// What a store has under a name.
    pub(crate) fn find<K>(&self, store: &Store<K>, name: &str) -> Option<std::sync::Arc<K>>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        store.get(&ObjectRef::new(name).within(&self.options.namespace))
    }

    /// Writes an event of an object. That it cannot be written stops nobody.
    pub(crate) async fn tell<K>(&self, object: &K, type_: EventType, reason: &str, note: String)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            // Events that differ in nothing but their note count as one, with the note of the first.
            action: note.chars().take(128).collect(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!("an event was not written: {error}");
        }
    }

    pub(crate) fn applied(&self) -> MutexGuard<'_, HashMap<(String, String), Memo>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn streams(&self) -> MutexGuard<'_, HashMap<String, Memory>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That it went well: the next failure is the first again.
    pub(crate) fn succeeded(&self, kind: &'static str, name: &str) {
        self.forget(kind, name);
    }

    /// How long to wait after one more failure.
    pub(crate) fn failed(&self, kind: &'static str, name: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((kind, name.to_owned())).or_default();
        let wait = backoff(*count);
        *count = count.saturating_add(1);
        self.metrics.retrying(kind, failures.keys().filter(|(other, _)| *other == kind).count());
        wait
    }

    /// That an object is gone, with all that was made of it.
    pub(crate) fn gone(&self, kind: &'static str, name: &str) {
        self.forget(kind, name);
        let made = match kind {
            ModelPool::KIND => names::of_pool(name),
            BatchPrediction::KIND => names::of_batch(name),
            StreamPrediction::KIND => {
                self.streams().remove(name);
                names::of_stream(name)
            }
            _ => return,
        };
        self.applied().retain(|(_, child), _| *child != made);
    }

    fn forget(&self, kind: &'static str, name: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.remove(&(kind, name.to_owned())).is_some() {
            self.metrics.retrying(kind, failures.keys().filter(|(other, _)| *other == kind).count());
        }
    }
}

/// Half a second, and twice as long each time, up to five minutes.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(500).saturating_mul(1 << failures.min(20)).min(Duration::from_secs(300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_tried_again_ever_later() {
        let waits: Vec<_> = (0..12).map(|count| backoff(count).as_millis()).collect();
        assert_eq!(waits[..4], [500, 1000, 2000, 4000]);
        assert_eq!(waits[11], 300_000);
        assert_eq!(backoff(u32::MAX).as_secs(), 300);
    }
}
