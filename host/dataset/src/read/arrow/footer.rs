//! Footers: where the dictionaries and record batches of a file lie, and what columns they have.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::read_footer_length;
use arrow::ipc::{Block, root_as_footer};

use super::message::MAX_BYTES;
use crate::DataError;
use crate::read::source::Source;

/// What a file begins with: its magic bytes, padded.
const HEAD: u64 = 8;
/// What it ends with: the length of the footer, and the magic bytes again.
const TRAILER: u64 = 10;
/// Bytes that are asked for at the end, which most footers are in.
const TAIL: u64 = 64 << 10;
/// Bytes of a footer: a column has some hundred, a batch 24.
const MAX_FOOTER: u64 = 64 << 20;
/// Bytes of the metadata of a batch: a column has some fifty.
const MAX_METADATA: u64 = 16 << 20;

/// What a footer says, with each block within the file.
pub(super) struct Footer {
    pub(super) schema: SchemaRef,
    pub(super) dictionaries: Vec<Block>,
    pub(super) batches: Vec<Block>,
}

/// The footer of a file that is still the one that was planned.
pub(super) async fn of(source: &Source) -> Result<Footer, DataError> {
    source.confirm().await?;
    let size = source.size;
    if size < HEAD + TRAILER {
        return Err(source.broken(format!("it has {size} bytes, and is not an Arrow file")));
    }
    let tail_start = size.saturating_sub(TAIL);
    let found = source.ranges(&[0..HEAD, tail_start..size]).await?;
    let [head, tail] = found.as_slice() else { return Err(source.broken("it cannot be read".to_owned())) };
    check_head(head).map_err(|reason| source.broken(reason))?;
    let Some((before, trailer)) = tail.split_last_chunk() else {
        return Err(source.broken("it is cut off".to_owned()));
    };
    let length = read_footer_length(*trailer).map_err(|error| {
        source.broken(format!("it is cut off, or was never finished: its end is no Arrow file's ({error})"))
    })?;
    let start = (size - HEAD - TRAILER).checked_sub(length as u64).map(|start| start + HEAD);
    let start = start.filter(|_| length as u64 <= MAX_FOOTER);
    let start = start.ok_or_else(|| {
        source.broken(format!("it says that its footer has {length} bytes, and has {size}: it is damaged"))
    })?;
    let footer = match before.len().checked_sub(length) {
        Some(at) => tail.slice(at..before.len()),
        None => source.range(start..size - TRAILER).await?,
    };
    source.decode(move || parse(&footer, start)).await
}

/// Tells what else a file is, as far as its first bytes do.
fn check_head(head: &[u8]) -> Result<(), String> {
    if head.starts_with(b"ARROW1") {
        return Ok(());
    }
    Err(if head.starts_with(b"FEA1") {
        "it is Feather version 1, which is not read: write it as version 2 (as pyarrow.feather.write_feather does)"
    } else if head.starts_with(&[0xff; 4]) {
        "it is Arrow's stream format, which cannot be divided: write it in the file format (as pyarrow.ipc.new_file does)"
    } else {
        "it is not an Arrow file: it does not begin with ARROW1 (Arrow's stream format is not read)"
    }
    .to_owned())
}

fn parse(bytes: &[u8], footer_start: u64) -> Result<Footer, String> {
    let footer = root_as_footer(bytes).map_err(|error| format!("its footer is damaged: {error}"))?;
    let schema = footer.schema().ok_or("its footer has no schema")?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err("its numbers are of another byte order than this machine's".to_owned());
    }
    let blocks = footer.recordBatches().ok_or("its footer has no record batches")?;
    let batches: Vec<_> = blocks.iter().copied().collect();
    let dictionaries: Vec<_> = footer.dictionaries().iter().flatten().copied().collect();
    batches.iter().chain(&dictionaries).try_for_each(|block| check(block, footer_start))?;
    let schema = try_fb_to_schema(schema).map_err(|error| format!("its schema is wrong: {error}"))?;
    Ok(Footer { schema: Arc::new(schema), dictionaries, batches })
}

/// Whether a block is within the file and of a size that can be read.
fn check(block: &Block, footer_start: u64) -> Result<(), String> {
    let (offset, metadata, body) = (block.offset(), block.metaDataLength(), block.bodyLength());
    let damaged = || {
        format!(
            "its footer puts a batch of {metadata} and {body} bytes at byte {offset}: it is cut off or damaged"
        )
    };
    let sizes = (u64::try_from(offset), u64::try_from(metadata), u64::try_from(body));
    let (Ok(start), Ok(metadata), Ok(body)) = sizes else { return Err(damaged()) };
    let end = start.checked_add(metadata).and_then(|end| end.checked_add(body));
    // A message begins with its length, which takes up to eight bytes.
    if start < HEAD || !(HEAD..=MAX_METADATA).contains(&metadata) || end.is_none_or(|end| end > footer_start)
    {
        return Err(damaged());
    }
    if body > MAX_BYTES {
        return Err(format!(
            "a record batch has {body} bytes; at most {MAX_BYTES} are read at once: write it in smaller batches (max_chunksize in pyarrow)"
        ));
    }
    Ok(())
}

/// Where a block lies; only of blocks that have been checked.
pub(super) fn range(block: &Block) -> Range<u64> {
    let start = block.offset().unsigned_abs();
    start..start + bytes(block)
}

/// Where the message at the front of a block lies.
pub(super) fn metadata_range(block: &Block) -> Range<u64> {
    let start = block.offset().unsigned_abs();
    start..start + u64::from(block.metaDataLength().unsigned_abs())
}

/// The bytes of a block, as they are stored.
pub(super) fn bytes(block: &Block) -> u64 {
    u64::from(block.metaDataLength().unsigned_abs()) + block.bodyLength().unsigned_abs()
}
