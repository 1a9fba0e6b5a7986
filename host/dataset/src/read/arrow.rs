//! Arrow IPC files (Feather version 2): a part is some record batches, one behind the other.
//!
//! Contract: batches are fetched whole, of their columns only the wanted ones and those of the filter are decoded; dictionaries are
//! fetched where one of these has any. Rows keep their numbers under a filter. All that the file says of lengths and positions is held
//! against its size, and all data is validated, before it is used; what is damaged is told with the file and never ends the process.
//! Cost: a part asks for the footer again and for its dictionaries, then for some batches at a time; planning asks for the
//! metadata of every batch, for nothing else says how many rows it has. Memory is that of a few fetched batches, one decoded one, and
//! the dictionaries. Left out on purpose: the stream format, which has no footer to divide it by, and statistics, which Arrow has none of.

mod footer;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::FileDecoder;
use arrow::ipc::{Block, MetadataVersion};
use bytes::Bytes;
use futures_util::stream;

use self::footer::Footer;
pub use self::message::check_stream;
use super::source::Source;
use super::{RowStream, Wanted, columns, rows};
use crate::{DataError, File, Filter, Part, Place, Rows, Slice};

/// Batches whose metadata is asked for at once.
const COUNTED_AT_ONCE: usize = 32;
/// Bytes of batches that are fetched at once, if they are more than one.
const FETCHED_AT_ONCE: u64 = 8 << 20;
/// Rows of a batch that are filtered at once: what is needed beside a batch does not depend on its rows.
const FILTERED_AT_ONCE: usize = 64 * 1024;

/// The columns of a file.
pub(crate) async fn schema(place: &Place, file: &File) -> Result<SchemaRef, DataError> {
    let source = Source::new(place, file);
    Ok(footer::of(&source).await?.schema)
}

/// The parts of a file, which has the columns that are expected: batches of about `part_bytes` each, at least one.
pub(crate) async fn parts(
    place: &Place,
    file: &File,
    index: usize,
    expected: &Schema,
    _filter: Option<&Filter>,
    part_bytes: u64,
) -> Result<Vec<Part>, DataError> {
    let source = Source::new(place, file);
    let footer = footer::of(&source).await?;
    columns::check(&source.shown, &footer.schema, expected.fields())?;
    let counts = row_counts(&source, &footer).await?;
    let part = |start, first_row| Part {
        file: index,
        slice: Slice::Batches { start, end: start, first_row },
        rows: Some(0),
        bytes: 0,
    };
    let (mut parts, mut next) = (Vec::new(), part(0, 1));
    let mut row = 1_u64;
    for (position, (block, count)) in footer.batches.iter().zip(counts).enumerate() {
        let bytes = footer::bytes(block);
        if next.bytes > 0 && next.bytes.saturating_add(bytes) > part_bytes {
            parts.push(std::mem::replace(&mut next, part(position, row)));
        }
        next.bytes += bytes;
        next.rows = next.rows.map(|rows| rows + count);
        next.slice = match next.slice {
            Slice::Batches { start, first_row, .. } => Slice::Batches { start, end: position + 1, first_row },
            other => other,
        };
        row += count;
    }
    parts.push(next);
    parts.retain(|part| part.rows != Some(0));
    Ok(parts)
}

/// The rows of each batch.
async fn row_counts(source: &Source, footer: &Footer) -> Result<Vec<u64>, DataError> {
    let mut counts = Vec::with_capacity(footer.batches.len());
    for blocks in footer.batches.chunks(COUNTED_AT_ONCE) {
        let ranges: Vec<_> = blocks.iter().map(footer::metadata_range).collect();
        let messages = source.ranges(&ranges).await?;
        let decode = move || messages.iter().map(|bytes| message::rows(bytes)).collect::<Result<Vec<_>, _>>();
        counts.extend(source.decode(decode).await?);
    }
    Ok(counts)
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

/// Batches that are being read.
struct Reading {
    source: Source,
    decoder: Arc<FileDecoder>,
    wanted: Arc<Wanted>,
    /// Batches still to be fetched.
    blocks: VecDeque<Block>,
    /// Batches still to be decoded.
    fetched: VecDeque<(Block, Bytes)>,
    /// What is left of the batch that was decoded last, and the bytes of a row of it.
    batch: Option<(RecordBatch, usize)>,
    /// The number of the next row.
    row: u64,
    ready: std::vec::IntoIter<Rows>,
}

impl Reading {
    async fn open(source: Source, part: &Part, wanted: Wanted) -> Result<Self, DataError> {
        let footer = footer::of(&source).await?;
        columns::check(&source.shown, &footer.schema, &wanted.columns)?;
        if let Some(filter) = &wanted.filter {
            filter.check(&footer.schema)?;
        }
        let planned = match part.slice {
            Slice::Batches { start, end, first_row } => {
                footer.batches.get(start..end).map(|blocks| (blocks, first_row))
            }
            _ => None,
        };
        let (blocks, row) = planned.ok_or_else(|| {
            source.broken("it has no such record batches: the part was planned for another file".to_owned())
        })?;
        let blocks = blocks.iter().copied().collect();
        let decoder = Arc::new(decoder(&source, &footer, &wanted).await?);
        let ready = Vec::new().into_iter();
        let (fetched, batch) = (VecDeque::new(), None);
        Ok(Self { source, decoder, wanted: Arc::new(wanted), blocks, fetched, batch, row, ready })
    }

    /// The next rows, from the nearest place that has any: what is ready, decoded, fetched, or in the file.
    async fn next(mut self) -> Result<Option<(Rows, Self)>, DataError> {
        loop {
            if let Some(rows) = self.ready.next() {
                return Ok(Some((rows, self)));
            }
            if self.batch.is_some() {
                self.cut().await?;
            } else if let Some((block, bytes)) = self.fetched.pop_front() {
                self.decode(block, bytes).await?;
            } else if !self.blocks.is_empty() {
                self.fetch().await?;
            } else {
                return Ok(None);
            }
        }
    }

    async fn fetch(&mut self) -> Result<(), DataError> {
        let mut left = FETCHED_AT_ONCE;
        let mut blocks = Vec::new();
        while let Some(block) = self.blocks.front() {
            let bytes = footer::bytes(block);
            if bytes > left && !blocks.is_empty() {
                break;
            }
            left = left.saturating_sub(bytes);
            blocks.extend(self.blocks.pop_front());
        }
        let ranges: Vec<_> = blocks.iter().map(footer::range).collect();
        let bytes = self.source.ranges(&ranges).await?;
        self.fetched = blocks.into_iter().zip(bytes).collect();
        Ok(())
    }

    async fn decode(&mut self, block: Block, bytes: Bytes) -> Result<(), DataError> {
        let (decoder, wanted) = (Arc::clone(&self.decoder), Arc::clone(&self.wanted));
        let decode = move || {
            message::check_batch(&block, &bytes)?;
            let batch = decoder.read_record_batch(&block, &Buffer::from(bytes));
            let batch = batch.map_err(|error| error.to_string())?.ok_or("a record batch is empty")?;
            let row_bytes = rows::row_bytes(&batch, &wanted);
            Ok((batch, row_bytes))
        };
        let decoded = self.source.decode(decode).await;
        let decoded = decoded.map_err(|error| rows::at_row(error, self.row, "record batch"))?;
        self.batch = Some(decoded).filter(|(batch, _)| batch.num_rows() > 0);
        Ok(())
    }

    /// Makes some rows of the decoded batch ready.
    async fn cut(&mut self) -> Result<(), DataError> {
        let Some((batch, row_bytes)) = self.batch.take() else { return Ok(()) };
        let count = batch.num_rows().min(FILTERED_AT_ONCE.max(self.wanted.batch_rows));
        let rest = batch.num_rows() - count;
        self.batch = (rest > 0).then(|| (batch.slice(count, rest), row_bytes));
        let (first, wanted, file) = (self.row, Arc::clone(&self.wanted), Arc::clone(&self.source.shown));
        self.row += count as u64;
        let batch = batch.slice(0, count);
        let decode = move || {
            let (batch, numbers) = filtered(batch, first, wanted.filter.as_ref())?;
            rows::cut(&file, &batch, &numbers, row_bytes, &wanted)
        };
        let ready = self.source.decode(decode).await;
        self.ready = ready.map_err(|error| rows::at_row(error, first, "record batch"))?.into_iter();
        Ok(())
    }
}

/// The rows that a filter leaves, with their numbers.
fn filtered(
    batch: RecordBatch,
    first_row: u64,
    filter: Option<&Filter>,
) -> Result<(RecordBatch, Vec<u64>), String> {
    let numbers = first_row..first_row + batch.num_rows() as u64;
    let Some(filter) = filter else { return Ok((batch, numbers.collect())) };
    let mask = filter.evaluate(&batch).map_err(|error| error.to_string())?;
    let numbers = mask.values().set_indices().map(|index| first_row + index as u64).collect();
    Ok((filter_record_batch(&batch, &mask).map_err(|error| error.to_string())?, numbers))
}

/// A decoder of the columns that are wanted or filtered by, which knows their dictionaries.
async fn decoder(source: &Source, footer: &Footer, wanted: &Wanted) -> Result<FileDecoder, DataError> {
    let names = wanted.columns.iter().map(|field| field.name().clone());
    let names: HashSet<_> = names.chain(wanted.filter.iter().flat_map(Filter::columns)).collect();
    let fields = footer.schema.fields().iter().enumerate();
    let (projection, fields): (Vec<_>, Vec<_>) = fields
        .filter(|(_, field)| names.contains(field.name()))
        .map(|(at, field)| (at, field.clone()))
        .unzip();
    let projected = Schema::new(fields);
    let mut encoded = projected.flattened_fields().into_iter().map(Field::data_type);
    let has_dictionary = encoded.any(|data_type| matches!(data_type, DataType::Dictionary(..)));
    // There are writers whose footers name another version than their messages. Version 1 tells the decoder to go by the messages
    // alone, of which it is checked that they are of a version that it knows.
    let decoder = FileDecoder::new(Arc::clone(&footer.schema), MetadataVersion::V1);
    let mut decoder = decoder.with_projection(projection);
    if !has_dictionary {
        return Ok(decoder);
    }
    let mut budget = message::Dictionaries::default();
    for block in &footer.dictionaries {
        let block = *block;
        let bytes = source.range(footer::range(&block)).await?;
        let decode = move || {
            budget.check(&block, &bytes)?;
            let read = decoder.read_dictionary(&block, &Buffer::from(bytes));
            read.map_err(|error| format!("a dictionary: {error}"))?;
            Ok((decoder, budget))
        };
        (decoder, budget) = source.decode(decode).await?;
    }
    Ok(decoder)
}
