//! Rows as a stream of Arrow's IPC format.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::failure::Failure;

/// All rows of a message.
pub(crate) fn read(payload: &[u8]) -> Result<RecordBatch, Failure> {
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
