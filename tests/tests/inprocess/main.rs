//! The serving core and its routes inside the test's own process, where what they count can be read.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

mod composition;
mod copies;
mod grpc;
mod instances;
mod pieces;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use bytesize::ByteSize;
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;
use vespid_engine::{Engine, EngineOptions};
use vespid_ingress::Api;
use vespid_limits::Limits;
use vespid_nn::Backends;
use vespid_package::oci::{Registry, RegistryOptions};
use vespid_package::{Store, StoreOptions};
use vespid_serving::{Predictor, PredictorOptions, Repository, RepositoryOptions, Sources, Statistics};
use vespid_telemetry::{Telemetry, TelemetryOptions};
use vespid_tests::built;
use vespid_types::ModelRef;

/// A server without a socket.
struct Host {
    router: Router,
    grpc: Router,
    predictor: Predictor,
    repository: Repository,
    _dir: TempDir,
}

/// What the routes answered.
struct Answer {
    status: u16,
    /// Where the tensors begin, in an answer that holds some in binary.
    head: usize,
    body: Bytes,
}

impl Answer {
    fn tensors(&self) -> &[u8] {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        &self.body[self.head..]
    }
}

impl Host {
    /// A host that serves the packages which were built from the folders `models`.
    async fn with(backends: Backends, models: &[&str]) -> Self {
        Self::with_room(8, backends, models).await
    }

    /// The same, with room for so many instances.
    async fn with_room(max_instances: u32, backends: Backends, models: &[&str]) -> Self {
        Self::limited(Limits::default(), max_instances, backends, models).await
    }

    /// The same, under limits.
    async fn limited(limits: Limits, max_instances: u32, backends: Backends, models: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::folder(dir.path().join("store"))).await.unwrap();
        let options = EngineOptions { code_cache: store.code_cache(), max_instances };
        let engine = Engine::new(&options).unwrap();
        let predictor = Predictor::new(PredictorOptions { max_in_flight: 64 });
        let options = RepositoryOptions {
            limits,
            ..RepositoryOptions::new(engine, backends, vespid_ingress::cases::request)
        };
        let repository = Repository::start(store, predictor.clone(), options).await.unwrap();
        let telemetry = Telemetry::new(predictor.clone(), TelemetryOptions::default()).unwrap();
        let registry = Registry::new(RegistryOptions::default());
        let sources = Sources::new(repository.clone(), registry, Vec::new());
        let api = Api {
            sources,
            predictor: predictor.clone(),
            telemetry,
            repository: repository.clone(),
            jobs: None,
            streams: None,
            access: None,
            max_body: ByteSize::gib(1),
            stopping: watch::channel(false).1,
        };
        let grpc = vespid_ingress::grpc_router(api.clone()).unwrap();
        let host = Self { router: vespid_ingress::router(api), grpc, predictor, repository, _dir: dir };
        for model in models {
            let package = std::fs::read(built::package(model)).unwrap();
            host.push(&package_value(&package, "name"), package).await.unwrap();
        }
        host
    }

    /// Uploads a package, under the version that its manifest has.
    async fn push(&self, model: &str, package: Vec<u8>) -> vespid_types::Result<()> {
        let version = package_value(&package, "version");
        let body = futures_util::stream::iter([Ok(Bytes::from(package))]);
        self.repository.upload(model.parse().unwrap(), version.parse().unwrap(), body).await
    }

    /// Asks for a prediction with a body that begins with `head` bytes of JSON.
    async fn infer(&self, model: &str, head: usize, body: Body) -> Answer {
        let request = Request::post(format!("/v2/models/{model}/infer"))
            .header("inference-header-content-length", head)
            .body(body)
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let length = response.headers().get("inference-header-content-length");
        let head = length.map_or(0, |length| length.to_str().unwrap().parse().unwrap());
        let status = response.status().as_u16();
        Answer { status, head, body: response.into_body().collect().await.unwrap().to_bytes() }
    }

    fn statistics(&self, model: &str) -> Statistics {
        let target = ModelRef { name: model.parse().unwrap(), version: None };
        self.predictor.model(&target).unwrap().statistics()
    }
}

/// A body with one input in binary, and the length of the JSON before it, which ends where `alignment` divides it.
fn body(name: &str, datatype: &str, shape: &[usize], data: &[u8], alignment: usize) -> (usize, Vec<u8>) {
    let head = serde_json::json!({
        "inputs": [{
            "name": name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": data.len()},
        }],
        "parameters": {"binary_data_output": true},
    });
    let mut body = serde_json::to_vec(&head).unwrap();
    body.resize(body.len().next_multiple_of(16) - 16 % alignment, b' ');
    let head = body.len();
    body.extend_from_slice(data);
    (head, body)
}

/// The first value of that key in a package's manifest.
fn package_value(package: &[u8], key: &str) -> String {
    let text = String::from_utf8_lossy(package);
    let value = text.split(&format!("{key} = \"")).nth(1).unwrap();
    value.split('"').next().unwrap().to_owned()
}
