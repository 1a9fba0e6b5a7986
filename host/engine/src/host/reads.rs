//! Reads of a tensor's data by the guest, written beside the bindings.
//!
//! Contract: as `wit/` says of `tensor.data` and `tensor.read` of `vespid:model/tensors`, and `tensor.data` of
//! `wasi:nn/tensor`. Why here: the bindings take a list from a `Vec`, into which the data would be copied before it is copied
//! into the guest's memory; [`Bytes`] goes there at once. Cost: that one copy.

use bytes::Bytes;
use vespid_types::{Tensor, note_copy};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};

use super::HostState;
use super::nn::NnTensor;
use super::tensors::GuestTensor;
use crate::bindings::vespid::model::tensors::TensorError;

/// Puts the reads in the place of those that the bindings have defined.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut tensors = linker.instance("vespid:model/tensors@0.1.0")?;
    tensors.func_wrap("[method]tensor.data", |store: StoreContextMut<'_, HostState>, (handle,)| {
        data(&store, &handle)
    })?;
    tensors.func_wrap(
        "[method]tensor.read",
        |store: StoreContextMut<'_, HostState>, (handle, offset, length)| {
            read(&store, &handle, offset, length)
        },
    )?;
    let mut nn = linker.instance("wasi:nn/tensor@0.2.0-rc-2024-10-28")?;
    nn.func_wrap("[method]tensor.data", |store: StoreContextMut<'_, HostState>, (handle,)| {
        nn_data(&store, &handle)
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What the bindings call, and nobody: see [`add_to_linker`].
pub(super) fn shadowed<T>() -> wasmtime::Result<T> {
    Err(wasmtime::format_err!("this read is defined in another place"))
}

type Read = Result<Bytes, TensorError>;

fn data(
    store: &StoreContextMut<'_, HostState>,
    handle: &Resource<GuestTensor>,
) -> wasmtime::Result<(Bytes,)> {
    Ok((copied(store.data().tensor(handle)?.data().clone()),))
}

fn nn_data(
    store: &StoreContextMut<'_, HostState>,
    handle: &Resource<NnTensor>,
) -> wasmtime::Result<(Bytes,)> {
    let NnTensor(tensor) = store.data().table.get(handle)?;
    Ok((copied(tensor.tensor.data().clone()),))
}

fn read(
    store: &StoreContextMut<'_, HostState>,
    handle: &Resource<GuestTensor>,
    offset: u64,
    length: u64,
) -> wasmtime::Result<(Read,)> {
    let tensor = store.data().tensor(handle)?;
    Ok((range(tensor, offset, length).map(copied).ok_or_else(|| {
        let available = tensor.data().len();
        TensorError::OutOfRange(format!("{length} bytes from {offset} on, of {available} bytes"))
    }),))
}

fn range(tensor: &Tensor, offset: u64, length: u64) -> Option<Bytes> {
    let start = usize::try_from(offset).ok()?;
    let end = usize::try_from(offset.checked_add(length)?).ok()?;
    let data = tensor.data();
    (start <= end && end <= data.len()).then(|| data.slice(start..end))
}

/// Into the guest's memory, when this returns to it.
fn copied(data: Bytes) -> Bytes {
    note_copy(data.len());
    data
}
