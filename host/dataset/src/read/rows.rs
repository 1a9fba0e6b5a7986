//! Decoded batches as the rows that were wanted.

use std::future::Future;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use super::{RowStream, Wanted};
use crate::{DataError, Origin, Rows};

/// A stream that is opened when it is first asked for rows.
pub(crate) fn flatten<S>(opened: impl Future<Output = Result<S, DataError>> + Send + 'static) -> RowStream
where
    S: Stream<Item = Result<Rows, DataError>> + Send + 'static,
{
    stream::once(opened).try_flatten().boxed()
}

/// The wanted columns of a batch, in order, cut so that each piece has at most so many rows and about so many bytes.
///
/// # Errors
/// A column that the batch has not.
pub(crate) fn pieces(
    file: &Arc<str>,
    batch: &RecordBatch,
    numbers: Vec<u64>,
    wanted: &Wanted,
) -> Result<Vec<Rows>, String> {
    let column = |name: &String| {
        batch.column_by_name(name).cloned().ok_or_else(|| format!("column '{name}' is missing"))
    };
    let columns = wanted.columns.iter().map(|field| column(field.name())).collect::<Result<Vec<_>, _>>()?;
    let named =
        |name: &String| batch.schema().field_with_name(name).cloned().map_err(|error| error.to_string());
    let fields = wanted.columns.iter().map(|field| named(field.name())).collect::<Result<Vec<_>, _>>()?;
    let rows = batch.num_rows();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options);
    let batch = batch.map_err(|error| error.to_string())?;
    let bytes = batch.get_array_memory_size() / rows.max(1);
    let step = (wanted.batch_bytes / bytes.max(1)).clamp(1, wanted.batch_rows.max(1));
    let starts = (0..rows).step_by(step);
    Ok(starts
        .zip(numbers.chunks(step))
        .map(|(start, numbers)| Rows {
            batch: batch.slice(start, numbers.len()),
            origin: Origin::File { file: Arc::clone(file), rows: numbers.to_vec() },
            refused: Vec::new(),
        })
        .collect())
}
