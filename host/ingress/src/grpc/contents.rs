//! A tensor's elements as a message lists them, turned into the tensor's bytes.
//!
//! Contract: each datatype has its elements in one field, as the protocol says, and in no other; a number that the
//! datatype cannot hold is refused. Cost: one pass, and memory for as many elements as came. Left out on purpose: FP16 and
//! BF16, which have no field: they travel raw.

use bytes::Bytes;
use vespid_types::{Datatype, Shape, encode_elements, note_copy};

use super::proto::InferTensorContents;

/// The bytes of a tensor whose elements are `contents`. The error begins with a path such as `contents.int_contents[3]`.
pub(super) fn encode(
    contents: &InferTensorContents,
    datatype: Datatype,
    shape: &Shape,
) -> Result<Bytes, String> {
    let Some(field) = field(datatype) else {
        return Err(format!("contents: {datatype} has no field: send it in raw_input_contents"));
    };
    for (other, count) in counts(contents) {
        if count > 0 && other != field {
            return Err(format!("contents.{other}: the elements of {datatype} are in {field}"));
        }
    }
    let got = counts(contents).into_iter().find(|(name, _)| *name == field).map_or(0, |(_, count)| count);
    match shape.elements() {
        Some(expected) if expected == got as u64 => {}
        Some(expected) => {
            let values = if got == 1 { "value" } else { "values" };
            return Err(format!("contents.{field} holds {got} {values}; shape {shape} has {expected}"));
        }
        None => return Err(format!("shape {shape} has more elements than can be addressed")),
    }
    let InferTensorContents { int_contents: ints, uint_contents: uints, .. } = contents;
    let bytes = match datatype {
        Datatype::Bool => contents.bool_contents.iter().map(|value| u8::from(*value)).collect(),
        Datatype::Int8 => narrow::<i8, 1>(ints, field, datatype, i8::to_le_bytes)?,
        Datatype::Int16 => narrow::<i16, 2>(ints, field, datatype, i16::to_le_bytes)?,
        Datatype::Int32 => plain(ints, i32::to_le_bytes),
        Datatype::Int64 => plain(&contents.int64_contents, i64::to_le_bytes),
        Datatype::Uint8 => narrow::<u8, 1>(uints, field, datatype, u8::to_le_bytes)?,
        Datatype::Uint16 => narrow::<u16, 2>(uints, field, datatype, u16::to_le_bytes)?,
        Datatype::Uint32 => plain(uints, u32::to_le_bytes),
        Datatype::Uint64 => plain(&contents.uint64_contents, u64::to_le_bytes),
        Datatype::Fp32 => plain(&contents.fp32_contents, f32::to_le_bytes),
        Datatype::Fp64 => plain(&contents.fp64_contents, f64::to_le_bytes),
        Datatype::Bytes => return elements(&contents.bytes_contents),
        // Without a field, see above.
        Datatype::Fp16 | Datatype::Bf16 => Vec::new(),
    };
    Ok(bytes.into())
}

/// Whether there is anything in any field.
pub(super) fn is_empty(contents: &InferTensorContents) -> bool {
    counts(contents).into_iter().all(|(_, count)| count == 0)
}

/// Where the elements of a datatype are.
pub(super) fn field(datatype: Datatype) -> Option<&'static str> {
    match datatype {
        Datatype::Bool => Some("bool_contents"),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => Some("int_contents"),
        Datatype::Int64 => Some("int64_contents"),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => Some("uint_contents"),
        Datatype::Uint64 => Some("uint64_contents"),
        Datatype::Fp32 => Some("fp32_contents"),
        Datatype::Fp64 => Some("fp64_contents"),
        Datatype::Bytes => Some("bytes_contents"),
        Datatype::Fp16 | Datatype::Bf16 => None,
    }
}

fn counts(contents: &InferTensorContents) -> [(&'static str, usize); 8] {
    [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ]
}

fn plain<T: Copy, const N: usize>(values: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    note_copy(values.len() * N);
    values.iter().flat_map(|value| to_bytes(*value)).collect()
}

/// Elements of a datatype that is narrower than its field.
fn narrow<T: Copy, const N: usize>(
    values: &[impl Copy + TryInto<T> + std::fmt::Display],
    field: &str,
    datatype: Datatype,
    to_bytes: impl Fn(T) -> [u8; N],
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(values.len() * N);
    for (index, value) in values.iter().enumerate() {
        let narrowed = (*value)
            .try_into()
            .map_err(|_| format!("contents.{field}[{index}]: {value} is out of range for {datatype}"))?;
        bytes.extend_from_slice(&to_bytes(narrowed));
    }
    note_copy(bytes.len());
    Ok(bytes)
}

fn elements(values: &[Bytes]) -> Result<Bytes, String> {
    let bytes = encode_elements(values).map_err(|error| format!("contents.bytes_contents: {error}"))?;
    note_copy(bytes.len());
    Ok(bytes)
}
