//! Writing files that appear whole or not at all.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

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
pub struct Writer {}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// [`DataError::Object`]; [`DataError::Setting`] where the format cannot hold a column, by its name.
    pub async fn create(place: Place, options: WriterOptions) -> Result<Self, DataError> {
        let _ = (place, options);
        todo!()
    }

    /// Whether the format can hold such columns: to be asked before any row is read.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub fn check(format: Format, schema: &SchemaRef) -> Result<(), DataError> {
        let _ = (format, schema);
        todo!()
    }

    /// Adds rows.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), DataError> {
        let _ = batch;
        todo!()
    }

    /// Lets the file appear, in the place of one that is there under its name.
    ///
    /// # Errors
    /// [`DataError::Object`]; nothing appears then.
    pub async fn finish(self) -> Result<Written, DataError> {
        todo!()
    }

    /// Takes back what has been stored for the file.
    pub async fn abort(self) {}
}
