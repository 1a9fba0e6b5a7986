//! What tests need: objects in a few words, servers on loopback, a gateway between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, Version};
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use vespid_limits::{Limits, LimitsConfig, TenantsBy};
use vespid_resources::{Model, ModelPool, PodModel};

use crate::gateway::{Gateway, Options};
use crate::objects::Objects;
use crate::pods::RetryBudget;
use crate::table::{Routes, Table};
use crate::wake::HoldOptions;

/// What an API server would tell.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) objects: Objects,
    revision: u64,
}

impl World {
    /// A pool, with this minimum of pods where it scales.
    pub(crate) fn pool(&mut self, name: &str, minimum: Option<i32>) {
        let scaling = minimum.map(|minimum| json!({"minReplicas": minimum, "maxReplicas": 3}));
        let spec = scaling.map_or(json!({}), |scaling| json!({"autoscaling": scaling}));
        let pool: ModelPool = serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap();
        self.objects.pools.take(Event::Apply(pool));
    }

    /// A model of the pool `default`, with these versions and their weights.
    pub(crate) fn model(&mut self, name: &str, versions: &[(u64, Option<u32>)]) {
        let upload = format!("sha256:{}", "0".repeat(64));
        let version = |(version, weight): &(u64, Option<u32>)| {
            let mut json = json!({"version": version, "package": {"upload": upload}});
            if let Some(weight) = weight {
                json["weight"] = json!(weight);
            }
            json
        };
        let versions: Vec<_> = versions.iter().map(version).collect();
        let model: Model = serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": name, "uid": name},
            "spec": {"versions": versions},
        }))
        .unwrap();
        self.objects.models.take(Event::Apply(model));
        self.change(name, |_| {});
    }

    pub(crate) fn change(&mut self, name: &str, change: impl FnOnce(&mut Model)) {
        self.revision += 1;
        let model = self.objects.models.now.get_mut(name).unwrap();
        model.metadata.resource_version = Some(self.revision.to_string());
        change(model);
    }

    /// What a pod says of a model: versions, states, messages.
    pub(crate) fn says(&mut self, model: &str, pod: &str, versions: &[(u64, &str, Option<&str>)]) {
        let version = |(version, state, message): &(u64, &str, Option<&str>)| json!({"version": version, "state": state, "message": message});
        let versions: Vec<_> = versions.iter().map(version).collect();
        let said: PodModel = serde_json::from_value(json!({"pod": pod, "versions": versions})).unwrap();
        self.change(model, |model| {
            let pods = &mut model.status.get_or_insert_default().pods;
            pods.retain(|before| before.pod != pod);
            pods.push(said);
        });
    }

    /// The pods of a pool, `pod-0` and so on, by the address that is both of their ports.
    pub(crate) fn pods(&mut self, pool: &str, addresses: &[&str]) {
        let stale: Vec<_> =
            self.objects.slices.now.keys().filter(|name| name.starts_with(pool)).cloned().collect();
        stale.iter().for_each(|name| drop(self.objects.slices.now.remove(name)));
        for (number, address) in addresses.iter().enumerate() {
            // Each has a port of its own here, and so a slice.
            let (address, port) = address.rsplit_once(':').unwrap();
            let port: i32 = port.parse().unwrap();
            let endpoint: Value = json!({"addresses": [address], "targetRef": {"kind": "Pod", "name": format!("pod-{number}")}});
            let slice: EndpointSlice = serde_json::from_value(json!({
                "metadata": {
                    "name": format!("{pool}-{number}"), "labels": {"kubernetes.io/service-name": format!("{pool}-pool")},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port}, {"name": "grpc", "port": port}],
                "endpoints": [endpoint],
            }))
            .unwrap();
            self.objects.slices.take(Event::Apply(slice));
        }
    }

    pub(crate) fn publish(&self, routes: &Routes) {
        routes.rebuild(&self.objects, RetryBudget::default());
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        let routes = Routes::new(Limits::default());
        self.publish(&routes);
        Arc::clone(&routes.load())
    }
}

/// A server on loopback, which ends with this value.
pub(crate) struct Server {
    pub(crate) address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let listener = listener.tap_io(|connection| connection.set_nodelay(true).unwrap());
        let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
        let task = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address that nobody listens at.
pub(crate) async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// A pod that reads something of a call and breaks the connection.
pub(crate) async fn breaks() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            counted.fetch_add(1, Relaxed);
            let _ = connection.read(&mut [0; 64]).await;
        }
    });
    (address, calls)
}

/// A gateway with its ports, and what its API server tells.
pub(crate) struct Front {
    pub(crate) world: World,
    pub(crate) gateway: Gateway,
    pub(crate) http: Server,
    pub(crate) grpc: Server,
    pub(crate) stop: watch::Sender<bool>,
    http_client: Client<HttpConnector, Body>,
    pub(crate) grpc_client: Client<HttpConnector, Body>,
}

/// What this `limits.yaml` says, as far as a gateway holds to it.
pub(crate) fn limits(text: &str) -> Limits {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Limits::new(LimitsConfig::read(file.path(), TenantsBy::Labels).unwrap().only(&Gateway::LIMITS))
}

/// Waits for pods as long as a test does.
pub(crate) fn options() -> Options {
    let long = Duration::from_secs(600);
    Options {
        holds: HoldOptions { wake: long, hold: long, max: 2 },
        load_timeout: long,
        ..Options::default()
    }
}

impl Front {
    /// A gateway to a model `iris` of the pool `default`, with these pods, each of which has it in memory.
    pub(crate) async fn start(options: Options, pods: &[&str]) -> Self {
        Self::with(options, pods, None, None, None).await
    }

    pub(crate) async fn with(
        options: Options,
        pods: &[&str],
        client: Option<kube::Client>,
        store: Option<vespid_package::Store>,
        access: Option<vespid_auth::Access>,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let cluster = client.map(|client| (client, "models".to_owned()));
        let gateway = Gateway::new(options, cluster, store, access, stopping).unwrap();
        let mut world = World::default();
        for event in [Event::Init, Event::InitDone] {
            world.objects.models.take(event);
        }
        for event in [Event::Init, Event::InitDone] {
            world.objects.pools.take(event);
        }
        for event in [Event::Init, Event::InitDone] {
            world.objects.slices.take(event);
        }
        world.pool("default", None);
        world.model("iris", &[(1, None)]);
        world.pods("default", pods);
        for number in 0..pods.len() {
            world.says("iris", &format!("pod-{number}"), &[(1, "Ready", None)]);
        }
        gateway.shared.routes.rebuild(&world.objects, gateway.shared.options.retries);
        Self {
            http: Server::start(gateway.http()).await,
            grpc: Server::start(gateway.grpc()).await,
            http_client: Client::builder(TokioExecutor::new()).build(connector()),
            grpc_client: Client::builder(TokioExecutor::new()).http2_only(true).build(connector()),
            world,
            gateway,
            stop,
        }
    }

    /// Tells the gateway what has changed.
    pub(crate) fn publish(&self) {
        let shared = &self.gateway.shared;
        shared.routes.rebuild(&self.world.objects, shared.options.retries);
    }

    pub(crate) async fn send(
        &self,
        request: axum::http::request::Builder,
        path: &str,
        body: Body,
    ) -> Response<Incoming> {
        let request = request.uri(format!("http://{}{path}", self.http.address)).body(body).unwrap();
        self.http_client.request(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Response<Incoming> {
        self.send(Request::post("/"), path, body.into()).await
    }

    /// A request that is on its way while the test goes on.
    pub(crate) fn begin(&self, path: &str) -> tokio::task::JoinHandle<Response<Incoming>> {
        let request =
            Request::post(format!("http://{}{path}", self.http.address)).body(Body::from("{}")).unwrap();
        let response = self.http_client.request(request);
        tokio::spawn(async { response.await.unwrap() })
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Incoming> {
        self.send(Request::get("/"), path, Body::empty()).await
    }

    /// A call over gRPC, of a method of the inference service.
    pub(crate) async fn call(&self, method: &str, body: impl Into<Body>) -> Response<Incoming> {
        let path = if method.starts_with('/') {
            method.to_owned()
        } else {
            format!("/inference.GRPCInferenceService/{method}")
        };
        let request = Request::post(format!("http://{}{path}", self.grpc.address));
        let request = request
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        self.grpc_client.request(request.body(body.into()).unwrap()).await.unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let text =
            self.gateway.shared.metrics.render(&self.gateway.shared.routes.load(), crate::clock::now());
        String::from_utf8(text.unwrap()).unwrap()
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

/// The whole of an answer's body.
pub(crate) async fn bytes(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub(crate) async fn json_of(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

/// A message in gRPC's frame.
pub(crate) fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat()
}

/// The status of a gRPC answer, from its headers or trailers, and what came before it.
pub(crate) async fn grpc_end(response: Response<Incoming>) -> (String, Bytes) {
    let status = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().unwrap().to_owned());
    let early = status(response.headers());
    let collected = response.into_body().collect().await.unwrap();
    let late = collected.trailers().and_then(status);
    (late.or(early).expect("a status"), collected.to_bytes())
}

/// A body that comes as it is sent.
pub(crate) fn piecewise() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let pieces = stream::unfold(receiver, async |mut receiver| {
        Some((Ok::<_, std::io::Error>(receiver.recv().await?), receiver))
    });
    (sender, Body::from_stream(pieces))
}
