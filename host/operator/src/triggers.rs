//! Who is looked at when what has changed. One that is gone is too: it is not found then, and what was remembered of it is forgotten.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::ObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use vespid_resources::{BatchPrediction, Model, ModelPool, StreamPrediction, names};

use crate::context::Stores;
use crate::metadata::MANAGED;
use crate::pods::is_ready;
use crate::watched::{Change, Queue, Watched, Watches};

/// What each controller is to look at.
#[derive(Clone)]
pub(crate) struct Queues {
    pools: Queue<ModelPool>,
    models: Queue<Model>,
    batches: Queue<BatchPrediction>,
    streams: Queue<StreamPrediction>,
    declared: Queue<ConfigMap>,
}

/// Where the controllers take it from.
pub(crate) struct Asked {
    pub(crate) pools: mpsc::UnboundedReceiver<ObjectRef<ModelPool>>,
    pub(crate) models: mpsc::UnboundedReceiver<ObjectRef<Model>>,
    pub(crate) batches: mpsc::UnboundedReceiver<ObjectRef<BatchPrediction>>,
    pub(crate) streams: mpsc::UnboundedReceiver<ObjectRef<StreamPrediction>>,
    pub(crate) declared: mpsc::UnboundedReceiver<ObjectRef<ConfigMap>>,
}

impl Queues {
    pub(crate) fn new(namespace: &str) -> (Self, Asked) {
        let (pools, asked_pools) = Queue::new(namespace);
        let (models, asked_models) = Queue::new(namespace);
        let (batches, asked_batches) = Queue::new(namespace);
        let (streams, asked_streams) = Queue::new(namespace);
        let (declared, asked_declared) = Queue::new(namespace);
        let asked = Asked {
            pools: asked_pools,
            models: asked_models,
            batches: asked_batches,
            streams: asked_streams,
            declared: asked_declared,
        };
        (Self { pools, models, batches, streams, declared }, asked)
    }

    /// Whoever an object was made of.
    fn owner(&self, meta: &ObjectMeta) {
        for owner in meta.owner_references.iter().flatten() {
            match owner.kind.as_str() {
                "ModelPool" => self.pools.push(&owner.name),
                "BatchPrediction" => self.batches.push(&owner.name),
                "StreamPrediction" => self.streams.push(&owner.name),
                "ConfigMap" => self.declared.push(&owner.name),
                _ => {}
            }
        }
    }
}

/// What was last known of objects, to tell changes that matter from those that do not.
struct Known<V>(Mutex<HashMap<String, V>>);

impl<V: PartialEq> Known<V> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    /// What was known before, where it was another or nothing was.
    fn changed(&self, name: &str, now: V) -> Option<Option<V>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(name) == Some(&now) {
            return None;
        }
        Some(known.insert(name.to_owned(), now))
    }

    fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Begins to watch all kinds.
pub(crate) fn start(watches: &mut Watches, queues: &Queues, pools_declared: Option<&str>) -> Stores {
    let (models, watched_models) = Watched::<Model>::new();
    let (pools, watched_pools) = Watched::<ModelPool>::new();
    let (batches, watched_batches) = Watched::<BatchPrediction>::new();
    let (streams, watched_streams) = Watched::<StreamPrediction>::new();
    let (pods, watched_pods) = Watched::<Pod>::new();
    let stores = Stores {
        declared: declared(watches, queues, pools_declared),
        deployments: owned(watches, queues, true),
        jobs: owned(watches, queues, true),
        accounts: owned(watches, queues, true),
        bindings: owned(watches, queues, true),
        services: owned(watches, queues, true),
        policies: owned(watches, queues, true),
        configs: owned(watches, queues, true),
        autoscalers: owned(watches, queues, false),
        budgets: owned(watches, queues, false),
        models: models.clone(),
        pools: pools.clone(),
        batches: batches.clone(),
        streams: streams.clone(),
        pods: pods.clone(),
    };
    watches.start(&pools, told_of_pools(watched_pools, queues, &stores), watcher::Config::default(), true);
    watches.start(&models, told_of_models(watched_models, queues, &stores), watcher::Config::default(), true);
    watches.start(
        &batches,
        told_of_batches(watched_batches, queues, &stores),
        watcher::Config::default(),
        true,
    );
    watches.start(
        &streams,
        told_of_streams(watched_streams, queues, &stores),
        watcher::Config::default(),
        true,
    );
    watches.start(&pods, told_of_pods(watched_pods, queues, &stores), managed(), true);
    stores
}

/// What the operator has made.
fn managed() -> watcher::Config {
    watcher::Config::default().labels(MANAGED)
}

/// What is made of resources.
fn owned<K>(watches: &mut Watches, queues: &Queues, served: bool) -> Store<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    let (store, mut watched) = Watched::<K>::new();
    let (queues, all) = (queues.clone(), store.clone());
    watched.tell(move |change| match change {
        Change::One(object) | Change::Gone(object) => queues.owner(object.meta()),
        // Whose there is none of any more sees that when it is looked at, which a list of its own kind brings about.
        Change::All => all.state().iter().for_each(|object| queues.owner(object.meta())),
    });
    watches.start(&store, watched, managed(), served);
    store
}

/// The one ConfigMap that declares pools, where there is to be one.
fn declared(watches: &mut Watches, queues: &Queues, name: Option<&str>) -> Store<ConfigMap> {
    let (store, mut watched) = Watched::<ConfigMap>::new();
    let Some(name) = name else { return store };
    let (queue, all) = (queues.declared.clone(), store.clone());
    watched.tell(move |change| match change {
        Change::One(config) => queue.push(&config.name_any()),
        // Its pools go with it.
        Change::Gone(_) => {}
        Change::All => queue.push_all(&all),
    });
    watches.start(&store, watched, watcher::Config::default().fields(&format!("metadata.name={name}")), true);
    store
}

fn told_of_pools(mut watched: Watched<ModelPool>, queues: &Queues, stores: &Stores) -> Watched<ModelPool> {
    let (queues, stores) = (queues.clone(), stores.clone());
    watched.tell(move |change| match change {
        Change::One(pool) | Change::Gone(pool) => {
            let name = pool.name_any();
            queues.pools.push(&name);
            queues.owner(&pool.metadata);
            models_of(&stores, &queues, &name);
        }
        Change::All => {
            queues.pools.push_all(&stores.pools);
            queues.models.push_all(&stores.models);
        }
    });
    watched
}

/// The models of a pool, and what waits for it with them.
fn models_of(stores: &Stores, queues: &Queues, pool: &str) {
    for model in stores.models.state().iter().filter(|model| model.spec.pool == pool) {
        queues.models.push(&model.name_any());
    }
    let is_of = |name: &str| {
        stores.models.find(|model| model.name_any() == name).is_some_and(|model| model.spec.pool == pool)
    };
    for batch in stores.batches.state().iter().filter(|batch| is_of(&batch.spec.model)) {
        queues.batches.push(&batch.name_any());
    }
    for stream in stores.streams.state().iter().filter(|stream| is_of(&stream.spec.model)) {
        queues.streams.push(&stream.name_any());
    }
}

fn told_of_models(mut watched: Watched<Model>, queues: &Queues, stores: &Stores) -> Watched<Model> {
    let (queues, stores) = (queues.clone(), stores.clone());
    // A pool counts its models: the one that a model is moved away from has to as well.
    let pools: Known<String> = Known::new();
    // What jobs and streams are told of a model: where its packages are.
    let packages = Known::new();
    watched.tell(move |change| match change {
        Change::One(model) => {
            queues.models.push(&model.name_any());
            if let Some(before) = pools.changed(&model.name_any(), model.spec.pool.clone()) {
                before.into_iter().chain([model.spec.pool.clone()]).for_each(|pool| queues.pools.push(&pool));
            }
            let versions = model.status.iter().flat_map(|status| &status.versions);
            let digests: Vec<_> = versions.map(|version| (version.version, version.digest.clone())).collect();
            if packages.changed(&model.name_any(), (model.metadata.generation, digests)).is_some() {
                users(&stores, &queues, &model.name_any());
            }
        }
        Change::Gone(model) => {
            queues.models.push(&model.name_any());
            packages.forget(&model.name_any());
            pools.forget(&model.name_any());
            queues.pools.push(&model.spec.pool);
            users(&stores, &queues, &model.name_any());
        }
        Change::All => {
            queues.models.push_all(&stores.models);
            queues.pools.push_all(&stores.pools);
            queues.batches.push_all(&stores.batches);
            queues.streams.push_all(&stores.streams);
        }
    });
    watched
}

/// Jobs and streams that ask a model.
fn users(stores: &Stores, queues: &Queues, model: &str) {
    for batch in stores.batches.state().iter().filter(|batch| batch.spec.model == model) {
        queues.batches.push(&batch.name_any());
    }
    for stream in stores.streams.state().iter().filter(|stream| stream.spec.model == model) {
        queues.streams.push(&stream.name_any());
    }
}

fn told_of_batches(
    mut watched: Watched<BatchPrediction>,
    queues: &Queues,
    stores: &Stores,
) -> Watched<BatchPrediction> {
    let (queue, store) = (queues.batches.clone(), stores.batches.clone());
    watched.tell(move |change| match change {
        Change::One(batch) | Change::Gone(batch) => queue.push(&batch.name_any()),
        Change::All => queue.push_all(&store),
    });
    watched
}

/// A stream's own status is no reason to look at it: its lag is never the same twice.
fn told_of_streams(
    mut watched: Watched<StreamPrediction>,
    queues: &Queues,
    stores: &Stores,
) -> Watched<StreamPrediction> {
    let (queue, store) = (queues.streams.clone(), stores.streams.clone());
    let known = Known::new();
    watched.tell(move |change| match change {
        Change::One(stream) => {
            let meta = &stream.metadata;
            let asked = (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some());
            if known.changed(&stream.name_any(), asked).is_some() {
                queue.push(&stream.name_any());
            }
        }
        Change::Gone(stream) => {
            known.forget(&stream.name_any());
            queue.push(&stream.name_any());
        }
        Change::All => queue.push_all(&store),
    });
    watched
}

fn told_of_pods(mut watched: Watched<Pod>, queues: &Queues, stores: &Stores) -> Watched<Pod> {
    let (queues, stores) = (queues.clone(), stores.clone());
    // A pool may have thousands of models: they are looked at when a pod is ready, or is not any more.
    let known: Known<bool> = Known::new();
    watched.tell(move |change| match change {
        Change::One(pod) => {
            let changed = known.changed(&pod.name_any(), is_ready(pod)).is_some();
            told_of_pod(pod, changed, &queues, &stores);
        }
        Change::Gone(pod) => {
            known.forget(&pod.name_any());
            told_of_pod(pod, true, &queues, &stores);
        }
        Change::All => {
            queues.pools.push_all(&stores.pools);
            queues.models.push_all(&stores.models);
            queues.streams.push_all(&stores.streams);
        }
    });
    watched
}

fn told_of_pod(pod: &Pod, changed: bool, queues: &Queues, stores: &Stores) {
    if let Some(pool) = pod.labels().get(names::POOL_LABEL) {
        queues.pools.push(pool);
        if changed {
            for model in stores.models.state().iter().filter(|model| model.spec.pool == *pool) {
                queues.models.push(&model.name_any());
            }
        }
    }
    if let Some(stream) = pod.labels().get(names::STREAM_LABEL) {
        queues.streams.push(stream);
    }
}
