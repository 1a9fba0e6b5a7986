//! `wasi_ephemeral_nn`: graphs by name, through the glue of wasmtime-wasi-nn.
//!
//! Contract: `load_by_name` finds the package's own graphs; `load` is refused, for the glue is given no backend. Inputs and
//! outputs are numbered in the order of the graph's signature. The codes of this interface say next to nothing: why
//! something was refused goes to the log, and into the error of a command that then fails.
//!
//! `compute` is ours, in the place of the glue's, which would hold a thread while the call waits in the lane. It finds the
//! execution context by its number, which the glue gives out from 0 on: there is no other way to a context of the glue,
//! and a test holds it to that.

use std::collections::HashMap;

use vespid_nn::{Graphs, LaneHandle, NnError};
use vespid_types::{Datatype, ErrorCode, NamedTensor, Shape, Stage, Tensor, note_copy};
use wasmtime::{Caller, Linker, format_err};
use wasmtime_wasi_nn::backend::{
    BackendError, BackendExecutionContext, BackendGraph, Id, NamedTensor as GlueNamed,
};
use wasmtime_wasi_nn::wit::TensorType;
use wasmtime_wasi_nn::{ExecutionContext, Graph, GraphRegistry, Tensor as GlueTensor, witx};

use super::state::{CommandState, Inner, Shared};

/// The module of the imports.
pub(super) const MODULE: &str = "wasi_ephemeral_nn";

/// What a handle or a tensor costs besides its data.
const OVERHEAD: usize = 128;

/// The interface's error codes, as far as they are given here.
const SUCCESS: u32 = 0;
const INVALID_ARGUMENT: u32 = 1;
const BUSY: u32 = 4;
const RUNTIME_ERROR: u32 = 5;
const UNSUPPORTED_OPERATION: u32 = 6;
const TOO_LARGE: u32 = 7;

pub(super) fn add_to_linker(linker: &mut Linker<CommandState>) -> wasmtime::Result<()> {
    witx::add_to_linker(linker, |state: &mut CommandState| &mut state.nn)?;
    linker.allow_shadowing(true);
    linker.func_wrap_async(MODULE, "compute", |caller: Caller<'_, CommandState>, (context,): (u32,)| {
        Box::new(compute(caller, context))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn compute(mut caller: Caller<'_, CommandState>, number: u32) -> u32 {
    let state = caller.data_mut();
    let Some((lane, inputs)) = state.shared.lock().begin(number) else {
        let message = format!("there is no execution context {number}");
        state.shared.lock().refuse(ErrorCode::InvalidArgument, message);
        return INVALID_ARGUMENT;
    };
    let computed = lane.compute(inputs, state.deadline, state.priority, &state.timeline).await;
    state.timeline.enter(Stage::Guest);
    match computed {
        Ok(outputs) => {
            if state.shared.lock().finish(number, outputs) {
                SUCCESS
            } else {
                TOO_LARGE
            }
        }
        Err(error) => {
            state.shared.lock().refuse(error.code(), error.to_string());
            errno(&error)
        }
    }
}

fn errno(error: &NnError) -> u32 {
    match error.code() {
        ErrorCode::InvalidArgument => INVALID_ARGUMENT,
        ErrorCode::Unavailable => BUSY,
        ErrorCode::Unsupported => UNSUPPORTED_OPERATION,
        ErrorCode::TooLarge => TOO_LARGE,
        _ => RUNTIME_ERROR,
    }
}

/// An execution context: a graph, what is to go in and what came out.
pub(super) struct Context {
    lane: LaneHandle,
    inputs: Vec<Option<Held>>,
    outputs: Vec<Held>,
}

/// A tensor and what it takes of the call's budget.
struct Held {
    tensor: Tensor,
    charged: usize,
}

impl Inner {
    /// The graph of a context and its inputs. Those that are missing the lane will name.
    fn begin(&self, number: u32) -> Option<(LaneHandle, Vec<NamedTensor>)> {
        let Context { lane, inputs, .. } = self.contexts.get(usize::try_from(number).ok()?)?;
        let named = lane.signature().inputs.iter().zip(inputs).filter_map(|(spec, held)| {
            Some(NamedTensor { name: spec.name.clone(), tensor: held.as_ref()?.tensor.clone() })
        });
        Some((lane.clone(), named.collect()))
    }

    /// Keeps what came out; `false` where there is no memory left for it.
    fn finish(&mut self, number: u32, outputs: Vec<NamedTensor>) -> bool {
        let Self { budget, contexts, .. } = self;
        let context = usize::try_from(number).ok().and_then(|number| contexts.get_mut(number));
        let Some(Context { outputs: kept, .. }) = context else { return false };
        kept.drain(..).for_each(|held| budget.give_back(held.charged));
        for NamedTensor { tensor, .. } in outputs {
            let charged = tensor.data().len().saturating_add(OVERHEAD);
            if !budget.take(charged) {
                return false;
            }
            kept.push(Held { tensor, charged });
        }
        true
    }

    fn set_input(&mut self, number: usize, index: u32, tensor: &GlueTensor) -> Result<(), Refused> {
        let Self { budget, contexts, .. } = self;
        let context = contexts.get_mut(number).ok_or(Refused::Invalid("no such context".to_owned()))?;
        let inputs = context.inputs.len();
        let slot = usize::try_from(index).ok().and_then(|index| context.inputs.get_mut(index));
        let Some(slot) = slot else {
            return Err(Refused::Invalid(format!("there is no input {index}: the graph has {inputs}")));
        };
        if let Some(held) = slot.take() {
            budget.give_back(held.charged);
        }
        let charged = tensor.data.len().saturating_add(OVERHEAD);
        if !budget.take(charged) {
            return Err(Refused::TooLarge(tensor.data.len()));
        }
        // The glue lends what it has copied out of the guest's memory.
        note_copy(tensor.data.len());
        let shape: Shape = tensor.dimensions.iter().map(|extent| u64::from(*extent)).collect();
        let tensor = Tensor::new(datatype(tensor.ty), shape, tensor.data.clone().into())
            .map_err(|error| Refused::Invalid(format!("input {index}: {error}")))?;
        *slot = Some(Held { tensor, charged });
        Ok(())
    }

    fn output(&self, number: usize, index: u32) -> Result<Tensor, Refused> {
        let context = self.contexts.get(number);
        let outputs = context.map_or(&[][..], |context| &context.outputs);
        let held = usize::try_from(index).ok().and_then(|index| outputs.get(index));
        held.map(|held| held.tensor.clone()).ok_or_else(|| {
            Refused::Invalid(format!(
                "there is no output {index}: {} came of the last `compute`",
                outputs.len()
            ))
        })
    }
}

/// What the glue is told, as far as it can be.
enum Refused {
    Invalid(String),
    Unsupported(String),
    TooLarge(usize),
}

impl Shared {
    /// Notes a refusal, and words it for the glue.
    fn refused(&self, refused: Refused) -> BackendError {
        let (code, message, told) = match refused {
            Refused::Invalid(message) => (
                ErrorCode::InvalidArgument,
                message.clone(),
                BackendError::BackendAccess(format_err!("{message}")),
            ),
            Refused::Unsupported(message) => {
                (ErrorCode::Unsupported, message.clone(), BackendError::UnsupportedTensorType(message))
            }
            Refused::TooLarge(bytes) => (
                ErrorCode::PluginFailed,
                format!("no memory is left for {bytes} bytes"),
                BackendError::NotEnoughMemory(bytes),
            ),
        };
        self.lock().refuse(code, message);
        told
    }
}

/// What `load_by_name` finds: the package's graphs, each made known when it is first asked for.
pub(super) struct Registry {
    graphs: Graphs,
    known: HashMap<String, Graph>,
    shared: Shared,
}

impl Registry {
    pub(super) fn new(graphs: Graphs, shared: Shared) -> Self {
        Self { graphs, known: HashMap::new(), shared }
    }
}

impl GraphRegistry for Registry {
    fn get(&self, name: &str) -> Option<&Graph> {
        self.known.get(name)
    }

    /// Called once for each handle, all of which the glue keeps until the call ends.
    fn get_mut(&mut self, name: &str) -> Option<&mut Graph> {
        if !self.shared.lock().budget.take(OVERHEAD) {
            self.shared.refused(Refused::TooLarge(OVERHEAD));
            return None;
        }
        match self.graphs.get(name) {
            Ok(graph) => {
                let make = || {
                    let graph = NamedGraph { lane: graph.lane.clone(), shared: self.shared.clone() };
                    Graph::from(Box::new(graph) as Box<dyn BackendGraph>)
                };
                Some(self.known.entry(name.to_owned()).or_insert_with(make))
            }
            Err(error) => {
                self.shared.lock().refuse(error.code(), error.to_string());
                None
            }
        }
    }
}

struct NamedGraph {
    lane: LaneHandle,
    shared: Shared,
}

impl BackendGraph for NamedGraph {
    fn init_execution_context(&self) -> Result<ExecutionContext, BackendError> {
        let inputs = self.lane.signature().inputs.len();
        let size = size_of::<Option<Held>>().saturating_mul(inputs).saturating_add(2 * OVERHEAD);
        let mut inner = self.shared.lock();
        if !inner.budget.take(size) {
            drop(inner);
            return Err(self.shared.refused(Refused::TooLarge(size)));
        }
        let number = inner.contexts.len();
        let inputs = std::iter::repeat_with(|| None).take(inputs).collect();
        inner.contexts.push(Context { lane: self.lane.clone(), inputs, outputs: Vec::new() });
        let context = Numbered { number, shared: self.shared.clone() };
        Ok((Box::new(context) as Box<dyn BackendExecutionContext>).into())
    }
}

/// The glue's side of a context.
struct Numbered {
    number: usize,
    shared: Shared,
}

impl BackendExecutionContext for Numbered {
    fn set_input(&mut self, id: Id, tensor: &GlueTensor) -> Result<(), BackendError> {
        let set = self.shared.lock().set_input(self.number, index(&id), tensor);
        set.map_err(|refused| self.shared.refused(refused))
    }

    fn get_output(&mut self, id: Id) -> Result<GlueTensor, BackendError> {
        let output =
            self.shared.lock().output(self.number, index(&id)).and_then(|tensor| glue_tensor(&tensor));
        output.map_err(|refused| self.shared.refused(refused))
    }

    /// [`compute`] stands in its place.
    fn compute(&mut self, _: Option<Vec<GlueNamed>>) -> Result<Option<Vec<GlueNamed>>, BackendError> {
        Err(BackendError::BackendAccess(format_err!("`compute` is defined in another place")))
    }
}

/// Names come with the component interface alone.
fn index(id: &Id) -> u32 {
    id.index().unwrap_or(u32::MAX)
}

fn glue_tensor(tensor: &Tensor) -> Result<GlueTensor, Refused> {
    let ty = tensor_type(tensor.datatype()).ok_or_else(|| {
        Refused::Unsupported(format!(
            "an output is {}: wasi-nn has FP16, FP32, FP64, UINT8, INT32 and INT64",
            tensor.datatype()
        ))
    })?;
    let dimensions = tensor.shape().iter().map(|extent| u32::try_from(*extent).unwrap_or(u32::MAX)).collect();
    // The glue takes a `Vec` of its own, out of which it copies into the guest's memory.
    note_copy(tensor.data().len());
    Ok(GlueTensor::new(dimensions, ty, tensor.data().to_vec()))
}

fn tensor_type(datatype: Datatype) -> Option<TensorType> {
    Some(match datatype {
        Datatype::Fp16 => TensorType::Fp16,
        Datatype::Fp32 => TensorType::Fp32,
        Datatype::Fp64 => TensorType::Fp64,
        Datatype::Uint8 => TensorType::U8,
        Datatype::Int32 => TensorType::I32,
        Datatype::Int64 => TensorType::I64,
        _ => return None,
    })
}

fn datatype(ty: TensorType) -> Datatype {
    match ty {
        TensorType::Fp16 => Datatype::Fp16,
        TensorType::Fp32 => Datatype::Fp32,
        TensorType::Fp64 => Datatype::Fp64,
        TensorType::Bf16 => Datatype::Bf16,
        TensorType::U8 => Datatype::Uint8,
        TensorType::I32 => Datatype::Int32,
        TensorType::I64 => Datatype::Int64,
    }
}
