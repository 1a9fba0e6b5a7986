//! Which rows are wanted: a condition in SQL.

use arrow::array::{BooleanArray, RecordBatch};

use crate::DataError;

/// A condition over columns, as it stands after `WHERE` in SQL.
#[derive(Clone, Debug)]
pub struct Filter {}

impl Filter {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`DataError::Setting`] with what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let _ = text;
        todo!()
    }

    /// The columns that it names, each once.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        todo!()
    }

    /// Checks its columns and the types of what is compared, before any row is read.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub fn check(&self, schema: &arrow::datatypes::Schema) -> Result<(), DataError> {
        let _ = schema;
        todo!()
    }

    /// Whether each row is wanted; what SQL calls unknown is false.
    ///
    /// # Errors
    /// [`DataError::Setting`].
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray, DataError> {
        let _ = batch;
        todo!()
    }
}
