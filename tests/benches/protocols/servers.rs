//! The servers, in threads of this process, and how much of a processor they use up.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::serve::ListenerExt;
use bytesize::ByteSize;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use vespid_engine::{Engine, EngineOptions};
use vespid_ingress::Api;
use vespid_nn::Backends;
use vespid_package::oci::{Registry, RegistryOptions};
use vespid_package::{Store, StoreOptions};
use vespid_serving::{Predictor, PredictorOptions, Repository, RepositoryOptions, Sources};
use vespid_telemetry::{Telemetry, TelemetryOptions};
use vespid_tests::archive::Archive;

use crate::bare;

/// Where HTTP and gRPC are answered.
#[derive(Clone, Copy)]
pub(crate) struct Address {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
}

pub(crate) struct Servers {
    pub(crate) vespid: Address,
    pub(crate) bare: Address,
}

impl Servers {
    /// Starts them. They run until the process ends.
    pub(crate) fn start(store: PathBuf) -> Self {
        Self {
            vespid: serve(async || vespid(store).await),
            bare: serve(async || (bare::http(), bare::grpc())),
        }
    }
}

async fn vespid(dir: PathBuf) -> (Router, Router) {
    let store = Store::open(StoreOptions::folder(&dir)).await.unwrap();
    let engine = Engine::new(&EngineOptions { code_cache: store.code_cache(), max_instances: 64 }).unwrap();
    let predictor = Predictor::new(PredictorOptions { max_in_flight: 1024 });
    let options = RepositoryOptions::new(engine, Backends::embedded(), vespid_ingress::cases::request);
    let repository = Repository::start(store, predictor.clone(), options).await.unwrap();
    for (name, package) in [("iris", Archive::built("iris")), ("pool", pool())] {
        let body = futures_util::stream::iter([Ok(Bytes::from(package.to_tar()))]);
        repository.upload(name.parse().unwrap(), "1".parse().unwrap(), body).await.unwrap();
    }
    let (stop, stopping) = watch::channel(false);
    // Nobody stops it.
    std::mem::forget(stop);
    let telemetry = Telemetry::new(predictor.clone(), TelemetryOptions::default()).unwrap();
    let registry = Registry::new(RegistryOptions::default());
    let sources = Sources::new(repository.clone(), registry, Vec::new());
    let api = Api {
        predictor,
        telemetry,
        repository,
        sources,
        jobs: None,
        streams: None,
        access: None,
        max_body: ByteSize::mib(64),
        stopping,
    };
    (vespid_ingress::router(api.clone()), vespid_ingress::grpc_router(api).unwrap())
}

/// A graph that does next to nothing with an image; `pool.py` writes it.
fn pool() -> Archive {
    let manifest = r#"
        [model]
        name = "pool"
        version = "1"
        [[graph]]
        name = "pool"
        file = "pool.onnx"
        encoding = "onnx"
    "#;
    Archive::default().file("model.toml", manifest).file("pool.onnx", include_bytes!("pool.onnx"))
}

fn serve<F: Future<Output = (Router, Router)>>(build: impl FnOnce() -> F + Send + 'static) -> Address {
    let (address, bound) = channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (http, grpc) = build().await;
            let [one, other] = [bind().await, bind().await];
            address
                .send(Address { http: one.local_addr().unwrap(), grpc: other.local_addr().unwrap() })
                .unwrap();
            let [one, other] = [one, other].map(|listener| {
                listener.tap_io(|stream| {
                    stream.set_nodelay(true).unwrap();
                })
            });
            tokio::join!(async { axum::serve(one, http).await.unwrap() }, async {
                axum::serve(other, grpc).await.unwrap();
            });
        });
    });
    bound.recv().unwrap()
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// The processor time of all threads but the one that calls this, which is the clients'.
pub(crate) fn processor_time() -> Duration {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let own = own.file_name().unwrap().to_owned();
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap());
    threads
        .filter(|thread| thread.file_name() != own)
        // A thread may end meanwhile.
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .map(|stat| Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap()))
        .sum()
}
