//! Rows as a stream of Arrow's IPC format.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use vespid_dataset::check_stream;

use crate::failure::Failure;

/// Bytes of a message when it is decoded: a compressed buffer is given as much memory as it asks for.
const MAX_BYTES: u64 = 256 << 20;

/// All rows of a message.
pub(crate) fn read(payload: &[u8]) -> Result<RecordBatch, Failure> {
    check_stream(payload, MAX_BYTES)
        .map_err(|reason| Failure::decode(format!("it is no IPC stream of Arrow's: {reason}")))?;
    let read = || {
        let reader = StreamReader::try_new(Cursor::new(payload), None)?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, ArrowError>>()?;
        concat_batches(&schema, &batches)
    };
    // Its reader panics over some that are damaged.
    let caught = std::panic::catch_unwind(read);
    match caught {
        Ok(Ok(batch)) if batch.num_rows() > 0 => Ok(batch),
        Ok(Ok(_)) => Err(Failure::decode("the message has no rows")),
        Ok(Err(error)) => Err(Failure::decode(format!("it is no IPC stream of Arrow's: {error}"))),
        Err(_) => Err(Failure::decode("it is no IPC stream of Arrow's: it is damaged")),
    }
}

/// Rows as a message.
pub(super) fn write(batch: &RecordBatch) -> Result<Bytes, Failure> {
    let written = || {
        let mut writer = StreamWriter::try_new(Vec::new(), &Arc::clone(batch.schema_ref()))?;
        writer.write(batch)?;
        writer.into_inner()
    };
    let written: Result<Vec<u8>, ArrowError> = written();
    Ok(written.map_err(|error| Failure::encode(error.to_string()))?.into())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::IpcWriteOptions;

    use super::*;

    fn message(compression: Option<CompressionType>) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7; 1000]));
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_buffer_that_asks_for_more_than_a_message_may_have_is_refused() {
        for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
            assert_eq!(read(&message(compression)).unwrap().num_rows(), 1000, "{compression:?}");
        }
        let mut bytes = message(Some(CompressionType::LZ4_FRAME));
        // What the buffer has when it is decoded stands before what it has now.
        let (said, asked) = (8000_i64.to_le_bytes(), (1_i64 << 46).to_le_bytes());
        let at = bytes.windows(8).rposition(|window| window == said).unwrap();
        bytes[at..at + 8].copy_from_slice(&asked);
        let refused = read(&bytes).unwrap_err();
        assert!(refused.message.contains("at most 268435456 are read"), "{}", refused.message);
    }
}
