//! What Vespid adds: a plugin call beside bare wasmtime's, a graph called natively, `iris` over HTTP beside an echo.
//!
//! Run by `cargo xtask bench`, which builds the packages. Each group is one comparison, measured in one run; read the
//! ratios, not the times.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod bare;
mod http;

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::routing::post;
use bytesize::ByteSize;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tokio::sync::watch;
use vespid_engine::{Call, Engine, EngineOptions, Plugin, PluginContext};
use vespid_ingress::Api;
use vespid_nn::{Backends, GraphSource, Graphs, LaneOptions};
use vespid_package::oci::{Registry, RegistryOptions};
use vespid_package::{Store, StoreOptions};
use vespid_serving::{Predictor, PredictorOptions, Repository, RepositoryOptions, Sources};
use vespid_telemetry::{Telemetry, TelemetryOptions};
use vespid_types::{Datatype, Deadline, Device, Encoding, NamedTensor, Parameters, Priority, Shape, Tensor};

use bare::Bare;
use http::Clients;

/// A file of a package that `cargo xtask bench` built.
fn package_file(package: &str, file: &str) -> Vec<u8> {
    let packages = std::env::var_os("VESPID_PACKAGES").unwrap_or_else(|| panic!("run `cargo xtask bench`"));
    let path = PathBuf::from(packages).join(format!("{package}.tar"));
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    let mut entry = archive
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap().as_os_str() == file)
        .unwrap_or_else(|| panic!("{package} holds no {file}"));
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    content
}

fn engine(dir: &TempDir) -> Engine {
    Engine::new(&EngineOptions { code_cache: dir.path().join("code"), max_instances: 64 }).unwrap()
}

fn plugin(engine: &Engine, component: &[u8], graphs: Graphs) -> Plugin {
    let context = PluginContext {
        model: "bench".parse().unwrap(),
        version: "1".parse().unwrap(),
        written: Default::default(),
        graphs,
        config: Default::default(),
        memory_limit: ByteSize::mib(64),
        instances: Default::default(),
        snapshot: None,
        grants: Default::default(),
        peers: None,
    };
    Plugin::compile(engine, component, context).unwrap()
}

fn floats(name: &str, values: &[f32], shape: &[u64]) -> NamedTensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    NamedTensor {
        name: name.to_owned(),
        tensor: Tensor::new(Datatype::Fp32, Shape::from(shape), data.into()).unwrap(),
    }
}

fn call(inputs: Vec<NamedTensor>) -> Call {
    let deadline = Deadline::after(Duration::from_secs(60));
    Call {
        id: None,
        deadline,
        priority: Priority::ONLINE,
        sequence: None,
        callers: Default::default(),
        inputs,
        outputs: vec![],
        parameters: Parameters::new(),
        timeline: Arc::default(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A plugin that hands its input back: what the call itself costs, instance included.
fn empty_plugin(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("empty plugin call");
    let component = package_file("empty", "empty.wasm");

    let bare = Bare::new(&component);
    group.bench_function("bare wasmtime, fresh instance", |bencher| {
        bencher.iter(|| {
            bare.instance().call();
        });
    });
    let mut instance = bare.instance();
    group.bench_function("bare wasmtime, same instance", |bencher| {
        bencher.iter(|| instance.call());
    });

    let dir = tempfile::tempdir().unwrap();
    let plugin = plugin(&engine(&dir), &component, Graphs::default());
    let input = floats("input", &[1.0, 2.0], &[2]);
    let runtime = runtime();
    group.bench_function("engine, fresh instance", |bencher| {
        bencher.iter(|| {
            let answer = runtime.block_on(plugin.call(call(vec![input.clone()]))).unwrap();
            assert_eq!(black_box(answer).outputs.len(), 1);
        });
    });
    group.finish();
}

/// The iris graph through its lane alone, and through the plugin that standardises and names the species.
fn iris_in_process(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("iris in process, one row");
    let source = |data: Vec<u8>| GraphSource {
        name: "iris".to_owned(),
        data: data.into(),
        weights: None,
        encoding: Encoding::Onnx,
        backend: None,
        device: Device::Cpu,
        provider: None,
        threads: None,
        instances: std::num::NonZero::<usize>::MIN,
        lane: LaneOptions::default(),
    };
    let load =
        || Graphs::load(&Backends::embedded(), vec![source(package_file("iris", "iris.onnx"))]).unwrap();
    let row = [5.1, 3.5, 1.4, 0.2];
    let runtime = runtime();

    let graphs = load();
    let lane = graphs.get("iris").unwrap().lane.clone();
    let x = floats("X", &row, &[1, 4]);
    let timeline = Arc::default();
    group.bench_function("graph, native", |bencher| {
        bencher.iter(|| {
            let deadline = Deadline::after(Duration::from_secs(60));
            let computing = lane.compute(vec![x.clone()], deadline, Priority::ONLINE, &timeline);
            runtime.block_on(computing).unwrap()
        });
    });

    let dir = tempfile::tempdir().unwrap();
    let plugin = plugin(&engine(&dir), &package_file("iris", "iris.wasm"), load());
    let measurements = floats("measurements", &row, &[1, 4]);
    group.bench_function("plugin and graph", |bencher| {
        bencher.iter(|| runtime.block_on(plugin.call(call(vec![measurements.clone()]))).unwrap());
    });
    group.finish();
}

const IRIS_BODY: &str =
    r#"{"inputs":[{"name":"measurements","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}]}"#;

const EMPTY_BODY: &str =
    r#"{"inputs":[{"name":"input","datatype":"FP32","shape":[4],"data":[5.1,3.5,1.4,0.2]}]}"#;

async fn vespid_router(dir: PathBuf) -> axum::Router {
    let store = Store::open(StoreOptions::folder(&dir)).await.unwrap();
    let engine = Engine::new(&EngineOptions { code_cache: store.code_cache(), max_instances: 64 }).unwrap();
    let predictor = Predictor::new(PredictorOptions { max_in_flight: 1024 });
    let options = RepositoryOptions::new(engine, Backends::embedded(), vespid_ingress::cases::request);
    let repository = Repository::start(store, predictor.clone(), options).await.unwrap();
    for package in ["empty", "iris", "iris-native"] {
        let packages = PathBuf::from(std::env::var_os("VESPID_PACKAGES").unwrap());
        let tar = Bytes::from(std::fs::read(packages.join(format!("{package}.tar"))).unwrap());
        let body = futures_util::stream::iter([Ok(tar)]);
        repository.upload(package.parse().unwrap(), "1".parse().unwrap(), body).await.unwrap();
    }
    let telemetry = Telemetry::new(predictor.clone(), TelemetryOptions::default()).unwrap();
    let registry = Registry::new(RegistryOptions::default());
    let sources = Sources::new(repository.clone(), registry, Vec::new());
    vespid_ingress::router(Api {
        predictor,
        telemetry,
        repository,
        sources,
        jobs: None,
        streams: None,
        access: None,
        max_body: ByteSize::mib(64),
        stopping: watch::channel(false).1,
    })
}

/// `iris` over HTTP beside a handler that echoes the same body through the same HTTP stack, on the same core; the time
/// of one request when 16 connections always have one under way.
fn iris_over_http(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("over HTTP, 16 connections");
    group.throughput(Throughput::Elements(1));
    http::pin(1);
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let echo = http::serve(async || axum::Router::new().route("/echo", post(async |body: Bytes| body)));
    let vespid = http::serve(move || vespid_router(store));
    for (name, server, path, body, expected) in [
        ("echo", echo, "/echo", IRIS_BODY, "measurements"),
        ("iris", vespid, "/v2/models/iris/infer", IRIS_BODY, "setosa"),
        ("iris-native", vespid, "/v2/models/iris-native/infer", IRIS_BODY, "probabilities"),
        ("empty plugin", vespid, "/v2/models/empty/infer", EMPTY_BODY, "output"),
    ] {
        let mut clients = Clients::new(server, 16, path, body);
        let (_, answer) = clients.run(16);
        assert!(answer.contains(expected), "{answer}");
        group.bench_function(name, |bencher| bencher.iter_custom(|requests| clients.run(requests).0));
    }
    group.finish();
}

criterion_group!(benches, empty_plugin, iris_in_process, iris_over_http);
criterion_main!(benches);
