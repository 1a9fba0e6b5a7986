//! Between our tensors and rten's values.
//!
//! Cost: FP32, INT32, INT8 and UINT8 inputs are borrowed where their data is aligned (as it is when a guest or a backend
//! made it; a slice out of a request's body may not be, and is then copied once) and outputs are handed over. The
//! datatypes that rten does not have are converted element by element.

use bytemuck::{NoUninit, Pod};
use bytes::Bytes;
use half::f16;
use rten::{Value, ValueOrView, ValueView};
use rten_tensor::{Layout, TensorView};
use vespid_types::{Datatype, NamedTensor, Shape, Tensor, TensorSpec, note_copy};

use super::{CARRIED, NAME};
use crate::NnError;

#[cfg(not(target_endian = "little"))]
compile_error!("tensors are little-endian and are lent to the backend as they are");

pub(super) fn check_carried(spec: &TensorSpec) -> Result<(), NnError> {
    use Datatype::{Bool, Fp16, Fp32, Int8, Int32, Int64, Uint8};
    match spec.datatype {
        Fp32 | Int32 | Int8 | Uint8 | Bool | Int64 | Fp16 => Ok(()),
        other => Err(NnError::UnsupportedDatatype {
            backend: NAME,
            name: spec.name.clone(),
            datatype: other.to_string(),
            carried: CARRIED,
        }),
    }
}

pub(super) fn to_value(input: &NamedTensor) -> Result<ValueOrView<'_>, NnError> {
    let tensor = &input.tensor;
    let data: &[u8] = tensor.data();
    let shape: Vec<usize> =
        tensor.shape().iter().map(|extent| usize::try_from(*extent).unwrap_or(usize::MAX)).collect();
    match tensor.datatype() {
        Datatype::Fp32 => lend::<f32>(&shape, data),
        Datatype::Int32 => lend::<i32>(&shape, data),
        Datatype::Int8 => lend::<i8>(&shape, data),
        Datatype::Uint8 => lend::<u8>(&shape, data),
        Datatype::Bool => own(&shape, data.iter().map(|value| i32::from(*value)).collect()),
        Datatype::Int64 => {
            let narrow = |(index, value): (usize, i64)| {
                i32::try_from(value).map_err(|_| NnError::ValueOutOfRange {
                    backend: NAME,
                    name: input.name.clone(),
                    index,
                    value,
                })
            };
            own(
                &shape,
                read::<i64, 8>(data, i64::from_le_bytes).enumerate().map(narrow).collect::<Result<_, _>>()?,
            )
        }
        Datatype::Fp16 => own(&shape, read::<f16, 2>(data, f16::from_le_bytes).map(f32::from).collect()),
        other => Err(NnError::UnsupportedDatatype {
            backend: NAME,
            name: input.name.clone(),
            datatype: other.to_string(),
            carried: CARRIED,
        }),
    }
}

fn read<T, const N: usize>(data: &[u8], from: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    data.as_chunks::<N>().0.iter().map(move |chunk| from(*chunk))
}

fn lend<'a, T: Pod>(shape: &[usize], data: &'a [u8]) -> Result<ValueOrView<'a>, NnError>
where
    ValueView<'a>: From<TensorView<'a, T>>,
    Value: From<rten_tensor::Tensor<T>>,
{
    match bytemuck::try_cast_slice::<u8, T>(data) {
        Ok(elements) => ValueView::from_shape(shape, elements).map(ValueOrView::from).map_err(run_error),
        // Not aligned for T: one copy.
        Err(_) => {
            note_copy(data.len());
            own(shape, bytemuck::pod_collect_to_vec(data))
        }
    }
}

fn own<'a, T>(shape: &[usize], data: Vec<T>) -> Result<ValueOrView<'a>, NnError>
where
    Value: From<rten_tensor::Tensor<T>>,
{
    Value::from_shape(shape, data).map(ValueOrView::from).map_err(run_error)
}

fn run_error(error: impl std::fmt::Display) -> NnError {
    NnError::Run { message: error.to_string() }
}

pub(super) fn to_tensor(spec: &TensorSpec, value: Value) -> Result<NamedTensor, NnError> {
    let shape: Shape = value.shape().iter().map(|extent| *extent as u64).collect();
    let data = match (spec.datatype, value) {
        (Datatype::Fp32, Value::FloatTensor(values)) => hand_over(values.into_data()),
        (Datatype::Int32, Value::Int32Tensor(values)) => hand_over(values.into_data()),
        (Datatype::Int8, Value::Int8Tensor(values)) => hand_over(values.into_data()),
        (Datatype::Uint8, Value::UInt8Tensor(values)) => hand_over(values.into_data()),
        (Datatype::Bool, Value::Int32Tensor(values)) => {
            values.into_data().into_iter().map(|value| u8::from(value != 0)).collect()
        }
        (Datatype::Int64, Value::Int32Tensor(values)) => {
            hand_over(values.into_data().into_iter().map(i64::from).collect())
        }
        (Datatype::Fp16, Value::FloatTensor(values)) => {
            values.into_data().into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect()
        }
        (declared, other) => {
            let got = format!("{} {:?}", other.dtype(), other.shape());
            return Err(NnError::Output { name: spec.name.clone(), declared, got });
        }
    };
    let tensor = Tensor::new(spec.datatype, shape, data).map_err(run_error)?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

/// The elements' memory as bytes, not copied.
fn hand_over<T: NoUninit + Send + 'static>(elements: Vec<T>) -> Bytes {
    struct Owner<T>(Vec<T>);

    impl<T: NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }

    Bytes::from_owner(Owner(elements))
}
