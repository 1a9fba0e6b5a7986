//! What tests stand on: a cluster in memory, and an operator over it that is moved by hand.
//!
//! A scenario is: given objects, look at one, then objects. What a look reads is what the API server had just before it.

mod merge;
mod server;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use vespid_resources::{BatchPrediction, Model, ModelPool, StreamPrediction};

pub(crate) use self::server::Server;
use crate::context::{Context, Stores};
use crate::controller::Reconcile;
use crate::metrics::Metrics;
use crate::{OperatorError, OperatorOptions, Peers};

pub(crate) const NAMESPACE: &str = "models";

pub(crate) fn options() -> OperatorOptions {
    OperatorOptions {
        namespace: NAMESPACE.to_owned(),
        identity: "operator-0".to_owned(),
        image: Some("registry.example/vespid:0.1.0".to_owned()),
        image_pull_policy: None,
        image_pull_secrets: Vec::new(),
        host_role: "vespid-host".to_owned(),
        packages: Some("http://vespid-gateway-packages:8003".to_owned()),
        peers: Peers::default(),
        env: Vec::new(),
        pools: None,
        pre_stop: std::time::Duration::from_secs(5),
        admin: None,
    }
}

type Filler = Box<dyn FnMut(&Server)>;

/// An operator over a cluster in memory.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) context: Arc<Context>,
    fill: Vec<Filler>,
}

impl Stage {
    pub(crate) fn new(server: Server) -> Self {
        Self::with(server, options())
    }

    pub(crate) fn with(server: Server, options: OperatorOptions) -> Self {
        let mut fill: Vec<Filler> = Vec::new();
        let stores = Stores {
            models: store(&mut fill),
            pools: store(&mut fill),
            batches: store(&mut fill),
            streams: store(&mut fill),
            declared: store(&mut fill),
            deployments: store(&mut fill),
            jobs: store(&mut fill),
            pods: store(&mut fill),
            accounts: store(&mut fill),
            bindings: store(&mut fill),
            services: store(&mut fill),
            policies: store(&mut fill),
            configs: store(&mut fill),
            autoscalers: store(&mut fill),
            budgets: store(&mut fill),
        };
        let context = Arc::new(Context::new(server.client(), options, stores, Metrics::new().unwrap()));
        Self { server, context, fill }
    }

    /// Looks at an object once.
    pub(crate) async fn look<K: Looked>(&mut self, name: &str) -> Result<Action, OperatorError> {
        self.fill.iter_mut().for_each(|fill| fill(&self.server));
        let object = K::store(&self.context.stores).get(&ObjectRef::new(name).within(NAMESPACE));
        object.expect("there is such an object").reconcile(Arc::clone(&self.context)).await
    }

    /// Looks at an object until that changes nothing any more.
    pub(crate) async fn settle<K: Looked>(&mut self, name: &str) -> Action {
        for _ in 0..10 {
            let before = self.server.version();
            let action = self.look::<K>(name).await.unwrap();
            if self.server.version() == before {
                return action;
            }
        }
        panic!("{name} is changed with every look: {:?}", self.server.requests());
    }
}

/// What the operator looks at.
pub(crate) trait Looked: Reconcile {
    fn store(stores: &Stores) -> &Store<Self>;
}

macro_rules! looked {
    ($($kind:ty: $store:ident),*) => {$(
        impl Looked for $kind {
            fn store(stores: &Stores) -> &Store<Self> {
                &stores.$store
            }
        }
    )*};
}

looked!(ConfigMap: declared, ModelPool: pools, Model: models, BatchPrediction: batches, StreamPrediction: streams);

fn store<K>(fill: &mut Vec<Filler>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
{
    let (store, mut writer) = reflector::store::<K>();
    fill.push(Box::new(move |server| {
        writer.apply_watcher_event(&Event::Init);
        for object in server.all(&K::plural(&())) {
            let object: K = serde_json::from_value(object).expect("it is of its kind");
            assert!(object.namespace().is_some());
            writer.apply_watcher_event(&Event::InitApply(object));
        }
        writer.apply_watcher_event(&Event::InitDone);
    }));
    store
}

/// Wherever the operator is killed, another one ends with the same: for each request after which it may be, it is, and what the next
/// makes of what it finds is compared with what comes of an operator that nobody kills.
pub(crate) async fn killed_anywhere<K: Looked>(given: &dyn Fn() -> Server, name: &str) {
    let mut whole = Stage::new(given());
    whole.settle::<K>(name).await;
    let expected = whole.server.snapshot();
    let requests = whole.server.requests().len();
    assert!(requests > 0);
    for killed in 0..requests {
        let mut stage = Stage::new(given());
        stage.server.break_after(killed);
        for _ in 0..3 {
            // It fails at the latest with the request that is one too many, or it was done before.
            if stage.look::<K>(name).await.is_err() {
                break;
            }
        }
        stage.server.mend();
        let mut next = Stage::new(stage.server);
        next.settle::<K>(name).await;
        assert_eq!(next.server.snapshot(), expected, "killed after {killed} requests");
    }
}

/// What an object has at a path, such as `spec.template.spec.containers.0.args`.
pub(crate) fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    let pointer = format!("/{}", path.replace('/', "~1").replace('.', "/"));
    object.pointer(&pointer).unwrap_or(&Value::Null)
}

/// A condition's status, reason and message.
pub(crate) fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = at(object, "status.conditions").as_array().expect("there are conditions");
    let condition =
        conditions.iter().find(|condition| condition["type"] == kind).expect("there is that condition");
    let text = |field: &str| condition[field].as_str().unwrap().to_owned();
    (text("status"), text("reason"), text("message"))
}

/// The reasons of the events that were written.
pub(crate) fn events(server: &Server) -> Vec<String> {
    let all = server.all("events");
    let mut sorted: BTreeMap<String, String> = BTreeMap::new();
    for event in all {
        let reason =
            format!("{} {}", event["reason"].as_str().unwrap(), event["note"].as_str().unwrap_or_default());
        sorted.insert(event["metadata"]["name"].as_str().unwrap().to_owned(), reason);
    }
    sorted.into_values().collect()
}
