//! Between our tensors and ONNX Runtime's values.
//!
//! Cost: inputs of fixed size are borrowed where their data is aligned, as for the embedded backend, and copied once where
//! not; outputs are handed over with the library's own memory. BYTES are texts to ONNX Runtime, which keeps each in a
//! string of its own: they are copied in and out.

use std::fmt;

use bytemuck::{AnyBitPattern, NoUninit};
use bytes::Bytes;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{
    DynValue, PrimitiveTensorElementType, Shape as OrtShape, Tensor as OrtTensor, TensorElementType,
    TensorRef,
};
use vespid_types::{Datatype, NamedTensor, Shape, Tensor, TensorSpec, encode_elements, note_copy};

use crate::NnError;

/// Does `$then::<T>` for the Rust type of a datatype of fixed size, and `$bytes` or `$bool` for the two that have none or
/// not every bit pattern.
macro_rules! by_type {
    ($datatype:expr, $function:ident($($argument:expr),*), bool: $bool:expr, bytes: $bytes:expr) => {
        match $datatype {
            Datatype::Bool => $bool,
            Datatype::Uint8 => $function::<u8>($($argument),*),
            Datatype::Uint16 => $function::<u16>($($argument),*),
            Datatype::Uint32 => $function::<u32>($($argument),*),
            Datatype::Uint64 => $function::<u64>($($argument),*),
            Datatype::Int8 => $function::<i8>($($argument),*),
            Datatype::Int16 => $function::<i16>($($argument),*),
            Datatype::Int32 => $function::<i32>($($argument),*),
            Datatype::Int64 => $function::<i64>($($argument),*),
            Datatype::Fp16 => $function::<f16>($($argument),*),
            Datatype::Bf16 => $function::<bf16>($($argument),*),
            Datatype::Fp32 => $function::<f32>($($argument),*),
            Datatype::Fp64 => $function::<f64>($($argument),*),
            Datatype::Bytes => $bytes,
        }
    };
}

pub(super) fn to_value(input: &NamedTensor) -> Result<SessionInputValue<'_>, NnError> {
    let tensor = &input.tensor;
    by_type!(tensor.datatype(), lend(tensor), bool: lend_bools(tensor), bytes: texts(input))
}

fn extents(tensor: &Tensor) -> Vec<i64> {
    tensor.shape().iter().map(|extent| i64::try_from(*extent).unwrap_or(i64::MAX)).collect()
}

fn lend<T>(tensor: &Tensor) -> Result<SessionInputValue<'_>, NnError>
where
    T: PrimitiveTensorElementType + AnyBitPattern + NoUninit + fmt::Debug + 'static,
{
    match bytemuck::try_cast_slice::<u8, T>(tensor.data()) {
        Ok(elements) => lend_slice(tensor, elements),
        // Not aligned for T: one copy.
        Err(_) => {
            note_copy(tensor.data().len());
            let elements: Vec<T> = bytemuck::pod_collect_to_vec(tensor.data());
            OrtTensor::from_array((extents(tensor), elements)).map(SessionInputValue::from).map_err(refused)
        }
    }
}

fn lend_bools(tensor: &Tensor) -> Result<SessionInputValue<'_>, NnError> {
    let elements = bytemuck::checked::try_cast_slice::<u8, bool>(tensor.data()).map_err(refused)?;
    lend_slice(tensor, elements)
}

fn lend_slice<'a, T>(tensor: &Tensor, elements: &'a [T]) -> Result<SessionInputValue<'a>, NnError>
where
    T: PrimitiveTensorElementType + Clone + fmt::Debug + 'static,
{
    TensorRef::from_array_view((extents(tensor), elements)).map(SessionInputValue::from).map_err(refused)
}

fn texts(input: &NamedTensor) -> Result<SessionInputValue<'static>, NnError> {
    let tensor = &input.tensor;
    note_copy(tensor.data().len());
    let bad = |index, what| NnError::Text { name: input.name.clone(), index, what };
    let text = |(index, content): (usize, &[u8])| {
        if content.contains(&0) {
            return Err(bad(index, "holds a NUL character"));
        }
        String::from_utf8(content.to_vec()).map_err(|_| bad(index, "is not UTF-8"))
    };
    let texts = tensor.elements().contents().enumerate().map(text).collect::<Result<Vec<_>, _>>()?;
    OrtTensor::from_string_array((extents(tensor), &texts[..])).map(SessionInputValue::from).map_err(refused)
}

fn refused(error: impl fmt::Display) -> NnError {
    NnError::Run { message: error.to_string() }
}

pub(super) fn to_tensor(spec: &TensorSpec, value: DynValue) -> Result<NamedTensor, NnError> {
    let got = || NnError::Output {
        name: spec.name.clone(),
        declared: spec.datatype,
        got: value.dtype().to_string(),
    };
    let shape = value.dtype().tensor_shape().ok_or_else(got)?;
    let datatype = value.dtype().tensor_type().and_then(datatype).ok_or_else(got)?;
    if datatype != spec.datatype {
        return Err(got());
    }
    let shape = extents_of(shape).ok_or_else(got)?;
    let data =
        by_type!(datatype, hand_over(value), bool: hand_over::<bool>(value), bytes: join_texts(&value))?;
    let tensor = Tensor::new(datatype, shape, data).map_err(refused)?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

fn extents_of(shape: &OrtShape) -> Option<Shape> {
    shape
        .iter()
        .map(|extent| u64::try_from(*extent).ok())
        .collect::<Option<Vec<u64>>>()
        .map(|extents| extents.into_iter().collect())
}

/// The value's memory as bytes, not copied.
fn hand_over<T>(value: DynValue) -> Result<Bytes, NnError>
where
    T: PrimitiveTensorElementType + NoUninit + Send + Sync + 'static,
{
    struct Owner<T>(DynValue, std::marker::PhantomData<T>);

    impl<T: PrimitiveTensorElementType + NoUninit> AsRef<[u8]> for Owner<T> {
        fn as_ref(&self) -> &[u8] {
            // It was tried before the owner was made.
            self.0.try_extract_tensor::<T>().map_or(&[], |(_, elements)| bytemuck::cast_slice(elements))
        }
    }

    value.try_extract_tensor::<T>().map_err(refused)?;
    Ok(Bytes::from_owner(Owner::<T>(value, std::marker::PhantomData)))
}

fn join_texts(value: &DynValue) -> Result<Bytes, NnError> {
    let (_, texts) = value.try_extract_strings().map_err(refused)?;
    let data = encode_elements(&texts).map_err(refused)?;
    note_copy(data.len());
    Ok(data)
}

fn datatype(kind: TensorElementType) -> Option<Datatype> {
    Some(match kind {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}
