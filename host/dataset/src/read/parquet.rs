//! Parquet: a part is a row group.
//!
//! Contract: of a row group only the wanted columns and those of the filter are fetched, and of pages only those in which the filter
//! leaves rows; row groups that statistics rule out have no part. Rows keep their numbers under a filter. What is damaged is told with
//! the file and never ends the process: all decoding is done on threads of its own, where a panic is an error. Cost: the wanted columns of
//! a row group as they are stored, a few decoded batches, and the footers of a few files, for a file is read row group by row group.

mod footer;
mod prune;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::parquet::arrow::arrow_reader::{ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter};
use ::parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder};
use ::parquet::arrow::{ProjectionMask, RowNumber};
use ::parquet::{DecodeResult, errors::ParquetError};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use futures_util::stream;

use super::source::Source;
use super::{RowStream, Wanted, columns, rows};
use crate::{DataError, File, Filter, Part, Place, Rows, Slice};

/// What a part is, in messages.
const ROW_GROUP: &str = "row group";

/// The columns of a file.
pub(crate) async fn schema(place: &Place, file: &File) -> Result<SchemaRef, DataError> {
    let source = Source::new(place, file);
    Ok(Arc::clone(footer::of(&source).await?.schema()))
}

/// The parts of a file, which has the columns that are expected.
pub(crate) async fn parts(
    place: &Place,
    file: &File,
    index: usize,
    expected: &Schema,
    filter: Option<&Filter>,
) -> Result<Vec<Part>, DataError> {
    let source = Source::new(place, file);
    let footer = footer::of(&source).await?;
    columns::check(&source.shown, footer.schema(), expected.fields())?;
    let groups = footer.metadata().row_groups();
    let possible = filter.map(|filter| prune::possible(&footer, filter));
    let mut first_row = 1_u64;
    let mut parts = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        let count = group.num_rows().unsigned_abs();
        let wanted = possible.as_ref().is_none_or(|possible| possible.get(position).copied().unwrap_or(true));
        if wanted && count > 0 {
            parts.push(Part {
                file: index,
                slice: Slice::RowGroup { index: position, first_row },
                rows: Some(count),
                bytes: group.compressed_size().unsigned_abs(),
            });
        }
        first_row += count;
    }
    Ok(parts)
}

/// The rows of a part.
pub(crate) fn read(place: Place, file: File, part: Part, wanted: Wanted) -> RowStream {
    let opened = async move {
        let source = Source::new(&place, &file);
        let reading = Reading::open(source, &part, wanted).await?;
        Ok(stream::try_unfold(reading, Reading::next))
    };
    rows::flatten(opened)
}

/// A row group that is being read.
struct Reading {
    source: Source,
    decoder: ParquetPushDecoder,
    wanted: Arc<Wanted>,
    row_number: String,
    /// Rows still to come, where there is no filter.
    left: Option<u64>,
    first_row: u64,
    ready: std::vec::IntoIter<Rows>,
}

impl Reading {
    async fn open(source: Source, part: &Part, wanted: Wanted) -> Result<Self, DataError> {
        let footer = footer::of(&source).await?;
        columns::check(&source.shown, footer.schema(), &wanted.columns)?;
        let Slice::RowGroup { index, first_row } = part.slice else {
            return Err(
                source.broken("the part is not a row group: it was planned for another format".to_owned())
            );
        };
        if let Some(filter) = &wanted.filter {
            filter.check(footer.schema())?;
        }
        let row_number = free_name(footer.schema());
        let left = if wanted.filter.is_none() { part.rows } else { None };
        let wanted = Arc::new(wanted);
        let (name, asked) = (row_number.clone(), Arc::clone(&wanted));
        let decoder =
            source.decode(move || decoder(&footer, index, &name, &asked).map_err(|error| error.to_string()));
        let decoder = decoder.await?;
        Ok(Self { source, decoder, wanted, row_number, left, first_row, ready: Vec::new().into_iter() })
    }

    /// The next rows, fetching what the decoder asks for.
    async fn next(mut self) -> Result<Option<(Rows, Self)>, DataError> {
        loop {
            if let Some(rows) = self.ready.next() {
                return Ok(Some((rows, self)));
            }
            let mut decoder = self.decoder;
            let decode = move || {
                let result = decoder.try_decode().map_err(|error| error.to_string())?;
                Ok((decoder, result))
            };
            let (decoder, result) = self
                .source
                .decode(decode)
                .await
                .map_err(|error| rows::at_row(error, self.first_row, ROW_GROUP))?;
            self.decoder = decoder;
            match result {
                DecodeResult::NeedsData(ranges) => {
                    let bytes = self.source.ranges(&ranges).await?;
                    let pushed = self.decoder.push_ranges(ranges, bytes);
                    pushed.map_err(|error| self.source.broken(error.to_string()))?;
                }
                DecodeResult::Data(batch) => {
                    self.left = self.left.map(|left| left.saturating_sub(batch.num_rows() as u64));
                    self.ready = self.rows(&batch).map_err(|reason| self.source.broken(reason))?.into_iter();
                }
                DecodeResult::Finished if self.left.is_none_or(|left| left == 0) => return Ok(None),
                DecodeResult::Finished => {
                    let reason =
                        format!("the row group has {} rows less than it says", self.left.unwrap_or_default());
                    return Err(rows::at_row(self.source.broken(reason), self.first_row, ROW_GROUP));
                }
            }
        }
    }

    fn rows(&self, batch: &RecordBatch) -> Result<Vec<Rows>, String> {
        let numbers =
            batch.column_by_name(&self.row_number).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let numbers = numbers.ok_or("the decoder gives no row numbers")?;
        let numbers: Vec<_> = numbers.values().iter().map(|number| number.unsigned_abs() + 1).collect();
        rows::pieces(&self.source.shown, batch, &numbers, &self.wanted)
    }
}

/// A decoder of what is wanted of a row group.
fn decoder(
    footer: &ArrowReaderMetadata,
    group: usize,
    row_number: &str,
    wanted: &Wanted,
) -> Result<ParquetPushDecoder, ParquetError> {
    let field = Field::new(row_number, DataType::Int64, false).with_extension_type(RowNumber);
    let options = ArrowReaderOptions::new().with_virtual_columns(vec![Arc::new(field)])?;
    let with_numbers = ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options)?;
    let names: Vec<_> = wanted.columns.iter().map(|field| field.name().as_str()).collect();
    let mut builder = ParquetPushDecoderBuilder::new_with_metadata(with_numbers)
        .with_row_groups(vec![group])
        .with_projection(mask(footer, &names))
        .with_batch_size(batch_rows(footer, group, &names, wanted));
    if let Some(filter) = wanted.filter.clone() {
        let names = filter.columns();
        let mask = mask(footer, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let predicate = ArrowPredicateFn::new(mask, move |batch| {
            filter.evaluate(&batch).map_err(|error| ArrowError::ExternalError(Box::new(error)))
        });
        builder = builder.with_row_filter(RowFilter::new(vec![Box::new(predicate)]));
    }
    builder.build()
}

fn mask(footer: &ArrowReaderMetadata, names: &[&str]) -> ProjectionMask {
    let positions = names.iter().filter_map(|name| footer.schema().index_of(name).ok());
    ProjectionMask::roots(footer.parquet_schema(), positions)
}

/// Rows that have about the bytes that are wanted at a time, as far as the footer tells.
fn batch_rows(footer: &ArrowReaderMetadata, group: usize, names: &[&str], wanted: &Wanted) -> usize {
    let Some(group) = footer.metadata().row_groups().get(group) else { return wanted.batch_rows.max(1) };
    let bytes = group.columns().iter().filter(|column| {
        let root = column.column_path().parts().first();
        root.is_some_and(|root| names.contains(&root.as_str()))
    });
    let bytes = bytes.map(|column| column.uncompressed_size().max(0)).fold(0, i64::saturating_add);
    let row = (bytes / group.num_rows().max(1)).max(1);
    let rows = wanted.batch_bytes / usize::try_from(row).unwrap_or(usize::MAX);
    rows.clamp(1, wanted.batch_rows.max(1))
}

/// A name that no column has.
fn free_name(schema: &Schema) -> String {
    let mut name = "row_number".to_owned();
    while schema.field_with_name(&name).is_ok() {
        name.push('_');
    }
    name
}
