//! A plugin twice: as the component that its package holds, and as the same Rust code compiled for this machine.
//!
//! Both run the same graph through the same lane. The native side is the plugin's crate with the SDK's stand-in for the
//! host (`vespid_plugin::testing`), whose tensors are plain vectors; so it copies the graph's inputs and outputs once more
//! than the component does, which is no more than a few MB here. It is built without link-time optimisation, which the
//! component has.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vespid_engine::{Call, Engine, EngineOptions, Plugin, PluginContext};
use vespid_nn::{Graphs, LaneHandle, LaneOptions};
use vespid_plugin::Model;
use vespid_types::{
    BackendName, Datatype, Device, NamedTensor, Parameters, Priority, Shape, Tensor, encode_elements,
};

use crate::graphs::{self, Source};

/// What the two sides have in common.
pub(crate) struct Subject {
    /// The package.
    pub(crate) package: &'static str,
    /// The component in it.
    pub(crate) component: &'static str,
    /// The only input, of BYTES.
    pub(crate) input: &'static str,
    /// The output that is compared.
    pub(crate) output: &'static str,
    pub(crate) graph: Source,
    /// The graph's only output.
    pub(crate) graph_output: &'static str,
    /// The plugin's code.
    pub(crate) predict: fn(vespid_plugin::Request) -> vespid_plugin::Result<vespid_plugin::Response>,
}

impl Subject {
    pub(crate) fn embed() -> Self {
        Self {
            package: "embed",
            component: "embed.wasm",
            input: "text",
            output: "embedding",
            graph: Source::minilm(),
            graph_output: "last_hidden_state",
            predict: embed::Embed::predict,
        }
    }

    pub(crate) fn image_classify() -> Self {
        Self {
            package: "image-classify",
            component: "image_classify.wasm",
            input: "image",
            output: "probability",
            graph: Source::efficientnet(),
            graph_output: "logits",
            predict: image_classify::ImageClassify::predict,
        }
    }

    /// Loads the graph, compiles the component, and hands the graph to both sides.
    pub(crate) fn start(self, backend: BackendName) -> Sides {
        let graphs = self.graph.load(backend, Device::Cpu, None, LaneOptions::default());
        let graphs = graphs.unwrap_or_else(|error| panic!("{error}"));
        let lane = graphs.get(self.graph.name).unwrap().lane.clone();
        let dir = tempfile::tempdir().unwrap();
        let plugin = plugin(&dir, &self, graphs);
        let (runtime, in_graph) = (Rc::new(graphs::single()), Rc::default());
        stand_in(&self, lane, Rc::clone(&runtime), Rc::clone(&in_graph));
        Sides { subject: self, plugin, runtime, in_graph, _dir: dir }
    }
}

fn plugin(dir: &TempDir, subject: &Subject, graphs: Graphs) -> Plugin {
    let options = EngineOptions { code_cache: dir.path().join("code"), max_instances: 64 };
    let engine = Engine::new(&options).unwrap();
    let context = PluginContext {
        model: subject.package.parse().unwrap(),
        version: "1".parse().unwrap(),
        graphs,
        config: Default::default(),
        memory_limit: ByteSize::mib(256),
        instances: Default::default(),
        written: Default::default(),
        snapshot: None,
        grants: Default::default(),
        peers: None,
    };
    Plugin::compile(&engine, &graphs::of_package(subject.package, subject.component), context).unwrap()
}

/// Lets this thread's native code find the graph, and counts the time that it spends there.
fn stand_in(subject: &Subject, lane: LaneHandle, runtime: Rc<Runtime>, in_graph: Rc<Cell<Duration>>) {
    let output = subject.graph_output;
    vespid_plugin::testing::graph(subject.graph.name, move |inputs| {
        let began = Instant::now();
        let inputs: Vec<NamedTensor> = inputs.iter().map(|(name, tensor)| to_host(name, tensor)).collect();
        let mut outputs = runtime.block_on(graphs::compute(&lane, &inputs));
        let answer = from_host(&outputs.remove(0));
        in_graph.set(in_graph.get() + began.elapsed());
        Ok(vec![(output, answer)])
    });
}

fn to_host(name: &str, tensor: &vespid_plugin::Tensor) -> NamedTensor {
    let datatype: Datatype = tensor.datatype().to_string().parse().unwrap();
    let shape: Shape = tensor.shape().iter().map(|&extent| extent as u64).collect();
    NamedTensor { name: name.to_owned(), tensor: Tensor::new(datatype, shape, tensor.data().into()).unwrap() }
}

fn from_host(NamedTensor { tensor, .. }: &NamedTensor) -> vespid_plugin::Tensor {
    assert_eq!(tensor.datatype(), Datatype::Fp32);
    let shape: Vec<usize> = tensor.shape().iter().map(|&extent| extent as usize).collect();
    vespid_plugin::Tensor::raw(vespid_plugin::Datatype::Fp32, shape, tensor.data()).unwrap()
}

/// The component and the native code, over one graph.
pub(crate) struct Sides {
    pub(crate) subject: Subject,
    pub(crate) plugin: Plugin,
    runtime: Rc<Runtime>,
    in_graph: Rc<Cell<Duration>>,
    _dir: TempDir,
}

impl Sides {
    /// Checks that both answer the same.
    pub(crate) fn check(&self, elements: &[Vec<u8>]) {
        let (native, component) = (self.native(elements), self.component(elements));
        let greatest = native.iter().map(|value| value.abs()).fold(0.0, f32::max);
        let close = |(one, other): (&f32, &f32)| (one - other).abs() <= 1e-5 * greatest;
        assert!(native.len() == component.len() && !native.is_empty());
        assert!(native.iter().zip(&component).all(close), "{native:?}\n{component:?}");
    }

    /// One call of the native code: the output that is compared.
    pub(crate) fn native(&self, elements: &[Vec<u8>]) -> Vec<f32> {
        let input = vespid_plugin::Tensor::bytes(elements, [elements.len()]).unwrap();
        let request = vespid_plugin::Request::new().with(self.subject.input, input);
        let response = (self.subject.predict)(request).unwrap_or_else(|error| panic!("{error}"));
        response.get(self.subject.output).unwrap().to_vec().unwrap()
    }

    /// The same of the component.
    pub(crate) fn component(&self, elements: &[Vec<u8>]) -> Vec<f32> {
        let shape = Shape::from(&[elements.len() as u64][..]);
        let tensor = Tensor::new(Datatype::Bytes, shape, encode_elements(elements).unwrap()).unwrap();
        let call = Call {
            id: None,
            deadline: graphs::deadline(),
            priority: Priority::ONLINE,
            sequence: None,
            callers: Default::default(),
            inputs: vec![NamedTensor { name: self.subject.input.to_owned(), tensor }],
            outputs: vec![],
            parameters: Parameters::new(),
            timeline: Arc::default(),
        };
        let answer = self.runtime.block_on(self.plugin.call(call)).unwrap_or_else(|error| panic!("{error}"));
        let output = answer.outputs.iter().find(|output| output.name == self.subject.output).unwrap();
        let values = output.tensor.data().chunks_exact(4);
        values.map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
    }

    /// How long the native code has been in the graph, since this was last asked.
    pub(crate) fn take_in_graph(&self) -> Duration {
        self.in_graph.take()
    }
}
