//! Columns to tensors.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use bytes::Bytes;
use vespid_types::{Datatype, Extent, NamedTensor, Shape, Tensor, encode_elements};

use super::types::column_type;
use super::{Input, Mapping};

/// What cannot be converted becomes null, and is told by its row.
const LENIENT: CastOptions<'static> =
    CastOptions { safe: true, format_options: arrow::util::display::FormatOptions::new() };

/// How much of a value is quoted.
const QUOTED: usize = 60;

impl Mapping {
    /// The inputs of a call with all of these rows; none where their shapes differ, or something is wrong with one of them.
    pub(super) fn tensors(&self, batch: &RecordBatch) -> Result<Option<Vec<NamedTensor>>, ArrowError> {
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            match input.tensor(batch, self.batched)? {
                Some(tensor) => tensors.push(NamedTensor { name: input.name.clone(), tensor }),
                None => return Ok(None),
            }
        }
        Ok(Some(tensors))
    }

    /// The shapes of one row's inputs, or the column and what is wrong with it.
    pub(super) fn shapes(
        &self,
        batch: &RecordBatch,
        row: usize,
    ) -> Result<Result<Vec<u64>, (String, String)>, ArrowError> {
        let row = batch.slice(row, 1);
        let mut shapes = Vec::new();
        for input in &self.inputs {
            for position in &input.columns {
                let (column, name) = (row.column(*position), row.schema_ref().field(*position).name());
                let told = |message: String| Ok(Err((name.clone(), message)));
                match input.flat(column) {
                    None => return told(shape_fault(column, input)),
                    Some((lengths, values)) => {
                        if let Some(message) = value_fault(&values, input.datatype)? {
                            return told(message);
                        }
                        shapes.extend(lengths);
                    }
                }
            }
        }
        Ok(Ok(shapes))
    }
}

fn shape_fault(column: &ArrayRef, input: &Input) -> String {
    let shape: Vec<i64> = input.shape.iter().map(|extent| extent.to_signed()).collect();
    if column.null_count() > 0 {
        return "there is no value, and the model takes one".to_owned();
    }
    format!("its lists do not make a tensor of shape {shape:?}, or lack a value")
}

/// What is wrong with the first value that is no `datatype`.
fn value_fault(values: &ArrayRef, datatype: Datatype) -> Result<Option<String>, ArrowError> {
    let Some(converted) = converted(values, datatype)? else { return Ok(None) };
    let Some(index) = (0..converted.len()).find(|index| converted.is_null(*index)) else { return Ok(None) };
    if values.is_null(index) {
        return Ok(Some("there is no value, and the model takes one".to_owned()));
    }
    let shown = arrow::util::display::array_value_to_string(values, index)?;
    let shown: String = shown.chars().take(QUOTED).collect();
    Ok(Some(format!("'{shown}' is no {datatype}")))
}

/// The values as the datatype's type of column.
fn converted(values: &ArrayRef, datatype: Datatype) -> Result<Option<ArrayRef>, ArrowError> {
    let Some(target) = column_type(datatype, true) else { return Ok(None) };
    if *values.data_type() == target {
        return Ok(Some(Arc::clone(values)));
    }
    let converted = cast_with_options(values, &target, &LENIENT)?;
    match datatype {
        Datatype::Fp16 | Datatype::Fp32 => without_overflow(values, &converted).map(Some),
        _ => Ok(Some(converted)),
    }
}

/// A number that is too large for the datatype becomes infinite: it is no value of it, unless it was infinite before.
fn without_overflow(values: &ArrayRef, converted: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let exact = |array| cast_with_options(array, &DataType::Float64, &LENIENT);
    let (before, after) = (exact(values)?, exact(converted)?);
    let overflow = |(before, after): (Option<f64>, Option<f64>)| {
        Some(before.is_some_and(f64::is_finite) && after.is_some_and(f64::is_infinite))
    };
    let pairs = before.as_primitive::<Float64Type>().iter().zip(after.as_primitive::<Float64Type>());
    nullif(converted, &pairs.map(overflow).collect())
}

impl Input {
    /// The tensor of all rows of `batch`.
    fn tensor(&self, batch: &RecordBatch, batched: bool) -> Result<Option<Tensor>, ArrowError> {
        let mut parts = Vec::with_capacity(self.columns.len());
        let mut inner = None;
        for position in &self.columns {
            let Some((lengths, values)) = self.flat(batch.column(*position)) else { return Ok(None) };
            // Each column of a tensor has the same shape.
            if *inner.get_or_insert_with(|| lengths.clone()) != lengths {
                return Ok(None);
            }
            match converted(&values, self.datatype)? {
                Some(converted) if converted.null_count() == 0 => parts.push(converted),
                _ => return Ok(None),
            }
        }
        let rows = batch.num_rows();
        let data = match &parts[..] {
            [one] => raw(one, self.datatype),
            parts => interleaved(parts, rows, self.datatype),
        };
        let stacked = self.stacked.then_some(self.columns.len() as u64);
        let row = stacked.into_iter().chain(inner.unwrap_or_default());
        let shape: Shape = batched.then_some(rows as u64).into_iter().chain(self.padded(row)).collect();
        // Where it does not fit after all, the row is told.
        Ok(data.and_then(|data| Tensor::new(self.datatype, shape, data).ok()))
    }

    /// A single value stands for a list of one.
    fn padded(&self, row: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
        let row: Vec<u64> = row.collect();
        let ones = if row.is_empty() { self.shape.len() } else { 0 };
        row.into_iter().chain(std::iter::repeat_n(1, ones))
    }

    /// The lengths of the lists, outermost first, and all their values; none where the rows' differ or are not the model's, or
    /// a list is missing.
    fn flat(&self, column: &ArrayRef) -> Option<(Vec<u64>, ArrayRef)> {
        let mut lengths = Vec::new();
        let mut values = Arc::clone(column);
        while let Some((length, inner)) = level(&values)? {
            lengths.push(length);
            values = inner;
        }
        let expected = self.shape.iter().skip(usize::from(self.stacked));
        let fit = |(length, extent): (&u64, &Extent)| match extent {
            Extent::Fixed(extent) => extent == length,
            Extent::Any => true,
        };
        let right = lengths.is_empty() || lengths.iter().zip(expected).all(fit);
        right.then_some((lengths, values))
    }
}

/// One level of lists: their common length and their values; the inner none where there are no lists. None where their lengths
/// differ, or one is missing.
fn level(array: &ArrayRef) -> Option<Option<(u64, ArrayRef)>> {
    if let Some(lists) = array.as_fixed_size_list_opt() {
        let length = usize::try_from(lists.value_length()).ok()?;
        let from = if lists.is_empty() { 0 } else { lists.value_offset_at(0) };
        let values = lists.values().slice(from, lists.len() * length);
        return (lists.null_count() == 0).then_some(Some((length as u64, values)));
    }
    let (offsets, values): (Vec<i64>, &ArrayRef) = match array.data_type() {
        DataType::List(_) => {
            let lists = array.as_list_opt::<i32>()?;
            (lists.offsets().iter().map(|offset| i64::from(*offset)).collect(), lists.values())
        }
        DataType::LargeList(_) => {
            let lists = array.as_list_opt::<i64>()?;
            (lists.offsets().to_vec(), lists.values())
        }
        _ => return Some(None),
    };
    if array.null_count() > 0 {
        return None;
    }
    let mut lengths = offsets.iter().zip(offsets.iter().skip(1)).map(|(start, end)| end - start);
    let length = lengths.next().unwrap_or_default();
    if lengths.any(|other| other != length) {
        return None;
    }
    let start = usize::try_from(*offsets.first()?).ok()?;
    let end = usize::try_from(*offsets.last()?).ok()?;
    Some(Some((u64::try_from(length).ok()?, values.slice(start, end - start))))
}

/// A buffer of Arrow's as bytes.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The values in a tensor's layout; without a copy where they are numbers.
fn raw(values: &ArrayRef, datatype: Datatype) -> Option<Bytes> {
    fn numbers<T: ArrowPrimitiveType>(values: &ArrayRef) -> Option<Bytes> {
        let values = values.as_primitive_opt::<T>()?;
        Some(Bytes::from_owner(Shared(values.values().inner().clone())))
    }
    match datatype {
        // A bit each there, a byte each here.
        Datatype::Bool => {
            Some(values.as_boolean_opt()?.values().iter().map(u8::from).collect::<Vec<_>>().into())
        }
        Datatype::Bytes => {
            let values = values.as_binary_opt::<i32>()?;
            let elements: Vec<&[u8]> = values.iter().map(Option::unwrap_or_default).collect();
            encode_elements(&elements).ok()
        }
        Datatype::Uint8 => numbers::<UInt8Type>(values),
        Datatype::Uint16 => numbers::<UInt16Type>(values),
        Datatype::Uint32 => numbers::<UInt32Type>(values),
        Datatype::Uint64 => numbers::<UInt64Type>(values),
        Datatype::Int8 => numbers::<Int8Type>(values),
        Datatype::Int16 => numbers::<Int16Type>(values),
        Datatype::Int32 => numbers::<Int32Type>(values),
        Datatype::Int64 => numbers::<Int64Type>(values),
        Datatype::Fp16 => numbers::<Float16Type>(values),
        Datatype::Bf16 => None,
        Datatype::Fp32 => numbers::<Float32Type>(values),
        Datatype::Fp64 => numbers::<Float64Type>(values),
    }
}

/// Row by row a piece of each part, which is the copy that several columns in one tensor take.
fn interleaved(parts: &[ArrayRef], rows: usize, datatype: Datatype) -> Option<Bytes> {
    if datatype == Datatype::Bytes {
        let parts: Vec<_> = parts.iter().map(|part| part.as_binary_opt::<i32>()).collect::<Option<_>>()?;
        let each = parts.first()?.len().checked_div(rows)?;
        let row = |row: usize| row * each..(row + 1) * each;
        let elements: Vec<&[u8]> = (0..rows)
            .flat_map(|index| parts.iter().flat_map(move |part| row(index).map(move |at| part.value(at))))
            .collect();
        return encode_elements(&elements).ok();
    }
    let parts: Vec<Bytes> = parts.iter().map(|part| raw(part, datatype)).collect::<Option<_>>()?;
    let piece = parts.first()?.len().checked_div(rows).filter(|piece| *piece > 0)?;
    let mut data = Vec::with_capacity(parts.iter().map(Bytes::len).sum());
    let mut pieces: Vec<_> = parts.iter().map(|part| part.chunks_exact(piece)).collect();
    for _ in 0..rows {
        for pieces in &mut pieces {
            data.extend_from_slice(pieces.next()?);
        }
    }
    Some(data.into())
}
