//! Decoded batches as the rows that were wanted.

use std::future::Future;
use std::sync::Arc;

use arrow::array::{Array, AsArray, ByteView, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use tokio::sync::mpsc;

use super::{RowStream, Wanted};
use crate::{DataError, Origin, Rows};

/// What comes through a channel.
pub(crate) fn received(receive: mpsc::Receiver<Result<Rows, DataError>>) -> RowStream {
    let next = |mut receive: mpsc::Receiver<_>| async { receive.recv().await.map(|rows| (rows, receive)) };
    stream::unfold(receive, next).boxed()
}

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
    numbers: &[u64],
    wanted: &Wanted,
) -> Result<Vec<Rows>, String> {
    cut(file, batch, numbers, row_bytes(batch, wanted), wanted)
}

/// The same, where it is known how many bytes a row has: of a slice of a larger batch that cannot be told.
///
/// # Errors
/// A column that the batch has not.
pub(crate) fn cut(
    file: &Arc<str>,
    batch: &RecordBatch,
    numbers: &[u64],
    row_bytes: usize,
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
    let step = (wanted.batch_bytes / row_bytes.max(1)).clamp(1, wanted.batch_rows.max(1));
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

/// The bytes that a row of the wanted columns has on average. Buffers that columns share are counted by what each column has of them.
pub(crate) fn row_bytes(batch: &RecordBatch, wanted: &Wanted) -> usize {
    let columns = wanted.columns.iter().filter_map(|field| batch.column_by_name(field.name()));
    columns.map(|column| array_bytes(column)).fold(0, usize::saturating_add) / batch.num_rows().max(1)
}

fn array_bytes(array: &dyn Array) -> usize {
    /// Of a view itself, beside what it views.
    const VIEW: usize = size_of::<u128>();
    let viewed = |views: &[u128]| views.iter().map(|view| VIEW + ByteView::from(*view).length as usize).sum();
    if let Some(array) = array.as_string_view_opt() {
        viewed(array.views())
    } else if let Some(array) = array.as_binary_view_opt() {
        viewed(array.views())
    } else {
        array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
    }
}

/// Adds to what is wrong with a file where in it that is: in the `what` that begins at `row`.
pub(crate) fn at_row(error: DataError, row: u64, what: &str) -> DataError {
    match error {
        DataError::Broken { file, column, reason, .. } => {
            let reason = format!("in the {what} that begins here: {reason}");
            DataError::Broken { file, row: Some(row), column, reason }
        }
        other => other,
    }
}
