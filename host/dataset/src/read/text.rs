//! What CSV and JSON Lines have in common: reading on a thread of its own, parts of whole lines, and rows that are chosen.

use std::sync::Arc;

use ::arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use ::arrow::compute;
use ::arrow::datatypes::{FieldRef, Schema};
use ::arrow::error::ArrowError;
use tokio::sync::mpsc;

use super::source::Source;
use super::{RowStream, Wanted, rows};
use crate::{DataError, File, Origin, Part, Refused, Rows, Slice};

/// A line that is longer than this is no line.
pub(crate) const MAX_LINE: usize = 64 << 20;

/// Bytes in which columns are looked for.
pub(crate) const SAMPLE: u64 = 1 << 20;

/// Where rows go; whether anyone still wants them.
pub(crate) struct Output(mpsc::Sender<Result<Rows, DataError>>);

impl Output {
    pub(crate) fn send(&self, rows: Result<Rows, DataError>) -> bool {
        self.0.blocking_send(rows).is_ok()
    }
}

/// Runs a reader on a thread that may block, one batch ahead of who takes them. What it panics at is the file's fault.
pub(crate) fn stream(
    source: Source,
    read: impl FnOnce(&Output) -> Result<(), DataError> + Send + 'static,
) -> RowStream {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let output = Output(send.clone());
        let ended = tokio::task::spawn_blocking(move || read(&output)).await;
        let ended = ended.unwrap_or_else(|error| Err(source.broken(format!("its reader failed: {error}"))));
        if let Err(error) = ended {
            let _ = send.send(Err(error)).await;
        }
    });
    rows::received(receive)
}

/// The bytes of a part, and the number of its first row; none of both where it is all of the file.
pub(crate) fn range(part: &Part) -> Option<(std::ops::Range<u64>, u64)> {
    match part.slice {
        Slice::Bytes { start, end, first_row } => Some((start..end, first_row)),
        _ => None,
    }
}

/// A file as one part.
pub(crate) fn whole(index: usize, file: &File) -> Part {
    Part { file: index, slice: Slice::Whole, rows: None, bytes: file.size }
}

/// Parts of whole lines that grow record by record.
pub(crate) struct Cutter {
    file: usize,
    part_bytes: u64,
    start: u64,
    first_row: u64,
    rows: u64,
    parts: Vec<Part>,
}

impl Cutter {
    /// `start` is where the first record may begin.
    pub(crate) fn new(file: usize, part_bytes: u64, start: u64) -> Self {
        Self { file, part_bytes, start, first_row: 1, rows: 0, parts: Vec::new() }
    }

    /// Takes a record that ends before `end`.
    pub(crate) fn record(&mut self, end: u64) {
        self.rows += 1;
        if end - self.start >= self.part_bytes {
            self.cut(end);
        }
    }

    fn cut(&mut self, end: u64) {
        if self.rows > 0 {
            let slice = Slice::Bytes { start: self.start, end, first_row: self.first_row };
            self.parts.push(Part { file: self.file, slice, rows: Some(self.rows), bytes: end - self.start });
        }
        (self.start, self.first_row, self.rows) = (end, self.first_row + self.rows, 0);
    }

    /// The parts, the last one up to the file's end.
    pub(crate) fn end(mut self, end: u64) -> Vec<Part> {
        self.cut(end);
        self.parts
    }
}

/// The columns that are read: those wanted, and those that the filter compares.
pub(crate) fn columns(wanted: &Wanted, known: &Schema) -> Vec<FieldRef> {
    let mut columns = wanted.columns.clone();
    for name in wanted.filter.iter().flat_map(crate::Filter::columns) {
        if columns.iter().any(|field| *field.name() == name) {
            continue;
        }
        if let Ok(known) = known.field_with_name(&name) {
            columns.push(Arc::new(known.clone()));
        }
    }
    columns
}

/// Rows that were read, as they are wanted: `batch` has the [`columns`].
pub(crate) fn finish(
    file: &Arc<str>,
    batch: &RecordBatch,
    numbers: &[u64],
    refused: Vec<Refused>,
    wanted: &Wanted,
) -> Result<Rows, DataError> {
    let wrong = |error: ArrowError| DataError::Broken {
        file: file.to_string(),
        row: numbers.first().copied(),
        column: None,
        reason: error.to_string(),
    };
    let kept: Vec<usize> = (0..wanted.columns.len()).collect();
    let (batch, rows) = match &wanted.filter {
        None => (batch.clone(), numbers.to_vec()),
        Some(filter) => {
            let mask = filter.evaluate(batch)?;
            let rows = numbers.iter().zip(mask.iter()).filter(|(_, keep)| *keep == Some(true));
            let rows = rows.map(|(number, _)| *number).collect();
            (compute::filter_record_batch(batch, &mask).map_err(wrong)?, rows)
        }
    };
    let batch = batch.project(&kept).map_err(wrong)?;
    Ok(Rows { batch, origin: Origin::File { file: Arc::clone(file), rows }, refused })
}

/// The rows of a batch that stay, by their positions.
pub(crate) fn keep(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let rows = UInt32Array::from(rows);
    let columns = batch.columns().iter().map(|column| compute::take(column, &rows, None));
    let columns = columns.collect::<Result<_, _>>()?;
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

/// A value in a message.
pub(crate) fn shown(text: &str) -> String {
    const LENGTH: usize = 60;
    text.chars().take(LENGTH).collect()
}
