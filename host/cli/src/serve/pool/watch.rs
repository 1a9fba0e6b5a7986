//! What the cluster says: the models of the namespace, and the pods of the pool.
//!
//! Contract: watches, not polls. One that is lost begins again, with growing pauses; until then what was seen last counts. Cost:
//! each model of the namespace in memory, without who owns which of its fields. Left out on purpose: the pods themselves, which a
//! pod need not be allowed to see: the endpoints of the pool's Service name them.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{Store, store};
use kube::runtime::watcher::Config;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use vespid_resources::{Model, names};

use super::present::Pods;

/// What is seen of the cluster. It is kept up to date as long as this is there.
pub(super) struct View {
    models: Store<Model>,
    slices: Store<EndpointSlice>,
    changed: watch::Receiver<()>,
    _following: tokio::task::JoinSet<()>,
}

impl View {
    /// Begins to look.
    pub(super) fn open(client: &Client, namespace: &str, pool: &str) -> Self {
        let (told, changed) = watch::channel(());
        let mut following = tokio::task::JoinSet::new();
        let models = Api::<Model>::namespaced(client.clone(), namespace);
        let models = follow(models, Config::default(), "Models", told.clone(), &mut following);
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
        let of_pool =
            Config::default().labels(&format!("kubernetes.io/service-name={}", names::of_pool(pool)));
        let slices = follow(slices, of_pool, "EndpointSlices", told, &mut following);
        Self { models, slices, changed, _following: following }
    }

    /// Waits until everything has been seen once.
    pub(super) async fn complete(&self) {
        // An error means that nobody looks any more, which lasts as long as this does.
        let _ = tokio::join!(self.models.wait_until_ready(), self.slices.wait_until_ready());
    }

    /// Is told of each change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.clone()
    }

    /// Every model of the namespace.
    pub(super) fn models(&self) -> Vec<Arc<Model>> {
        self.models.state()
    }

    /// The pods of the pool that are there to stay, and whether each is ready.
    pub(super) fn pods(&self) -> Pods {
        self.slices.state().iter().flat_map(|slice| slice.endpoints.iter().filter_map(pod)).collect()
    }
}

fn pod(endpoint: &Endpoint) -> Option<(String, bool)> {
    let conditions = endpoint.conditions.as_ref();
    let going = conditions.and_then(|conditions| conditions.terminating);
    // One that nobody knows anything of is to be taken for ready.
    let ready = conditions.and_then(|conditions| conditions.ready) != Some(false);
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    Some((target.filter(|_| going != Some(true))?.name.clone()?, ready))
}

fn follow<K>(
    api: Api<K>,
    config: Config,
    what: &'static str,
    told: watch::Sender<()>,
    following: &mut tokio::task::JoinSet<()>,
) -> Store<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync + Unpin,
{
    let (reader, writer) = store();
    let events = watcher(api, config).default_backoff();
    let events = events.modify(|object: &mut K| object.meta_mut().managed_fields = None).reflect(writer);
    following.spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    told.send_replace(());
                }
                Err(error) => {
                    tracing::warn!("{what} cannot be watched, and those that were seen last count: {error}");
                }
            }
        }
    });
    reader
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_stay_are_those_of_the_endpoints_that_do_not_terminate() {
        let endpoint = |json| serde_json::from_value::<Endpoint>(json).unwrap();
        let of = |conditions, kind| {
            let target = json!({"kind": kind, "name": "pool-a"});
            pod(&endpoint(json!({"addresses": ["10.0.0.1"], "conditions": conditions, "targetRef": target})))
        };
        let a = |ready| Some(("pool-a".to_owned(), ready));
        assert_eq!(of(json!({"ready": true}), "Pod"), a(true));
        assert_eq!(of(json!({}), "Pod"), a(true));
        assert_eq!(of(json!({"ready": false, "serving": false}), "Pod"), a(false));
        assert_eq!(of(json!({"ready": false, "serving": true, "terminating": true}), "Pod"), None);
        assert_eq!(of(json!({}), "Node"), None);
        assert_eq!(pod(&endpoint(json!({"addresses": ["10.0.0.1"]}))), None);
    }
}
