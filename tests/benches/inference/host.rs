//! The serving core in this process, as `vespid serve` sets it up, without HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use vespid_engine::{Engine, EngineOptions};
use vespid_package::{Store, StoreOptions};
use vespid_serving::{Predictor, PredictorOptions, ReadyModel, Repository, RepositoryOptions};
use vespid_tests::archive::Archive;
use vespid_types::{BackendName, ModelRef, NamedTensor, Parameters, Priority, Request};

use crate::graphs;

/// Requests that callers make in turn: the inputs of each.
pub(crate) type Requests = Arc<[Vec<NamedTensor>]>;

/// A server without its ports.
pub(crate) struct Host {
    // Ends last: what the others do when they end, they do in it.
    predictor: Predictor,
    repository: Repository,
    _dir: TempDir,
    runtime: Runtime,
}

impl Host {
    pub(crate) fn new() -> Self {
        let runtime = Builder::new_multi_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = runtime.block_on(Store::open(StoreOptions::folder(dir.path().join("store")))).unwrap();
        let options = EngineOptions { code_cache: store.code_cache(), max_instances: 256 };
        let engine = Engine::new(&options).unwrap();
        let predictor = Predictor::new(PredictorOptions { max_in_flight: 1024 });
        let options = RepositoryOptions::new(engine, graphs::backends(), vespid_ingress::cases::request);
        let repository = runtime.block_on(Repository::start(store, predictor.clone(), options)).unwrap();
        Self { predictor, repository, _dir: dir, runtime }
    }

    /// Takes a package in under another name; `graph` is put into its only `[[graph]]`.
    pub(crate) fn add(&self, package: &str, name: &str, graph: &str) -> Arc<ReadyModel> {
        let device = "device = \"cpu\"";
        let archive = Archive::built(package)
            .manifest(&format!("name = \"{package}\""), &format!("name = \"{name}\""))
            .manifest(device, &format!("{device}\n{graph}"));
        let body = futures_util::stream::iter([Ok(Bytes::from(archive.to_tar()))]);
        let name = ModelRef { name: name.parse().unwrap(), version: None };
        let uploading = self.repository.upload(name.name.clone(), "1".parse().unwrap(), body);
        self.runtime.block_on(uploading).unwrap_or_else(|error| panic!("{error}"));
        self.predictor.model(&name).unwrap()
    }

    /// Does so many calls, which so many callers share out among themselves; how long they took.
    pub(crate) fn calls(
        &self,
        model: &Arc<ReadyModel>,
        requests: &Requests,
        callers: usize,
        calls: u64,
    ) -> Duration {
        let next = Arc::new(AtomicU64::new(0));
        let caller = || {
            let (predictor, model) = (self.predictor.clone(), Arc::clone(model));
            let (requests, next) = (Arc::clone(requests), Arc::clone(&next));
            async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= calls {
                        return;
                    }
                    let inputs = requests[number as usize % requests.len()].clone();
                    let answer = predictor.predict(&model, request(&model, inputs)).await;
                    assert!(!answer.unwrap_or_else(|error| panic!("{error}")).outputs.is_empty());
                }
            }
        };
        self.runtime.block_on(async {
            let began = Instant::now();
            let callers: Vec<_> = (0..callers).map(|_| tokio::spawn(caller())).collect();
            for caller in callers {
                caller.await.unwrap();
            }
            began.elapsed()
        })
    }
}

fn request(model: &ReadyModel, inputs: Vec<NamedTensor>) -> Request {
    Request {
        model: ModelRef { name: model.name().clone(), version: None },
        id: None,
        parameters: Parameters::new(),
        inputs,
        outputs: Vec::new(),
        deadline: None,
        priority: Priority::ONLINE,
        sequence: None,
    }
}

/// What runs a graph, as `model.toml` writes it.
pub(crate) fn backend(name: BackendName) -> String {
    format!("backend = \"{name}\"")
}

/// The backends, ONNX Runtime first.
pub(crate) const BACKENDS: [BackendName; 2] = [BackendName::Onnxruntime, BackendName::Embedded];
