//! Columns to tensors and tensors to columns.
//!
//! Contract: a [`Mapping`] is made from what the job says, the model's signature and the columns that there are, before any row
//! is read; what does not fit is told by the input, the column and both types. After that a row fails alone ([`Fault`]): a missing
//! value, a number that the datatype cannot hold, a list of another length. Cost: a column that has the input's type and layout
//! becomes a tensor without a copy, and so does an output a column; several columns in one tensor are copied once. Left out on
//! purpose: arithmetic on columns, values in the place of missing ones.

mod columns;
mod plan;
mod tensors;
#[cfg(test)]
mod tests;
mod types;

use std::collections::HashMap;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use vespid_types::{Datatype, Extent, NamedTensor};

pub(crate) use plan::dataset_types;
pub use plan::{Choices, Columns, MappingOptions, object_columns};

/// How rows become calls of one model, and its answers rows.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// What is to be read.
    pub wanted: Vec<FieldRef>,
    /// What is written.
    pub schema: SchemaRef,
    /// Whether a call takes many rows.
    pub batched: bool,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    /// Positions in `wanted`.
    kept: Vec<usize>,
}

/// An input of the model.
#[derive(Clone, Debug)]
struct Input {
    name: String,
    datatype: Datatype,
    /// The shape of one row.
    shape: Vec<Extent>,
    /// Positions in `wanted`: one, or one for each entry of the first dimension of `shape`.
    columns: Vec<usize>,
    /// Whether `columns` are entries of a dimension, be it one alone.
    stacked: bool,
}

/// An output of the model.
#[derive(Clone, Debug)]
struct Output {
    name: String,
    datatype: Datatype,
    /// The shape of one row.
    shape: Vec<Extent>,
    /// BYTES as they are, and not as text.
    binary: bool,
    /// The number of columns where lists become columns of their own, as in CSV.
    spread: Option<usize>,
}

/// A row that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The row's position in the batch.
    pub(crate) row: usize,
    /// The column.
    pub(crate) column: String,
    pub(crate) message: String,
}

/// One call of the model.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The positions of its rows in the batch, in order.
    pub(crate) rows: Vec<u32>,
    pub(crate) inputs: Vec<NamedTensor>,
}

impl Mapping {
    /// The calls that rows make: one, where their inputs have one shape and nothing is wrong with them.
    ///
    /// # Errors
    /// What arrow says of types that it was not told of; a defect.
    pub(crate) fn calls(&self, batch: &RecordBatch) -> Result<(Vec<Call>, Vec<Fault>), ArrowError> {
        let all = 0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX);
        if batch.num_rows() == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        if (self.batched || batch.num_rows() == 1)
            && let Some(inputs) = self.tensors(batch)?
        {
            return Ok((vec![Call { rows: all.collect(), inputs }], Vec::new()));
        }
        self.sorted(batch)
    }

    /// The rows that are right by the shapes of their inputs, and those that are not.
    fn sorted(&self, batch: &RecordBatch) -> Result<(Vec<Call>, Vec<Fault>), ArrowError> {
        let mut groups: HashMap<Vec<u64>, usize> = HashMap::new();
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut faults = Vec::new();
        for row in 0..batch.num_rows() {
            let index = u32::try_from(row).unwrap_or(u32::MAX);
            match self.shapes(batch, row)? {
                Err((column, message)) => faults.push(Fault { row, column, message }),
                Ok(_) if !self.batched => rows.push(vec![index]),
                Ok(shapes) => {
                    let group = *groups.entry(shapes).or_insert(rows.len());
                    match rows.get_mut(group) {
                        Some(rows) => rows.push(index),
                        None => rows.push(vec![index]),
                    }
                }
            }
        }
        let mut calls = Vec::with_capacity(rows.len());
        for rows in rows {
            let chosen = compute::take_record_batch(batch, &UInt32Array::from(rows.clone()))?;
            match self.tensors(&chosen)? {
                Some(inputs) => calls.push(Call { rows, inputs }),
                // Each column is right by itself, and they are not of one shape.
                None => faults.extend(rows.into_iter().map(|row| self.uneven(row as usize))),
            }
        }
        Ok((calls, faults))
    }

    /// A row whose columns do not go into one tensor.
    fn uneven(&self, row: usize) -> Fault {
        let stacked = self.inputs.iter().filter(|input| input.stacked).flat_map(|input| &input.columns);
        let names = stacked.filter_map(|column| self.wanted.get(*column)).map(|field| field.name().as_str());
        let message = "their lists differ in length, and make one tensor".to_owned();
        Fault { row, column: names.collect::<Vec<_>>().join(", "), message }
    }

    /// The calls of one row each.
    ///
    /// # Errors
    /// As [`Mapping::calls`].
    pub(crate) fn single(&self, batch: &RecordBatch, rows: &[u32]) -> Result<Vec<Call>, ArrowError> {
        let mut single = Vec::with_capacity(rows.len());
        for row in rows {
            let (calls, _) = self.calls(&batch.slice(*row as usize, 1))?;
            single.extend(calls.into_iter().map(|call| Call { rows: vec![*row], ..call }));
        }
        Ok(single)
    }

    /// The rows that are written: the kept columns of `batch`, and the outputs of the calls, by their rows.
    ///
    /// # Errors
    /// As [`Mapping::calls`].
    pub(crate) fn rows(
        &self,
        batch: &RecordBatch,
        mut answers: Vec<(Vec<u32>, Vec<ArrayRef>)>,
    ) -> Result<RecordBatch, ArrowError> {
        let kept = batch.project(&self.kept)?;
        let whole = answers.len() == 1 && answers.iter().all(|(rows, _)| rows.len() == batch.num_rows());
        let (kept, outputs) = if whole {
            let outputs = answers.pop().map(|(_, outputs)| outputs).unwrap_or_default();
            (kept.columns().to_vec(), outputs)
        } else {
            let mut order: Vec<(u32, (usize, usize))> = Vec::new();
            for (call, (rows, _)) in answers.iter().enumerate() {
                order.extend(rows.iter().enumerate().map(|(index, row)| (*row, (call, index))));
            }
            order.sort_unstable();
            let rows: Vec<u32> = order.iter().map(|(row, _)| *row).collect();
            let from: Vec<(usize, usize)> = order.into_iter().map(|(_, from)| from).collect();
            let output = |column: usize| {
                let arrays: Vec<_> = answers
                    .iter()
                    .filter_map(|(_, outputs)| outputs.get(column).map(AsRef::as_ref))
                    .collect();
                if arrays.is_empty() { Ok(None) } else { compute::interleave(&arrays, &from).map(Some) }
            };
            let outputs = (0..self.schema.fields().len() - self.kept.len()).map(output);
            let outputs: Vec<_> = outputs.collect::<Result<_, ArrowError>>()?;
            let kept = compute::take_record_batch(&kept, &UInt32Array::from(rows))?;
            if kept.num_rows() == 0 {
                return Ok(RecordBatch::new_empty(SchemaRef::clone(&self.schema)));
            }
            (kept.columns().to_vec(), outputs.into_iter().flatten().collect())
        };
        RecordBatch::try_new(SchemaRef::clone(&self.schema), kept.into_iter().chain(outputs).collect())
    }
}
