//! The columns of a file against those that are expected of it.

use arrow::datatypes::{DataType, FieldRef, Schema};

use crate::DataError;

/// Whether the file has each expected column with its type; more columns, and another order, do no harm.
///
/// # Errors
/// [`DataError::NoColumn`], [`DataError::OtherType`].
pub(crate) fn check<'a>(
    file: &str,
    schema: &Schema,
    expected: impl IntoIterator<Item = &'a FieldRef>,
) -> Result<(), DataError> {
    for field in expected {
        let got = data_type(file, schema, field.name())?;
        if got != field.data_type() {
            return Err(DataError::OtherType {
                file: file.to_owned(),
                column: field.name().clone(),
                expected: field.data_type().to_string(),
                got: got.to_string(),
            });
        }
    }
    Ok(())
}

/// The type of a column.
///
/// # Errors
/// [`DataError::NoColumn`].
pub(crate) fn data_type<'a>(file: &str, schema: &'a Schema, column: &str) -> Result<&'a DataType, DataError> {
    let found = schema.field_with_name(column).map(arrow::datatypes::Field::data_type);
    found.map_err(|_| DataError::NoColumn {
        file: file.to_owned(),
        column: column.to_owned(),
        there: schema.fields().iter().map(|field| field.name().clone()).collect(),
    })
}
