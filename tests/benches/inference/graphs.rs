//! Graphs of this repository's packages, loaded without a plugin.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use vespid_nn::onnxruntime::OnnxRuntime;
use vespid_nn::{Backends, GraphSource, Graphs, LaneHandle, LaneOptions, NnError};
use vespid_tests::archive::Archive;
use vespid_tests::built;
use vespid_tests::random::Random;
use vespid_types::{
    BackendName, Datatype, Deadline, Device, Encoding, NamedTensor, Priority, Shape, Signature, Tensor,
    TensorSpec,
};

/// Both backends. ONNX Runtime can be loaded once a process, so that all share this.
pub(crate) fn backends() -> Backends {
    static LOADED: std::sync::LazyLock<Backends> = std::sync::LazyLock::new(|| {
        let library = PathBuf::from(built::onnxruntime());
        let library = OnnxRuntime::open(&library).unwrap_or_else(|error| panic!("{error}"));
        Backends::embedded().with_onnxruntime(Arc::new(library))
    });
    LOADED.clone()
}

/// A file of a package.
pub(crate) fn of_package(package: &str, file: &str) -> Vec<u8> {
    Archive::built(package).data(file).to_vec()
}

/// A graph that is to be loaded.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    pub(crate) data: bytes::Bytes,
}

impl Source {
    pub(crate) fn minilm() -> Self {
        Self { name: "minilm", data: of_package("embed", "assets/model.onnx").into() }
    }

    pub(crate) fn efficientnet() -> Self {
        let data = of_package("image-classify", "assets/model.onnx").into();
        Self { name: "efficientnet-lite0", data }
    }

    /// The graph alone under its name.
    pub(crate) fn load(
        &self,
        backend: BackendName,
        device: Device,
        threads: Option<NonZero<usize>>,
        lane: LaneOptions,
    ) -> Result<Graphs, NnError> {
        let source = GraphSource {
            name: self.name.to_owned(),
            data: self.data.clone(),
            weights: None,
            encoding: Encoding::Onnx,
            backend: Some(backend),
            device,
            provider: None,
            threads,
            instances: NonZero::<usize>::MIN,
            lane,
        };
        Graphs::load(&backends(), vec![source])
    }

    /// The way to the graph, on the processor.
    pub(crate) fn lane(&self, backend: BackendName, threads: Option<NonZero<usize>>) -> LaneHandle {
        let graphs = self.load(backend, Device::Cpu, threads, LaneOptions::default());
        graphs.unwrap_or_else(|error| panic!("{error}")).get(self.name).unwrap().lane.clone()
    }
}

/// Inputs that fit a graph: so many rows, and `length` for every further extent that it leaves open.
pub(crate) fn inputs(signature: &Signature, rows: u64, length: u64) -> Vec<NamedTensor> {
    let mut random = Random::new(1);
    signature.inputs.iter().map(|spec| input(spec, rows, length, &mut random)).collect()
}

fn input(spec: &TensorSpec, rows: u64, length: u64, random: &mut Random) -> NamedTensor {
    let extent = |(place, extent): (usize, &vespid_types::Extent)| match u64::try_from(extent.to_signed()) {
        Ok(fixed) => fixed,
        Err(_) if place == 0 => rows,
        Err(_) => length,
    };
    let shape: Shape = spec.shape.iter().enumerate().map(extent).collect();
    let count = shape.elements().unwrap();
    // Ids of words and bytes of files are within this; of a mask all counts.
    let mut id = |_| if spec.name.contains("mask") { 1 } else { random.below(256) as i32 };
    let data: Vec<u8> = match spec.datatype {
        Datatype::Int64 => (0..count).flat_map(|n| i64::from(id(n)).to_le_bytes()).collect(),
        Datatype::Int32 => (0..count).flat_map(|n| id(n).to_le_bytes()).collect(),
        Datatype::Fp32 => (0..count).flat_map(|n| (id(n) as f32 / 128.0 - 1.0).to_le_bytes()).collect(),
        other => panic!("input '{}' is {other}", spec.name),
    };
    NamedTensor { name: spec.name.clone(), tensor: Tensor::new(spec.datatype, shape, data.into()).unwrap() }
}

/// Far later than anything here takes.
pub(crate) fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(600))
}

/// Runs a graph, as one of its callers.
pub(crate) async fn compute(lane: &LaneHandle, inputs: &[NamedTensor]) -> Vec<NamedTensor> {
    let computed = lane.compute(inputs.to_vec(), deadline(), Priority::ONLINE, &Arc::default()).await;
    computed.unwrap_or_else(|error| panic!("{error}"))
}

/// A runtime for one caller: the calling thread itself.
pub(crate) fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
