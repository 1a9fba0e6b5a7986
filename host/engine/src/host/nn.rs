//! `wasi:nn`: graphs by name, and compute calls that wait in the graph's lane.
//!
//! Contract: `load-by-name` finds the package's own graphs; `load` is refused. A failed call gives a wasi-nn error whose
//! code and text say why. Cost: tensors move to the lane and back; nothing is copied here.

use vespid_nn::{LaneHandle, NnError};
use vespid_types::{Datatype, ErrorCode, NamedTensor, Shape, Stage, Tensor, note_copy};
use wasmtime::component::Resource;

use super::reads;
use super::tensors::{GuestTensor, OVERHEAD};
use super::{CallState, HostState};
use crate::bindings::wasi::nn::errors::{self, ErrorCode as WitCode};
use crate::bindings::wasi::nn::graph::{self, ExecutionTarget, GraphEncoding};
use crate::bindings::wasi::nn::inference;
use crate::bindings::wasi::nn::tensor::{self, TensorType};

/// A wasi-nn error in a call's table.
pub struct NnFailure {
    code: WitCode,
    message: String,
    /// What it takes of the call's budget.
    charged: usize,
}

/// Bytes of an error's text that are kept: names of the guest's own may be in it.
const MAX_MESSAGE: usize = 1024;

/// A tensor whose datatype and extents wasi-nn can name.
pub struct NnTensor(pub(super) GuestTensor);

impl NnTensor {
    /// Hands a tensor over, or back with the reason why not.
    pub(super) fn new(tensor: GuestTensor) -> Result<Self, (GuestTensor, String)> {
        let inner = &tensor.tensor;
        if tensor_type(inner.datatype()).is_none() {
            let reason = format!(
                "wasi-nn has no datatype for {}; it has FP16, FP32, FP64, BF16, UINT8, INT32 and INT64",
                inner.datatype()
            );
            return Err((tensor, reason));
        }
        if inner.shape().iter().any(|extent| u32::try_from(*extent).is_err()) {
            let reason = format!("shape {}: wasi-nn's extents have 32 bits", inner.shape());
            return Err((tensor, reason));
        }
        Ok(Self(tensor))
    }
}

/// A graph that the guest loaded.
pub struct NnGraph(LaneHandle);

/// An execution context: wasi-nn asks for one, and nothing is bound to it here.
pub struct NnContext(LaneHandle);

type Fallible<T> = wasmtime::Result<Result<T, Resource<NnFailure>>>;

impl HostState {
    fn fail<T>(&mut self, code: WitCode, message: impl Into<String>) -> Fallible<T> {
        let mut message: String = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.shrink_to_fit();
        let charged = message.len().saturating_add(OVERHEAD);
        if !self.budget.take(charged) {
            return Err(wasmtime::format_err!("no memory is left for an error's text"));
        }
        Ok(Err(self.table.push(NnFailure { code, message, charged })?))
    }

    fn fail_with<T>(&mut self, error: &NnError) -> Fallible<T> {
        let code = match error.code() {
            _ if matches!(error, NnError::UnknownGraph { .. }) => WitCode::NotFound,
            ErrorCode::InvalidArgument => WitCode::InvalidArgument,
            ErrorCode::Unsupported => WitCode::UnsupportedOperation,
            ErrorCode::DeadlineExceeded => WitCode::Timeout,
            ErrorCode::TooLarge => WitCode::TooLarge,
            _ => WitCode::RuntimeError,
        };
        // wasi-nn has no code for a full queue, among others: our own code goes first in the text, where the SDK reads it.
        self.fail(code, format!("{}: {error}", error.code()))
    }

    fn take_nn(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<Tensor> {
        let NnTensor(GuestTensor { tensor, charged }) = self.forget(handle)?;
        self.budget.give_back(charged);
        Ok(tensor)
    }

    fn push_nn(&mut self, tensor: Tensor) -> wasmtime::Result<Resource<NnTensor>> {
        let tensor = self.charge(tensor)?;
        let tensor = NnTensor::new(tensor)
            .map_err(|(_, reason)| wasmtime::format_err!("a graph's output: {reason}"))?;
        self.keep(tensor)
    }
}

impl errors::Host for HostState {}

impl errors::HostError for HostState {
    fn code(&mut self, handle: Resource<NnFailure>) -> wasmtime::Result<WitCode> {
        Ok(self.table.get(&handle)?.code)
    }

    fn data(&mut self, handle: Resource<NnFailure>) -> wasmtime::Result<String> {
        Ok(self.table.get(&handle)?.message.clone())
    }

    fn drop(&mut self, handle: Resource<NnFailure>) -> wasmtime::Result<()> {
        let NnFailure { charged, .. } = self.table.delete(handle)?;
        self.budget.give_back(charged);
        Ok(())
    }
}

impl tensor::Host for HostState {}

impl tensor::HostTensor for HostState {
    fn new(
        &mut self,
        dimensions: Vec<u32>,
        ty: TensorType,
        data: Vec<u8>,
    ) -> wasmtime::Result<Resource<NnTensor>> {
        let shape: Shape = dimensions.iter().map(|extent| u64::from(*extent)).collect();
        note_copy(data.len());
        // wasi-nn's constructor cannot fail, so that wrong data traps.
        let tensor = Tensor::new(datatype(ty), shape, data.into())
            .map_err(|error| wasmtime::format_err!("a wasi-nn tensor: {error}"))?;
        self.push_nn(tensor)
    }

    fn dimensions(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<Vec<u32>> {
        let NnTensor(tensor) = self.table.get(&handle)?;
        Ok(tensor.tensor.shape().iter().map(|extent| u32::try_from(*extent).unwrap_or(u32::MAX)).collect())
    }

    fn ty(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<TensorType> {
        let NnTensor(tensor) = self.table.get(&handle)?;
        tensor_type(tensor.tensor.datatype())
            .ok_or_else(|| wasmtime::format_err!("wasi-nn has no such datatype"))
    }

    fn data(&mut self, _handle: Resource<NnTensor>) -> wasmtime::Result<Vec<u8>> {
        reads::shadowed()
    }

    fn drop(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<()> {
        self.take_nn(handle).map(drop)
    }
}

impl graph::Host for HostState {
    fn load(
        &mut self,
        _builder: Vec<Vec<u8>>,
        _encoding: GraphEncoding,
        _target: ExecutionTarget,
    ) -> Fallible<Resource<NnGraph>> {
        self.fail(
            WitCode::Security,
            "`load` of a graph's bytes is not granted: list the graph as [[graph]] in model.toml and use `load-by-name`",
        )
    }

    fn load_by_name(&mut self, name: String) -> Fallible<Resource<NnGraph>> {
        match self.context.graphs.get(&name).map(|graph| graph.lane.clone()) {
            Ok(lane) => Ok(Ok(self.table.push(NnGraph(lane))?)),
            Err(error) => self.fail_with(&error),
        }
    }
}

impl graph::HostGraph for HostState {
    fn init_execution_context(&mut self, handle: Resource<NnGraph>) -> Fallible<Resource<NnContext>> {
        let NnGraph(lane) = self.table.get(&handle)?;
        let context = NnContext(lane.clone());
        Ok(Ok(self.table.push(context)?))
    }

    fn drop(&mut self, handle: Resource<NnGraph>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl inference::Host for HostState {}

impl inference::HostGraphExecutionContext for HostState {
    async fn compute(
        &mut self,
        handle: Resource<NnContext>,
        inputs: Vec<(String, Resource<NnTensor>)>,
    ) -> Fallible<Vec<(String, Resource<NnTensor>)>> {
        let NnContext(lane) = self.table.get(&handle)?;
        let lane = lane.clone();
        let inputs = inputs
            .into_iter()
            .map(|(name, handle)| Ok(NamedTensor { name, tensor: self.take_nn(handle)? }))
            .collect::<wasmtime::Result<Vec<_>>>()?;
        let CallState { deadline, priority, timeline, .. } = &self.call;
        let computed = lane.compute(inputs, *deadline, *priority, timeline).await;
        timeline.enter(Stage::Guest);
        match computed {
            Ok(outputs) => {
                let push = |NamedTensor { name, tensor }| Ok((name, self.push_nn(tensor)?));
                outputs.into_iter().map(push).collect::<wasmtime::Result<_>>().map(Ok)
            }
            Err(error) => {
                self.call.was_refused |= error.is_refused();
                self.fail_with(&error)
            }
        }
    }

    fn drop(&mut self, handle: Resource<NnContext>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

fn tensor_type(datatype: Datatype) -> Option<TensorType> {
    Some(match datatype {
        Datatype::Fp16 => TensorType::Fp16,
        Datatype::Fp32 => TensorType::Fp32,
        Datatype::Fp64 => TensorType::Fp64,
        Datatype::Bf16 => TensorType::Bf16,
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
