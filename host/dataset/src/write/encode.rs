//! Rows as the bytes of a format.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::csv;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type, IntervalUnit, SchemaRef,
};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use arrow::json::WriterBuilder;
use arrow::json::writer::{LineDelimited, Writer as JsonWriter};
use bytes::{Buf, Bytes};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::{DataError, Format};

/// A row group of Parquet, at most.
const GROUP_ROWS: usize = 1 << 20;
pub(super) const GROUP_BYTES: usize = 32 << 20;

/// Where encoders write to, and bytes are taken from.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Kind {
    Parquet(Box<ArrowWriter<Buffer>>),
    Csv(Box<csv::Writer<Buffer>>),
    Jsonl(JsonWriter<Buffer, LineDelimited>),
    Arrow(Box<FileWriter<Buffer>>),
}

/// Encodes rows.
pub(super) struct Encoder {
    kind: Kind,
    buffer: Buffer,
}

/// Whether the format can hold the columns.
pub(super) fn check(format: Format, schema: &SchemaRef) -> Result<(), DataError> {
    let refused = |column: &str, data_type: &DataType, instead: &str| DataError::Setting {
        field: "output.format",
        reason: format!(
            "column '{column}' is {data_type}, which {format} cannot hold: write {instead}, or leave it out"
        ),
    };
    for field in schema.fields() {
        let data_type = field.data_type();
        match format {
            Format::Csv if data_type.is_nested() || data_type.is_binary() => {
                return Err(refused(field.name(), data_type, "jsonl, parquet or arrow"));
            }
            Format::Jsonl if holds(data_type, &DataType::is_binary) => {
                return Err(refused(field.name(), data_type, "parquet or arrow"));
            }
            Format::Jsonl if holds(data_type, &is_union) => {
                return Err(refused(field.name(), data_type, "arrow"));
            }
            Format::Parquet if holds(data_type, &|held| is_union(held) || has_no_type(held)) => {
                return Err(refused(field.name(), data_type, "arrow"));
            }
            _ => {}
        }
    }
    if format == Format::Files {
        let reason = "use parquet, csv, jsonl or arrow".to_owned();
        return Err(DataError::Setting { field: "output.format", reason });
    }
    Ok(())
}

/// Whether it, or a type within it, is such a one.
fn holds(data_type: &DataType, is_one: &impl Fn(&DataType) -> bool) -> bool {
    let within = |field: &FieldRef| holds(field.data_type(), is_one);
    is_one(data_type)
        || match data_type {
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::FixedSizeList(field, _)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::Map(field, _)
            | DataType::RunEndEncoded(_, field) => within(field),
            DataType::Struct(fields) => fields.iter().any(within),
            DataType::Dictionary(_, value) => holds(value, is_one),
            _ => false,
        }
}

fn is_union(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Union(..))
}

/// What Parquet has no type for.
fn has_no_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(unit) => *unit == IntervalUnit::MonthDayNano,
        DataType::Struct(fields) => fields.is_empty(),
        _ => false,
    }
}

fn wrong(error: impl std::fmt::Display) -> DataError {
    DataError::Setting { field: "output", reason: error.to_string() }
}

impl Encoder {
    pub(super) fn new(format: Format, schema: &SchemaRef) -> Result<Self, DataError> {
        check(format, schema)?;
        let buffer = Buffer::default();
        let kind = match format {
            Format::Parquet => {
                let level = ZstdLevel::try_new(1).map_err(wrong)?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(buffer.clone(), Arc::clone(schema), Some(properties));
                Kind::Parquet(Box::new(writer.map_err(wrong)?))
            }
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(buffer.clone());
                // The header, also where no rows come.
                writer.write(&RecordBatch::new_empty(Arc::clone(schema))).map_err(wrong)?;
                Kind::Csv(Box::new(writer))
            }
            Format::Jsonl | Format::Files => {
                Kind::Jsonl(WriterBuilder::new().with_explicit_nulls(true).build(buffer.clone()))
            }
            Format::Arrow => {
                let options =
                    IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME));
                let writer =
                    FileWriter::try_new_with_options(buffer.clone(), schema, options.map_err(wrong)?);
                Kind::Arrow(Box::new(writer.map_err(wrong)?))
            }
        };
        Ok(Self { kind, buffer })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        match &mut self.kind {
            Kind::Parquet(writer) => {
                writer.write(batch).map_err(wrong)?;
                if writer.in_progress_size() > GROUP_BYTES {
                    writer.flush().map_err(wrong)?;
                }
                Ok(())
            }
            Kind::Csv(writer) => writer.write(batch).map_err(wrong),
            Kind::Jsonl(writer) => {
                finite(batch)?;
                writer.write(batch).map_err(wrong)
            }
            Kind::Arrow(writer) => writer.write(batch).map_err(wrong),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), DataError> {
        match &mut self.kind {
            Kind::Parquet(writer) => writer.finish().map(drop).map_err(wrong),
            Kind::Csv(_) => Ok(()),
            Kind::Jsonl(writer) => writer.finish().map_err(wrong),
            Kind::Arrow(writer) => writer.finish().map_err(|error: ArrowError| wrong(error)),
        }
    }

    /// What has been encoded since it was last asked.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.buffer.take()
    }
}

/// Each row as a JSON object.
///
/// # Errors
/// [`DataError::Setting`] where a column has a value that JSON cannot hold.
pub fn to_objects(batch: &RecordBatch) -> Result<Vec<Bytes>, DataError> {
    finite(batch)?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(wrong)?;
    // Line breaks within texts are escaped, so that each line is a row.
    let mut left = Bytes::from(writer.into_inner());
    let mut rows = Vec::with_capacity(batch.num_rows());
    while let Some(end) = left.iter().position(|byte| *byte == b'\n') {
        rows.push(left.split_to(end));
        left.advance(1);
    }
    Ok(rows)
}

/// JSON has no word for what is no number and for infinities, and null would be another value.
fn finite(batch: &RecordBatch) -> Result<(), DataError> {
    let mut columns = batch.schema_ref().fields().iter().zip(batch.columns());
    match columns.find(|(_, column)| !is_finite(column)) {
        None => Ok(()),
        Some((field, _)) => {
            let reason = format!(
                "column '{}' holds a value that is no number or infinite, which JSON cannot say: write parquet, arrow or csv",
                field.name()
            );
            Err(DataError::Setting { field: "output.format", reason })
        }
    }
}

fn is_finite(array: &ArrayRef) -> bool {
    if let Some(values) = array.as_primitive_opt::<Float32Type>() {
        return values.iter().flatten().all(f32::is_finite);
    }
    if let Some(values) = array.as_primitive_opt::<Float64Type>() {
        return values.iter().flatten().all(f64::is_finite);
    }
    if let Some(values) = array.as_primitive_opt::<Float16Type>() {
        return values.iter().flatten().all(<Float16Type as ArrowPrimitiveType>::Native::is_finite);
    }
    if let Some(lists) = array.as_fixed_size_list_opt() {
        return is_finite(
            &lists.values().slice(lists.value_offset_at(0), lists.len() * lists.value_length() as usize),
        );
    }
    match array.data_type() {
        DataType::List(_) => {
            array.as_list_opt::<i32>().is_none_or(|lists| lists.iter().flatten().all(|list| is_finite(&list)))
        }
        DataType::LargeList(_) => {
            array.as_list_opt::<i64>().is_none_or(|lists| lists.iter().flatten().all(|list| is_finite(&list)))
        }
        _ => true,
    }
}
