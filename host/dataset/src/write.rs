//! Writing files that appear whole or not at all.
//!
//! Contract: nothing is under the file's name before [`Writer::finish`], and all of it after that. In a bucket the parts of an upload
//! appear together; on disk the file is put together in a folder that nobody reads, and renamed when it is on the disk. Cost: memory
//! for a row group of Parquet ([`GROUP_BYTES`]) and a few pieces of an upload. Encoding runs on threads that may take their time.
//! Left out on purpose: taking back what a killed process has uploaded of a file, which a bucket's lifecycle rules do.

mod encode;
mod sink;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::encode::Encoder;
pub use self::encode::to_objects;
use self::sink::Sink;
use crate::{DataError, Format, Place};

/// How a file is written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Not [`Format::Files`].
    pub format: Format,
    /// The columns.
    pub schema: SchemaRef,
    /// The folder where the file is put together, where the store is the local file system.
    pub staging: Place,
}

/// What has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A file that is being written. Dropping it leaves nothing under its name.
pub struct Writer {
    /// None while it encodes, and where that has failed.
    encoder: Option<Encoder>,
    sink: Sink,
    rows: u64,
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// [`DataError::Object`]; [`DataError::Setting`] where the format cannot hold a column, by its name.
    pub async fn create(place: Place, options: WriterOptions) -> Result<Self, DataError> {
        let WriterOptions { format, schema, staging } = options;
        let encoder = Encoder::new(format, &schema)?;
        let sink = Sink::open(place, &staging).await?;
        Ok(Self { encoder: Some(encoder), sink, rows: 0 })
    }

    /// Whether the format can hold such columns: to be asked before any row is read.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub fn check(format: Format, schema: &SchemaRef) -> Result<(), DataError> {
        encode::check(format, schema)
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`DataError::Object`]; [`DataError::Setting`] where a value has no place in the format.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        self.rows += batch.num_rows() as u64;
        let batch = batch.clone();
        let bytes = self.encode(move |encoder| encoder.write(&batch)).await?;
        self.sink.write(bytes).await
    }

    /// Lets the file appear, in the place of one that is there under its name.
    ///
    /// # Errors
    /// [`DataError::Object`]; nothing appears then.
    pub async fn finish(mut self) -> Result<Written, DataError> {
        let bytes = self.encode(Encoder::finish).await?;
        self.sink.write(bytes).await?;
        let bytes = self.sink.finish().await?;
        Ok(Written { rows: self.rows, bytes })
    }

    /// Takes back what has been stored for the file.
    pub async fn abort(self) {
        self.sink.abort().await;
    }

    /// Encodes on a thread that may take its time; the bytes that came of it.
    async fn encode(
        &mut self,
        work: impl FnOnce(&mut Encoder) -> Result<(), DataError> + Send + 'static,
    ) -> Result<Vec<u8>, DataError> {
        let failed = || DataError::Setting { field: "output", reason: "the encoder has failed".to_owned() };
        let mut encoder = self.encoder.take().ok_or_else(failed)?;
        let done = tokio::task::spawn_blocking(move || {
            work(&mut encoder)?;
            let bytes = encoder.take();
            Ok((encoder, bytes))
        });
        let (encoder, bytes) = done.await.unwrap_or_else(|_| Err(failed()))?;
        self.encoder = Some(encoder);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
