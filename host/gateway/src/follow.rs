//! Following the API server: the table is made anew with each change of what it is made of.
//!
//! Contract: watches, not polls. One that is lost is begun again, with growing pauses; until then the table stays as it is. Changes
//! that come together make one table.

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use vespid_resources::{Model, ModelPool};

use crate::objects::Objects;
use crate::pods::RetryBudget;
use crate::table::Routes;

/// What one of the watches tells.
enum Told {
    Model(Box<Event<Model>>),
    Pool(Box<Event<ModelPool>>),
    Slice(Box<Event<EndpointSlice>>),
}

/// Keeps the table as the namespace is, for ever.
pub(crate) async fn follow(client: &Client, namespace: &str, routes: &Routes, budget: RetryBudget) {
    let mut told: BoxStream<'static, Told> = stream::select_all([
        watch(client, namespace, "Models").map(|event| Told::Model(Box::new(event))).boxed(),
        watch(client, namespace, "ModelPools").map(|event| Told::Pool(Box::new(event))).boxed(),
        watch(client, namespace, "EndpointSlices").map(|event| Told::Slice(Box::new(event))).boxed(),
    ])
    .boxed();
    let mut objects = Objects::default();
    while let Some(first) = told.next().await {
        let mut changed = objects.hear(first);
        while let Some(Some(next)) = told.next().now_or_never() {
            changed |= objects.hear(next);
        }
        if changed {
            routes.rebuild(&objects, budget);
        }
    }
}

impl Objects {
    fn hear(&mut self, told: Told) -> bool {
        match told {
            Told::Model(event) => self.models.take(*event),
            Told::Pool(event) => self.pools.take(*event),
            Told::Slice(event) => self.slices.take(*event),
        }
    }
}

fn watch<K>(
    client: &Client,
    namespace: &str,
    what: &'static str,
) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let events = watcher(api, Config::default()).default_backoff();
    events.filter_map(move |event| async move {
        match event {
            // Who owns which field is of no use here, and is the larger part of some objects.
            Ok(event) => Some(event.modify(|object| object.meta_mut().managed_fields = None)),
            Err(error) => {
                tracing::warn!("{what} cannot be watched, and the routes stay as they are: {error}");
                None
            }
        }
    })
}
