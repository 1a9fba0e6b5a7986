//! The bytes of a text file, or of a range of it, as they come: for readers that block.
//!
//! Contract: the file is the one that was planned; a `.gz` or `.zst` is unpacked on the way. It is fetched by ranges of [`CHUNK`], so that a line
//! that breaks off costs one of them ([`Source`] asks again). Cost: up to three of them in memory. Reading blocks: it is for
//! threads that may.

use std::io::{self, BufReader, Read};
use std::ops::Range;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::source::Source;
use crate::{Compression, DataError};

/// Bytes of one request.
const CHUNK: u64 = 4 << 20;

/// Requests that are answered before they are read.
const AHEAD: usize = 1;

/// The bytes of a range, unpacked where the file is packed. Within a runtime.
pub(crate) fn body(
    source: Source,
    range: Range<u64>,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send>> {
    let (send, receive) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(error) = source.confirm().await {
            let _ = send.send(Err(error)).await;
            return;
        }
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + CHUNK);
            let chunk = source.range(at..end).await;
            let failed = chunk.is_err();
            if send.send(chunk).await.is_err() || failed {
                return;
            }
            at = end;
        }
    });
    let raw = Body { chunk: Bytes::new(), receive };
    Ok(match compression {
        Compression::None => Box::new(raw),
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(raw))),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(raw)?),
    })
}

struct Body {
    chunk: Bytes,
    receive: mpsc::Receiver<Result<Bytes, DataError>>,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receive.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk.map_err(io::Error::other)?,
            }
        }
        let length = self.chunk.len().min(into.len());
        if let Some(into) = into.get_mut(..length) {
            self.chunk.copy_to_slice(into);
        }
        Ok(length)
    }
}

/// What went wrong while a body was read, which may be the store's matter or the file's.
pub(crate) fn failure(source: &Source, row: Option<u64>, error: io::Error) -> DataError {
    match error.downcast::<DataError>() {
        Ok(error) => error,
        Err(error) => DataError::Broken {
            file: source.shown.to_string(),
            row,
            column: None,
            reason: format!("it cannot be unpacked: {error}"),
        },
    }
}
