//! What reads messages and is private otherwise: for `tests/fuzz` alone, and no interface.

use arrow::array::RecordBatch;
use bytes::Bytes;
use vespid_types::Signature;

use crate::codec::{self, Coding};
use crate::message::Message;
use crate::{StreamError, StreamSpec};

/// Reads a message of Arrow's.
///
/// # Errors
/// What is wrong with it.
pub fn arrow(payload: &[u8]) -> Result<RecordBatch, String> {
    codec::read_arrow(payload).map_err(|failure| failure.message)
}

/// Reads messages of JSON or raw bytes: their rows, the message of each, and the messages that are refused.
///
/// # Errors
/// Where the stream does not fit the model; the server's own where no message should do that.
pub fn messages(
    spec: &StreamSpec,
    signature: &Signature,
    payloads: &[Bytes],
) -> Result<(RecordBatch, Vec<usize>, Vec<usize>), StreamError> {
    let message = |(offset, payload): (i64, &Bytes)| Message {
        offset,
        id: offset,
        timestamp: None,
        key: None,
        payload: Some(payload.clone()),
        headers: Vec::new(),
    };
    let messages: Vec<Message> = (0..).zip(payloads).map(message).collect();
    let read = Coding::new(spec, signature, None)?.decode(&messages)?;
    Ok((read.batch, read.of, read.refused.into_iter().map(|(message, _)| message).collect()))
}
