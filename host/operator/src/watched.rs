//! A kind that is watched: what there is of it, and who is told when that changes.
//!
//! Contract: a store has a change before anybody is told of it, and everybody is told of every change, deletions included; when
//! the list was read anew, which is when deletions may have gone unseen, everybody is told that anything may have changed. Cost: one
//! watch for a kind, however many controllers want to know of it.

use std::fmt::Debug;
use std::pin::pin;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, join_all};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, ObjectRef, Store, reflector};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::code;

/// What has changed.
pub(crate) enum Change<'a, K> {
    /// This one.
    One(&'a K),
    /// This one is there no more.
    Gone(&'a K),
    /// Anything may have.
    All,
}

type Teller<K> = Box<dyn Fn(Change<'_, K>) + Send>;

/// A kind that is watched.
pub(crate) struct Watched<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: reflector::store::Writer<K>,
    told: Vec<Teller<K>>,
}

impl<K> Watched<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    pub(crate) fn new() -> (Store<K>, Self) {
        let (store, writer) = reflector::store();
        (store, Self { writer, told: Vec::new() })
    }

    /// Has somebody told of changes.
    pub(crate) fn tell(&mut self, teller: impl Fn(Change<'_, K>) + Send + 'static) {
        self.told.push(Box::new(teller));
    }

    /// Watches, for as long as it is asked.
    pub(crate) async fn run(self, api: Api<K>, config: watcher::Config) {
        let Self { writer, told } = self;
        let slim = watcher(api, config).modify(|object| object.managed_fields_mut().clear());
        let mut events = pin!(reflector(writer, slim).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object)) => told.iter().for_each(|told| told(Change::One(&object))),
                Ok(Event::Delete(object)) => told.iter().for_each(|told| told(Change::Gone(&object))),
                Ok(Event::InitDone) => told.iter().for_each(|told| told(Change::All)),
                Ok(Event::Init | Event::InitApply(_)) => {}
                Err(error) => log(&K::plural(&()), &error),
            }
        }
    }
}

/// A kind that the cluster does not serve is told by a condition; that its watch says so again and again is no news.
fn log(kind: &str, error: &watcher::Error) {
    let answer = match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => code(error),
        _ => None,
    };
    match answer {
        Some(404) => tracing::debug!(kind, "not served: {error}"),
        _ => tracing::warn!(kind, "the watch failed and is begun anew: {error}"),
    }
}

/// The watches of a process: they end with it.
pub(crate) struct Watches {
    client: Client,
    namespace: String,
    tasks: JoinSet<()>,
    ready: Vec<BoxFuture<'static, ()>>,
}

impl Watches {
    pub(crate) fn new(client: &Client, namespace: &str) -> Self {
        let (client, namespace) = (client.clone(), namespace.to_owned());
        Self { client, namespace, tasks: JoinSet::new(), ready: Vec::new() }
    }

    /// Begins to watch a kind. Where a cluster may not serve it nobody waits until it has been listed.
    pub(crate) fn start<K>(
        &mut self,
        store: &Store<K>,
        watched: Watched<K>,
        config: watcher::Config,
        served: bool,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        self.tasks.spawn(watched.run(Api::namespaced(self.client.clone(), &self.namespace), config));
        if served {
            let store = store.clone();
            self.ready.push(Box::pin(async move { drop(store.wait_until_ready().await) }));
        }
    }

    /// Waits until all have been listed.
    pub(crate) async fn ready(&mut self) {
        join_all(std::mem::take(&mut self.ready)).await;
    }

    /// Waits until one has ended, which none does by itself.
    pub(crate) async fn ended(&mut self) {
        self.tasks.join_next().await;
    }
}

/// The objects that a controller is to look at.
#[derive(Debug)]
pub(crate) struct Queue<K: Resource<DynamicType = ()>> {
    namespace: String,
    sender: mpsc::UnboundedSender<ObjectRef<K>>,
}

impl<K: Resource<DynamicType = ()>> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { namespace: self.namespace.clone(), sender: self.sender.clone() }
    }
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    pub(crate) fn new(namespace: &str) -> (Self, mpsc::UnboundedReceiver<ObjectRef<K>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { namespace: namespace.to_owned(), sender }, receiver)
    }

    /// Has the controller look at one. Nothing is done where the controller has ended.
    pub(crate) fn push(&self, name: &str) {
        let _ended = self.sender.send(ObjectRef::new(name).within(&self.namespace));
    }

    /// Has it look at all of them.
    pub(crate) fn push_all(&self, store: &Store<K>)
    where
        K: Clone + 'static,
    {
        store.state().iter().for_each(|object| self.push(&object.name_any()));
    }
}
