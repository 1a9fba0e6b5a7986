//! The embedded backend: the `rten` crate, pure Rust, nothing to install.
//!
//! Contract: ONNX graphs of most standard operators on the CPU, with dynamic dimensions; `docs/operators.md` has what it
//! passes of ONNX's own tests. It carries FP32, INT32, INT8 and UINT8 as they are; BOOL and INT64 as 32-bit integers (an
//! INT64 input beyond 32 bits is refused), FP16 as FP32. Other datatypes, operators, and forms of operators are refused
//! when the graph is loaded. Cost: each session has a thread pool of its own (`threads` of the manifest, else a thread for
//! each core, or one for a small graph), and its lane runs on one of these threads, so that a run needs no further hop.
//! Left out on purpose: the operators of `ai.onnx.ml` (trees and linear models as scikit-learn exports them), and external
//! data. Wrong in rten 0.27 and not to be told from the graph: `ArgMax` gives the last of equal elements where ONNX has
//! the first, and `Sign` of an FP32 zero is 1.

mod convert;

use std::sync::Arc;

use rten::{LoadError, LoadErrorKind, Model, ModelOptions, NodeId, RunOptions, ThreadPool};
use vespid_types::{BackendName, Device, NamedTensor, Signature, TensorSpec};

use crate::backend::{Backend, Footprint, GraphSource, LoadedSessions, Session, Worker};
use crate::{Interrupt, NnError, onnx};

const NAME: BackendName = BackendName::Embedded;

/// The datatypes that it carries.
pub const CARRIED: &str = "BOOL, UINT8, INT8, INT32, INT64 (as 32 bits), FP16 and FP32";

/// The backend over `rten`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embedded;

impl Backend for Embedded {
    fn name(&self) -> BackendName {
        NAME
    }

    fn load(&self, source: GraphSource) -> Result<LoadedSessions, NnError> {
        check_place(&source)?;
        onnx::check_encoding(NAME, source.encoding)?;
        let described = onnx::describe(&source.data)?;
        if let Some(output) = described.cubic {
            // rten would resize linearly.
            let message =
                format!("the Resize that makes '{output}' has mode \"cubic\", which is not supported");
            return Err(NnError::UnsupportedOperator { message, remedy: REMEDY });
        }
        let signature = described.signature;
        for spec in signature.inputs.iter().chain(&signature.outputs) {
            convert::check_carried(spec)?;
        }
        let (chosen, threads, instances) = (source.threads, source.threads(), source.instances.get());
        let memory = MEMORY.of(source.data.len(), 1);
        let model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load(source.data.into())
            .map_err(|error| refused(&error))?;
        let graph = Arc::new(LoadedGraph::new(model, signature.clone())?);
        let threads = if chosen.is_none() && graph.is_small() { 1 } else { threads };
        let session = |_| {
            let threads = Arc::new(ThreadPool::with_num_threads(threads));
            Box::new(EmbeddedSession { graph: Arc::clone(&graph), threads }) as Box<dyn Session>
        };
        let sessions = (0..instances).map(session).collect();
        let (batching, growth) = (described.batching, described.growth);
        Ok(LoadedSessions { signature, batching, growth, device: Device::Cpu, memory, threads, sessions })
    }
}

/// The weights, and of some of them copies in the order in which products of matrices read them; all sessions share them.
/// One more graph took 1.47 (MiniLM), 1.04 (Magika) and 0.94 (EfficientNet-Lite0) times its file.
const MEMORY: Footprint = Footprint { fixed: 256 << 10, percent: 150 };

fn check_place(source: &GraphSource) -> Result<(), NnError> {
    if let Device::Gpu(_) = source.device {
        let reason =
            "it runs on the processor alone; use device = \"cpu\", or serve with ONNX Runtime (see `vespid doctor`)".to_owned();
        return Err(NnError::UnsupportedDevice { backend: NAME, device: source.device, reason });
    }
    match source.provider {
        Some(provider) => {
            let reason =
                "it has none; leave `provider` out, or serve with ONNX Runtime (see `vespid doctor`)"
                    .to_owned();
            Err(NnError::UnsupportedProvider { backend: NAME, provider, reason })
        }
        None => Ok(()),
    }
}

/// What to do about an operator that `rten` does not have.
const REMEDY: &str = "the embedded backend has most of ONNX's standard operators, not in all their forms, and none of ai.onnx.ml: run the graph with backend = \"onnxruntime\", or export it without this one (for scikit-learn: an estimator whose probabilities need none of ai.onnx.ml, with the labels cut off)";

fn refused(error: &LoadError) -> NnError {
    let message = error.to_string();
    match error.kind() {
        // The same kind stands for an operator that is there and malformed. An attribute or a value of it that rten does
        // not have is "unsupported", an operator "not supported".
        LoadErrorKind::OperatorInvalid if message.contains("supported") => {
            NnError::UnsupportedOperator { message, remedy: REMEDY }
        }
        _ => NnError::Load { message },
    }
}

/// Weights up to which a run is too short to be worth waking further threads for.
const SMALL: usize = 1 << 14;

/// What all sessions of a graph share.
struct LoadedGraph {
    model: Model,
    signature: Signature,
    /// Of the signature's inputs, in order.
    inputs: Vec<NodeId>,
    /// Of the signature's outputs, in order.
    outputs: Vec<NodeId>,
}

impl LoadedGraph {
    fn new(model: Model, signature: Signature) -> Result<Self, NnError> {
        let node = |spec: &TensorSpec| {
            model.node_id(&spec.name).map_err(|error| NnError::Load { message: error.to_string() })
        };
        let inputs = signature.inputs.iter().map(node).collect::<Result<_, _>>()?;
        let outputs = signature.outputs.iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self { model, signature, inputs, outputs })
    }

    fn is_small(&self) -> bool {
        self.model.total_params() <= SMALL
    }
}

struct EmbeddedSession {
    graph: Arc<LoadedGraph>,
    threads: Arc<ThreadPool>,
}

impl Session for EmbeddedSession {
    fn run(&mut self, inputs: &[NamedTensor], _: &Interrupt) -> Result<Vec<NamedTensor>, NnError> {
        let LoadedGraph { model, signature, inputs: nodes, outputs } = &*self.graph;
        let values = inputs
            .iter()
            .zip(nodes)
            .map(|(input, node)| Ok((*node, convert::to_value(input)?)))
            .collect::<Result<_, NnError>>()?;
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let results = model
            .run(values, outputs, Some(options))
            .map_err(|error| NnError::Run { message: error.to_string() })?;
        signature.outputs.iter().zip(results).map(|(spec, value)| convert::to_tensor(spec, value)).collect()
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        let threads = Arc::clone(&self.threads);
        threads.run(move || worker(&mut *self));
    }
}
