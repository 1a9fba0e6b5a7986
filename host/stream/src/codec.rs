//! The bytes of messages and the rows that models are asked for.
//!
//! Contract: what is wrong with one message is told of it alone. Of JSON and raw bytes all messages of a batch make one batch of rows;
//! a message of Arrow's is rows by itself. Cost: one pass over the bytes each way; fields that are kept are copied as they
//! stand.

mod arrow_ipc;
mod json;

use std::sync::Arc;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use vespid_batch::{Columns, Mapping, MappingOptions, object_columns};
use vespid_dataset::{Format, objects, to_objects};
use vespid_types::{Datatype, Extent, Signature, TensorSpec};

use crate::StreamError;
use crate::failure::Failure;
use crate::message::Message;
use crate::spec::{Codec, StreamSpec};

pub(crate) use arrow_ipc::read as read_arrow;

/// How the messages of a stream become rows of one model, and its rows messages.
pub(crate) struct Coding {
    pub(crate) mapping: Mapping,
    /// The columns that messages are read as.
    schema: SchemaRef,
    input: Codec,
    output: Codec,
    keep: json::Kept,
}

/// The rows of some messages.
pub(crate) struct Decoded {
    pub(crate) batch: RecordBatch,
    /// The message of each row, by its position.
    pub(crate) of: Vec<usize>,
    /// Messages that make no row.
    pub(crate) refused: Vec<(usize, Failure)>,
}

impl Coding {
    /// Matches the stream with a model; `columns` are those of an Arrow message.
    ///
    /// # Errors
    /// [`StreamError::Config`] with the input or output that does not fit.
    pub(crate) fn new(
        spec: &StreamSpec,
        signature: &Signature,
        columns: Option<&SchemaRef>,
    ) -> Result<Self, StreamError> {
        let binary = binary(spec, signature)?;
        let choices = spec.choices(&binary);
        let (schema, format) = match (spec.source.codec, columns) {
            (Codec::Json, _) => (Arc::new(object_columns(choices, signature)?), Format::Jsonl),
            (Codec::Raw, _) => (Arc::new(raw_columns(spec, signature)?), Format::Files),
            (Codec::Arrow, Some(columns)) => (Arc::clone(columns), Format::Arrow),
            // Which columns there are is seen when the first message comes.
            (Codec::Arrow, None) => (Arc::new(object_columns(choices, signature)?), Format::Jsonl),
        };
        let output = match spec.sink.codec {
            Codec::Json => Format::Jsonl,
            Codec::Raw | Codec::Arrow => Format::Arrow,
        };
        let columns = Columns { schema: &schema, format, partitions: &[] };
        let mapping = Mapping::plan(MappingOptions { choices, signature, columns, output })?;
        let keep = json::Kept::new(spec.keep.as_ref());
        Ok(Self { mapping, schema, input: spec.source.codec, output: spec.sink.codec, keep })
    }

    /// The rows of messages of JSON or raw bytes.
    pub(crate) fn decode(&self, messages: &[Message]) -> Result<Decoded, StreamError> {
        let mut refused = Vec::new();
        let mut there = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            match &message.payload {
                Some(payload) => there.push((index, &payload[..])),
                None => refused.push((index, Failure::decode("the message has no value"))),
            }
        }
        if self.input == Codec::Raw {
            let column = BinaryArray::from_iter_values(there.iter().map(|(_, payload)| payload));
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![Arc::new(column)]);
            let of = there.into_iter().map(|(index, _)| index).collect();
            return Ok(Decoded { batch: batch.map_err(defect)?, of, refused });
        }
        let read = objects(&self.schema, there.iter().map(|(_, payload)| *payload)).map_err(defect)?;
        let message = |row: usize| there.get(row).map_or(0, |(index, _)| *index);
        let failure = |(row, field, reason): (usize, Option<String>, String)| {
            let failure = match field {
                // It is JSON, and not what the model takes.
                Some(field) => Failure {
                    class: crate::failure::Class::Refused,
                    ..Failure::decode(format!("'{field}': {reason}"))
                },
                None => Failure::decode(reason),
            };
            (message(row), failure)
        };
        refused.extend(read.refused.into_iter().map(failure));
        let of = read.kept.into_iter().map(message).collect();
        let wanted: Vec<usize> =
            self.mapping.wanted.iter().filter_map(|field| self.schema.index_of(field.name()).ok()).collect();
        Ok(Decoded { batch: read.batch.project(&wanted).map_err(defect)?, of, refused })
    }

    /// The bytes of each row's answer; `of` gives its message.
    pub(crate) fn encode<'a>(
        &self,
        batch: &RecordBatch,
        of: impl Fn(usize) -> Option<&'a Message>,
    ) -> Vec<Result<Bytes, Failure>> {
        let rows = batch.num_rows();
        match self.output {
            Codec::Json => match to_objects(batch) {
                Ok(objects) => objects
                    .into_iter()
                    .enumerate()
                    .map(|(row, object)| self.keep.beside(object, of(row)))
                    .collect(),
                // One of them cannot be said: each is tried alone.
                Err(_) => (0..rows).map(|row| self.object(&batch.slice(row, 1), of(row))).collect(),
            },
            Codec::Raw => {
                let column = batch.columns().first().map(raw_values);
                let values = column.as_deref().and_then(|array| array.as_binary_opt::<i32>());
                let value = |row: usize| match values {
                    Some(values) if values.len() == rows => Ok(Bytes::copy_from_slice(values.value(row))),
                    _ => Err(Failure::encode("the answer has not one value a row")),
                };
                (0..rows).map(value).collect()
            }
            Codec::Arrow => (0..rows).map(|row| arrow_ipc::write(&batch.slice(row, 1))).collect(),
        }
    }

    fn object(&self, row: &RecordBatch, of: Option<&Message>) -> Result<Bytes, Failure> {
        let objects = to_objects(row).map_err(|error| Failure::encode(error.to_string()))?;
        let object = objects.into_iter().next().ok_or_else(|| Failure::encode("the answer is empty"))?;
        self.keep.beside(object, of)
    }

    /// The bytes of the answer to a message that is all of these rows.
    pub(crate) fn encode_rows(&self, batch: &RecordBatch) -> Result<Bytes, Failure> {
        match self.output {
            Codec::Json => {
                let rows = to_objects(batch).map_err(|error| Failure::encode(error.to_string()))?;
                Ok([&b"["[..], &rows.join(&b","[..]), b"]"].concat().into())
            }
            Codec::Arrow => arrow_ipc::write(batch),
            Codec::Raw => match &self.encode(batch, |_| None)[..] {
                [one] => one.clone(),
                _ => Err(Failure::encode("a raw answer has one row")),
            },
        }
    }
}

/// The values of a column, or those of lists of one.
fn raw_values(column: &arrow::array::ArrayRef) -> arrow::array::ArrayRef {
    let mut column = Arc::clone(column);
    while let Some(inner) = column.as_fixed_size_list_opt().map(|lists| Arc::clone(lists.values())) {
        column = inner;
    }
    while let Some(inner) = column.as_list_opt::<i32>().map(|lists| Arc::clone(lists.values())) {
        column = inner;
    }
    column
}

/// Outputs that are bytes and no text.
fn binary(spec: &StreamSpec, signature: &Signature) -> Result<Vec<String>, StreamError> {
    if spec.sink.codec != Codec::Raw {
        return Ok(Vec::new());
    }
    let written: Vec<&TensorSpec> = match spec.outputs.is_empty() {
        true => signature.outputs.iter().collect(),
        false => signature.outputs.iter().filter(|output| spec.outputs.contains_key(&output.name)).collect(),
    };
    match &written[..] {
        [output] if output.datatype == Datatype::Bytes => Ok(vec![output.name.clone()]),
        _ => {
            let names: Vec<_> =
                written.iter().map(|output| format!("'{}' ({})", output.name, output.datatype)).collect();
            let reason = format!(
                "raw is the value of one output of datatype BYTES, and what is written is {}: name one under outputs, or use json",
                names.join(", ")
            );
            Err(StreamError::config("sink.codec", reason))
        }
    }
}

/// The column of raw messages: the one input that is needed.
fn raw_columns(spec: &StreamSpec, signature: &Signature) -> Result<Schema, StreamError> {
    let needed: Vec<&TensorSpec> = match spec.inputs.is_empty() {
        true => signature.inputs.iter().filter(|input| !input.optional).collect(),
        false => signature.inputs.iter().filter(|input| spec.inputs.contains_key(&input.name)).collect(),
    };
    let one = |extent: &Extent| matches!(extent, Extent::Any | Extent::Fixed(1));
    match &needed[..] {
        [input] if input.datatype == Datatype::Bytes && input.shape.iter().all(one) => {
            let name = match spec.inputs.get(&input.name) {
                Some(vespid_batch::OneOrMore::One(name)) => name,
                _ => &input.name,
            };
            Ok(Schema::new(vec![Field::new(name, DataType::Binary, true)]))
        }
        _ => {
            let names: Vec<_> = needed
                .iter()
                .map(|input| {
                    format!("'{}' ({}, shape {:?})", input.name, input.datatype, signed(&input.shape))
                })
                .collect();
            let reason = format!(
                "raw is the element of one input of datatype BYTES, and the model takes {}: use json or arrow",
                names.join(", ")
            );
            Err(StreamError::config("source.codec", reason))
        }
    }
}

fn signed(shape: &[Extent]) -> Vec<i64> {
    shape.iter().map(|extent| extent.to_signed()).collect()
}

pub(crate) fn defect(error: impl std::fmt::Display) -> StreamError {
    StreamError::Internal(format!("messages and rows do not fit: {error}"))
}
