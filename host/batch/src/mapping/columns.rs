//! Tensors to columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray, StringArray,
    UInt32Array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute;
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use bytes::Bytes;
use vespid_types::{Datatype, Error, ErrorCode, Extent, NamedTensor, Result, Tensor};

use super::{Mapping, Output};

impl Mapping {
    /// The outputs that are written as columns with a value for each of `rows` rows.
    ///
    /// # Errors
    /// `PLUGIN_FAILED` where an output is missing, has other rows, or holds what its column cannot.
    pub(crate) fn columns(&self, rows: usize, outputs: &[NamedTensor]) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            let found = outputs.iter().find(|found| found.name == output.name);
            let found = found.ok_or_else(|| failed(&output.name, "the model did not give it"))?;
            output.columns(rows, &found.tensor, self.batched, &mut columns)?;
        }
        Ok(columns)
    }

    /// The names of the outputs that are written.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.outputs.iter().map(|output| output.name.clone()).collect()
    }
}

fn failed(output: &str, reason: &str) -> Error {
    Error::new(ErrorCode::PluginFailed, format!("output '{output}': {reason}"))
}

impl Output {
    fn columns(
        &self,
        rows: usize,
        tensor: &Tensor,
        batched: bool,
        columns: &mut Vec<ArrayRef>,
    ) -> Result<()> {
        let row = match (batched, &tensor.shape()[..]) {
            (true, [found, row @ ..]) if *found == rows as u64 => row,
            (false, row) => row,
            _ => {
                let reason =
                    format!("shape {} for {rows} rows; its first dimension should be theirs", tensor.shape());
                return Err(failed(&self.name, &reason));
            }
        };
        let fits = |(found, extent): (&u64, &Extent)| match extent {
            Extent::Fixed(extent) => found == extent,
            Extent::Any => true,
        };
        if row.len() != self.shape.len()
            || !row.iter().zip(&self.shape).all(fits)
            || tensor.datatype() != self.datatype
        {
            return Err(failed(
                &self.name,
                &format!("{} of shape {row:?} a row is not its own", tensor.datatype()),
            ));
        }
        let values = self.values(tensor)?;
        match self.spread {
            None => columns.push(self.nested(values, row, rows)?),
            Some(count) => {
                for index in 0..count {
                    let each = (0..rows).filter_map(|row| u32::try_from(row * count + index).ok());
                    let column = compute::take(&values, &each.collect::<UInt32Array>(), None);
                    columns.push(column.map_err(|error| failed(&self.name, &error.to_string()))?);
                }
            }
        }
        Ok(())
    }

    /// All values of the tensor.
    fn values(&self, tensor: &Tensor) -> Result<ArrayRef> {
        let data = tensor.data();
        Ok(match tensor.datatype() {
            Datatype::Bool => Arc::new(BooleanArray::from_iter(data.iter().map(|value| Some(*value != 0)))),
            Datatype::Bytes if self.binary => {
                Arc::new(BinaryArray::from_iter_values(tensor.elements().contents()))
            }
            Datatype::Bytes => Arc::new(self.text(tensor)?),
            Datatype::Uint8 => numbers::<UInt8Type>(data),
            Datatype::Uint16 => numbers::<UInt16Type>(data),
            Datatype::Uint32 => numbers::<UInt32Type>(data),
            Datatype::Uint64 => numbers::<UInt64Type>(data),
            Datatype::Int8 => numbers::<Int8Type>(data),
            Datatype::Int16 => numbers::<Int16Type>(data),
            Datatype::Int32 => numbers::<Int32Type>(data),
            Datatype::Int64 => numbers::<Int64Type>(data),
            Datatype::Fp16 => numbers::<Float16Type>(data),
            Datatype::Fp32 => numbers::<Float32Type>(data),
            Datatype::Fp64 => numbers::<Float64Type>(data),
            Datatype::Bf16 => return Err(failed(&self.name, "columns cannot hold BF16")),
        })
    }

    fn text(&self, tensor: &Tensor) -> Result<StringArray> {
        let texts: std::result::Result<Vec<&str>, _> =
            tensor.elements().contents().map(std::str::from_utf8).collect();
        let texts = texts.map_err(|_| {
            failed(
                &self.name,
                "it is not UTF-8 text: list it under `binary` in the job, to write it as bytes",
            )
        })?;
        Ok(StringArray::from_iter_values(texts))
    }

    /// Lists of lists of the values, `rows` of them.
    fn nested(&self, values: ArrayRef, row: &[u64], rows: usize) -> Result<ArrayRef> {
        let mut lists = values;
        let wrong = |error: arrow::error::ArrowError| failed(&self.name, &error.to_string());
        for (depth, (length, extent)) in row.iter().zip(&self.shape).enumerate().rev() {
            let count = row.iter().take(depth).product::<u64>() as usize * rows;
            let item = Arc::new(Field::new("item", lists.data_type().clone(), false));
            let length = usize::try_from(*length).unwrap_or(usize::MAX);
            lists = match (extent, i32::try_from(length)) {
                (Extent::Fixed(_), Ok(length)) => {
                    let array = FixedSizeListArray::try_new_with_length(item, length, lists, None, count);
                    Arc::new(array.map_err(wrong)?)
                }
                _ => {
                    if i32::try_from(length.saturating_mul(count)).is_err() {
                        return Err(failed(&self.name, "more values than a column of lists can hold"));
                    }
                    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, count));
                    Arc::new(ListArray::try_new(item, offsets, lists, None).map_err(wrong)?)
                }
            };
        }
        Ok(lists)
    }
}

/// The numbers of a tensor, without a copy where they lie as Arrow wants them to.
fn numbers<T: ArrowPrimitiveType>(data: &Bytes) -> ArrayRef {
    let aligned = data.as_ptr().align_offset(align_of::<T::Native>()) == 0;
    let buffer = if aligned { Buffer::from(data.clone()) } else { Buffer::from_slice_ref(data) };
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(buffer), None))
}
