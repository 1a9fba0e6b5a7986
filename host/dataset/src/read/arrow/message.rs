//! What the messages of batches say, held against what is there before anything is allocated by it.

use std::collections::HashSet;

use arrow::ipc::{Block, Message, MetadataVersion, RecordBatch, root_as_message};

/// Bytes of a record batch, and of the dictionaries of a file, as they are stored and as they are decoded: a batch is decoded as a
/// whole.
pub(super) const MAX_BYTES: u64 = 1 << 30;
/// Values of a column of a batch: a bit each is the least that any takes.
const MAX_VALUES: u64 = 8 * MAX_BYTES;
/// Rows of a batch: what the format allows, for readers that count in 32 bits.
const MAX_ROWS: u64 = i32::MAX as u64;

/// The rows of a record batch, from the message at its front.
pub(super) fn rows(metadata: &[u8]) -> Result<u64, String> {
    let batch = message(metadata)?.header_as_record_batch().ok_or("a record batch is none: it is damaged")?;
    let rows = u64::try_from(batch.length()).ok().filter(|rows| *rows <= MAX_ROWS);
    rows.ok_or_else(|| format!("a record batch says that it has {} rows; at most {MAX_ROWS}", batch.length()))
}

/// Checks a record batch before it is decoded.
pub(super) fn check_batch(block: &Block, bytes: &[u8]) -> Result<(), String> {
    let (metadata, body) = split(block, bytes)?;
    rows(metadata)?;
    let batch = message(metadata)?.header_as_record_batch().ok_or("a record batch is none: it is damaged")?;
    let bytes = decoded_bytes(batch, body)?;
    if bytes > MAX_BYTES {
        return Err(format!(
            "it has {bytes} bytes when it is decoded; at most {MAX_BYTES} are read at once: write smaller batches (max_chunksize in pyarrow)"
        ));
    }
    Ok(())
}

/// Checks a stream of Arrow's before it is decoded, which may take `most` bytes: what its messages say is held against what is
/// there. Of what is no message its reader tells.
///
/// # Errors
/// What is wrong with it.
pub fn check_stream(mut bytes: &[u8], most: u64) -> Result<(), String> {
    let mut total = 0_u64;
    while let Some((metadata, rest)) = first_message(bytes) {
        let said = message(metadata)?;
        let body = usize::try_from(said.bodyLength()).ok();
        let (body, rest) =
            body.and_then(|length| rest.split_at_checked(length)).ok_or("a batch is cut off")?;
        let batch = match said.header_as_dictionary_batch() {
            Some(dictionary) => dictionary.data(),
            None => said.header_as_record_batch().map(|batch| rows(metadata).map(|_| batch)).transpose()?,
        };
        if let Some(batch) = batch {
            total = total.saturating_add(decoded_bytes(batch, body)?);
        }
        if total > most {
            return Err(format!("it has {total} bytes or more when it is decoded; at most {most} are read"));
        }
        bytes = rest;
    }
    Ok(())
}

/// The metadata of a stream's next message, with what stands before it, and the rest; none at its end, or where it is cut off.
fn first_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mark = if bytes.starts_with(&[0xff; 4]) { 4 } else { 0 };
    let length = u32::from_le_bytes(*bytes.get(mark..)?.first_chunk()?);
    let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
    bytes.split_at_checked(length.checked_add(mark + 4)?)
}

/// What the dictionaries of a file have come to.
#[derive(Default)]
pub(super) struct Dictionaries {
    known: HashSet<i64>,
    bytes: u64,
}

impl Dictionaries {
    /// Checks a dictionary before it is decoded.
    pub(super) fn check(&mut self, block: &Block, bytes: &[u8]) -> Result<(), String> {
        let (metadata, body) = split(block, bytes)?;
        let dictionary = message(metadata)?.header_as_dictionary_batch();
        let dictionary = dictionary.ok_or("a dictionary is none: it is damaged")?;
        let id = dictionary.id();
        // Batches may be read in any order, so that there is no saying which of two dictionaries one would mean.
        if !dictionary.isDelta() && !self.known.insert(id) {
            return Err(format!("it has two dictionaries {id}, which only the stream format may"));
        }
        let data = dictionary.data().ok_or("a dictionary has no values: it is damaged")?;
        self.bytes = self.bytes.saturating_add(decoded_bytes(data, body)?);
        if self.bytes > MAX_BYTES {
            return Err(format!(
                "its dictionaries have more than {MAX_BYTES} bytes when they are decoded: write these columns without dictionaries"
            ));
        }
        Ok(())
    }
}

/// The metadata and the body of a block.
fn split<'a>(block: &Block, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), String> {
    let at = usize::try_from(block.metaDataLength()).ok();
    at.and_then(|at| bytes.split_at_checked(at)).ok_or_else(|| "a batch is cut off".to_owned())
}

/// The message of a batch: behind its length, and behind a mark before that since version 0.15 of the format.
fn message(metadata: &[u8]) -> Result<Message<'_>, String> {
    let rest = metadata.strip_prefix(&[0xff; 4]).unwrap_or(metadata);
    let message = rest.get(4..).ok_or("the message of a batch is cut off")?;
    let message =
        root_as_message(message).map_err(|error| format!("the message of a batch is damaged: {error}"))?;
    match message.version() {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
        other => Err(format!("a batch is of version {other:?} of Arrow's metadata; V4 and V5 are read")),
    }
}

/// The bytes that the buffers of a batch have when they are decoded. Compressed ones say so at their front, and are given as much
/// memory as they ask for.
fn decoded_bytes(batch: RecordBatch<'_>, body: &[u8]) -> Result<u64, String> {
    for node in batch.nodes().into_iter().flatten() {
        let (length, nulls) = (u64::try_from(node.length()), u64::try_from(node.null_count()));
        if !length.is_ok_and(|length| length <= MAX_VALUES && nulls.is_ok_and(|nulls| nulls <= length)) {
            let (length, nulls) = (node.length(), node.null_count());
            return Err(format!("a batch says that a column has {length} values and {nulls} nulls"));
        }
    }
    let compressed = batch.compression().is_some();
    let mut total = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let place = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let stored = match place {
            (Ok(start), Ok(length)) => start.checked_add(length).and_then(|end| body.get(start..end)),
            _ => None,
        };
        let Some(stored) = stored else {
            let (length, offset, all) = (buffer.length(), buffer.offset(), body.len());
            return Err(format!("a batch of {all} bytes says that a buffer has {length} at {offset}"));
        };
        let decoded = match stored.first_chunk() {
            // Less than nothing stands for bytes that are stored as they are.
            Some(prefix) if compressed => {
                i64::from_le_bytes(*prefix).try_into().unwrap_or(stored.len() as u64)
            }
            _ => stored.len() as u64,
        };
        total = total.saturating_add(decoded);
    }
    Ok(total)
}
