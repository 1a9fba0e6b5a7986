//! The datatypes of tensors and the types of columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use vespid_types::{Datatype, Extent};

/// The type of a column of single values; none for BF16, which Arrow does not have.
pub(crate) fn column_type(datatype: Datatype, binary: bool) -> Option<DataType> {
    Some(match datatype {
        Datatype::Bool => DataType::Boolean,
        Datatype::Uint8 => DataType::UInt8,
        Datatype::Uint16 => DataType::UInt16,
        Datatype::Uint32 => DataType::UInt32,
        Datatype::Uint64 => DataType::UInt64,
        Datatype::Int8 => DataType::Int8,
        Datatype::Int16 => DataType::Int16,
        Datatype::Int32 => DataType::Int32,
        Datatype::Int64 => DataType::Int64,
        Datatype::Fp16 => DataType::Float16,
        Datatype::Bf16 => return None,
        Datatype::Fp32 => DataType::Float32,
        Datatype::Fp64 => DataType::Float64,
        Datatype::Bytes if binary => DataType::Binary,
        Datatype::Bytes => DataType::Utf8,
    })
}

/// Lists of `leaf`, nested as `shape` has it, outermost first.
pub(super) fn nested(leaf: DataType, shape: &[Extent]) -> DataType {
    shape.iter().rev().fold(leaf, |inner, extent| {
        let item = Arc::new(Field::new("item", inner, false));
        match extent {
            Extent::Fixed(length) if i32::try_from(*length).is_ok() => {
                DataType::FixedSizeList(item, i32::try_from(*length).unwrap_or_default())
            }
            _ => DataType::List(item),
        }
    })
}

/// The type of the values in lists of lists, and how deep they lie.
pub(super) fn leaf(data_type: &DataType) -> (&DataType, usize) {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let (leaf, depth) = leaf(item.data_type());
            (leaf, depth + 1)
        }
        data_type => (data_type, 0),
    }
}

/// The same lists of another leaf.
pub(super) fn with_leaf(data_type: &DataType, new: &DataType) -> DataType {
    let item = |item: &Field| Arc::new(Field::new(item.name(), with_leaf(item.data_type(), new), true));
    match data_type {
        DataType::List(field) => DataType::List(item(field)),
        DataType::LargeList(field) => DataType::LargeList(item(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(item(field), *length),
        _ => new.clone(),
    }
}

/// Whether values of a type can be given as a datatype: each of them either becomes the value that it is, rounded where that
/// is a floating-point one, or its row fails.
pub(super) fn converts(from: &DataType, to: Datatype, text_is_values: bool) -> bool {
    let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match to {
        Datatype::Bytes => text || from.is_binary() || dictionary_of_text(from),
        _ if text => text_is_values,
        Datatype::Bool => *from == DataType::Boolean,
        Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => from.is_numeric(),
        Datatype::Bf16 => false,
        _ => from.is_integer(),
    }
}

fn dictionary_of_text(from: &DataType) -> bool {
    matches!(from, DataType::Dictionary(_, value) if value.is_string() || value.is_binary())
}
