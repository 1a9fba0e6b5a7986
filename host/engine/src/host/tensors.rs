//! `vespid:model/tensors`: tensors that stay with the host until the guest reads them.
//!
//! Cost: a guest's write and read copy once, out of and into its memory, because that memory ends with the call; lending,
//! taking and handing over to wasi-nn copy nothing. What reads data is in [`super::reads`], for the bindings would copy
//! twice.

use bytesize::ByteSize;
use vespid_types::{Datatype, Shape, Tensor, note_copy};
use wasmtime::component::Resource;

use super::HostState;
use super::nn::NnTensor;
use super::reads;
use crate::bindings::vespid::model::tensors::{self, Datatype as WitDatatype, TensorError};

/// What a handle costs besides its data.
pub(super) const OVERHEAD: usize = 128;

/// A tensor in a call's table.
pub struct GuestTensor {
    pub(super) tensor: Tensor,
    /// What it takes of the call's budget.
    pub(super) charged: usize,
}

/// A tensor that the call's memory limit does not allow.
#[derive(Debug, thiserror::Error)]
#[error("a tensor of {bytes} bytes exceeds what is left of the call's memory limit of {limit}")]
pub(super) struct OverBudget {
    bytes: usize,
    limit: ByteSize,
}

impl HostState {
    /// Puts a tensor of the request into the table; it is not charged.
    pub(crate) fn lend(&mut self, tensor: Tensor) -> wasmtime::Result<Resource<GuestTensor>> {
        self.keep(GuestTensor { tensor, charged: 0 })
    }

    /// Puts a tensor into the table, and so in the guest's hands.
    pub(super) fn keep<T: Send + 'static>(&mut self, tensor: T) -> wasmtime::Result<Resource<T>> {
        let handle = self.table.push(tensor)?;
        self.tensors += 1;
        Ok(handle)
    }

    /// Takes a tensor out of the table.
    pub(super) fn forget<T: Send + 'static>(&mut self, handle: Resource<T>) -> wasmtime::Result<T> {
        let tensor = self.table.delete(handle)?;
        self.tensors = self.tensors.saturating_sub(1);
        Ok(tensor)
    }

    /// Takes a tensor that the guest gave away.
    pub(crate) fn take(&mut self, handle: Resource<GuestTensor>) -> wasmtime::Result<Tensor> {
        let GuestTensor { tensor, charged } = self.forget(handle)?;
        self.budget.give_back(charged);
        Ok(tensor)
    }

    /// Charges a tensor that the guest, a graph or another model made.
    pub(super) fn charge(&mut self, tensor: Tensor) -> Result<GuestTensor, OverBudget> {
        let shape = tensor.shape().len().saturating_mul(size_of::<u64>());
        let charged = tensor.data().len().saturating_add(shape).saturating_add(OVERHEAD);
        if self.budget.take(charged) {
            return Ok(GuestTensor { tensor, charged });
        }
        Err(OverBudget { bytes: tensor.data().len(), limit: self.context.memory_limit })
    }

    pub(super) fn tensor(&self, handle: &Resource<GuestTensor>) -> wasmtime::Result<&Tensor> {
        Ok(&self.table.get(handle)?.tensor)
    }
}

impl tensors::Host for HostState {}

impl tensors::HostTensor for HostState {
    fn new(
        &mut self,
        datatype: WitDatatype,
        shape: Vec<u64>,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Resource<GuestTensor>, TensorError>> {
        // Copied out of the guest's memory by the bindings.
        note_copy(data.len());
        let tensor = match Tensor::new(datatype.into(), Shape::from(&shape[..]), data.into()) {
            Ok(tensor) => tensor,
            Err(error) => return Ok(Err(TensorError::SizeMismatch(error.to_string()))),
        };
        match self.charge(tensor) {
            Ok(tensor) => Ok(Ok(self.keep(tensor)?)),
            Err(error) => Ok(Err(TensorError::OutOfMemory(error.to_string()))),
        }
    }

    fn datatype(&mut self, handle: Resource<GuestTensor>) -> wasmtime::Result<WitDatatype> {
        Ok(self.tensor(&handle)?.datatype().into())
    }

    fn shape(&mut self, handle: Resource<GuestTensor>) -> wasmtime::Result<Vec<u64>> {
        Ok(self.tensor(&handle)?.shape().to_vec())
    }

    fn byte_length(&mut self, handle: Resource<GuestTensor>) -> wasmtime::Result<u64> {
        Ok(self.tensor(&handle)?.data().len() as u64)
    }

    fn data(&mut self, _handle: Resource<GuestTensor>) -> wasmtime::Result<Vec<u8>> {
        reads::shadowed()
    }

    fn read(
        &mut self,
        _handle: Resource<GuestTensor>,
        _offset: u64,
        _length: u64,
    ) -> wasmtime::Result<Result<Vec<u8>, TensorError>> {
        reads::shadowed()
    }

    fn elements(
        &mut self,
        handle: Resource<GuestTensor>,
    ) -> wasmtime::Result<Result<Vec<(u64, u64)>, TensorError>> {
        let tensor = self.tensor(&handle)?;
        if tensor.datatype() != Datatype::Bytes {
            let text = format!(
                "elements of a {} tensor: only BYTES has elements of differing length",
                tensor.datatype()
            );
            return Ok(Err(TensorError::Unsupported(text)));
        }
        // Shared, not copied: the budget is asked meanwhile.
        let tensor = tensor.clone();
        let size =
            usize::try_from(tensor.len()).unwrap_or(usize::MAX).saturating_mul(size_of::<(u64, u64)>());
        if !self.budget.take(size) {
            let text = format!("the list of {} elements exceeds the call's memory limit", tensor.len());
            return Ok(Err(TensorError::OutOfMemory(text)));
        }
        let elements = tensor.elements().map(|range| (range.start as u64, range.len() as u64)).collect();
        self.budget.give_back(size);
        Ok(Ok(elements))
    }

    fn share(
        &mut self,
        handle: Resource<GuestTensor>,
    ) -> wasmtime::Result<Result<Resource<GuestTensor>, TensorError>> {
        let GuestTensor { tensor, charged } = self.table.get(&handle)?;
        // Whole again, where the first was charged: which of the handles goes first is the guest's choice.
        let (tensor, charged) = (tensor.clone(), (*charged).max(OVERHEAD));
        if !self.budget.take(charged) {
            let error = OverBudget { bytes: tensor.data().len(), limit: self.context.memory_limit };
            return Ok(Err(TensorError::OutOfMemory(error.to_string())));
        }
        Ok(Ok(self.keep(GuestTensor { tensor, charged })?))
    }

    fn to_nn(
        &mut self,
        handle: Resource<GuestTensor>,
    ) -> wasmtime::Result<Result<Resource<NnTensor>, TensorError>> {
        let tensor = self.forget(handle)?;
        match NnTensor::new(tensor) {
            Ok(tensor) => Ok(Ok(self.keep(tensor)?)),
            Err((tensor, reason)) => {
                self.budget.give_back(tensor.charged);
                Ok(Err(TensorError::Unsupported(reason)))
            }
        }
    }

    fn from_nn(&mut self, handle: Resource<NnTensor>) -> wasmtime::Result<Resource<GuestTensor>> {
        let NnTensor(tensor) = self.forget(handle)?;
        self.keep(tensor)
    }

    fn drop(&mut self, handle: Resource<GuestTensor>) -> wasmtime::Result<()> {
        self.take(handle).map(drop)
    }
}
