//! The embedded backend: the `rten` crate, pure Rust, nothing to install.
//!
//! Contract: ONNX graphs of the standard operators, on the CPU, with dynamic dimensions. It carries FP32, INT32, INT8
//! and UINT8 as they are; BOOL and INT64 as 32-bit integers (an INT64 input beyond 32 bits is refused), FP16 as FP32.
//! Other datatypes are refused when the graph is loaded. Cost: each graph has a thread pool of its own (a thread for
//! each core, or one for a small graph), and its lane runs on one of these threads, so that a run needs no further hop.
//! Left out on purpose: the operators of `ai.onnx.ml` (trees and linear models as scikit-learn exports them), and external data.

mod convert;

use rten::{LoadError, LoadErrorKind, ModelOptions, NodeId, RunOptions, ThreadPool};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use vespid_types::{Device, Encoding, NamedTensor, Signature, TensorSpec};

use crate::backend::{Backend, Graph, GraphSource, Worker};
use crate::{NnError, onnx};

/// The name in model metadata and errors.
pub const NAME: &str = "embedded";

/// The datatypes that it carries.
pub const CARRIED: &str = "BOOL, UINT8, INT8, INT32, INT64 (as 32 bits), FP16 and FP32";

/// The backend over `rten`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Embedded;

impl Backend for Embedded {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, source: GraphSource) -> Result<Box<dyn Graph>, NnError> {
        if let Device::Gpu(_) = source.device {
            return Err(NnError::UnsupportedDevice { backend: NAME, device: source.device });
        }
        let Encoding::Onnx = source.encoding;
        let signature = onnx::signature(&source.data)?;
        for spec in signature.inputs.iter().chain(&signature.outputs) {
            convert::check_carried(spec)?;
        }
        let model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load(source.data.into())
            .map_err(|error| refused(&error))?;
        let node = |spec: &TensorSpec| {
            model.node_id(&spec.name).map_err(|error| NnError::Load { message: error.to_string() })
        };
        let inputs = signature.inputs.iter().map(node).collect::<Result<_, _>>()?;
        let outputs = signature.outputs.iter().map(node).collect::<Result<_, _>>()?;
        let threads = Arc::new(ThreadPool::with_num_threads(threads(&model)));
        Ok(Box::new(EmbeddedGraph { model, signature, inputs, outputs, threads }))
    }
}

fn refused(error: &LoadError) -> NnError {
    let message = error.to_string();
    match error.kind() {
        // The same kind stands for an operator that is there and malformed.
        LoadErrorKind::OperatorInvalid if message.contains("not supported") => {
            NnError::UnsupportedOperator { backend: NAME, message }
        }
        _ => NnError::Load { message },
    }
}

/// Weights up to which a run is too short to be worth waking further threads for.
const SMALL: usize = 1 << 14;

fn threads(model: &rten::Model) -> usize {
    if model.total_params() <= SMALL { 1 } else { available_parallelism().map_or(1, NonZero::get) }
}

struct EmbeddedGraph {
    model: rten::Model,
    signature: Signature,
    /// Of the signature's inputs, in order.
    inputs: Vec<NodeId>,
    /// Of the signature's outputs, in order.
    outputs: Vec<NodeId>,
    threads: Arc<ThreadPool>,
}

impl Graph for EmbeddedGraph {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, NnError> {
        let specs = self.signature.inputs.iter().zip(&self.inputs);
        let values = specs
            .filter_map(|(spec, node)| {
                let input = inputs.iter().find(|input| input.name == spec.name)?;
                Some(convert::to_value(input).map(|value| (*node, value)))
            })
            .collect::<Result<_, _>>()?;
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let results = self
            .model
            .run(values, &self.outputs, Some(options))
            .map_err(|error| NnError::Run { message: error.to_string() })?;
        self.signature
            .outputs
            .iter()
            .zip(results)
            .map(|(spec, value)| convert::to_tensor(spec, value))
            .collect()
    }

    fn serve(mut self: Box<Self>, worker: Worker) {
        let threads = Arc::clone(&self.threads);
        threads.run(move || worker(&mut *self));
    }
}
