//! The work at one part: read, ask, write, each while the others go on.
//!
//! Contract: the part's file appears when all of its rows are answered or told, and its record and its errors are there before it.
//! Nothing of it appears otherwise. Memory: [`AHEAD`] batches read, `calls` being answered, and what the writer holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use vespid_dataset::{DataError, Format, Lease, LeaseOptions, Rows, Taken, Wanted, Writer, WriterOptions};

use crate::BatchError;
use crate::answer::{Answered, Answerer, FailedRow};
use crate::patience::patiently;
use crate::plan::Plan;
use crate::progress::{PartRecord, Progress};
use crate::spawned::Spawned;

/// Batches that are read before they are asked for.
const AHEAD: usize = 2;

/// Bytes of rows in one batch, about, at most.
const BATCH_BYTES: usize = 16 << 20;

/// Rows of which a percentage is one, where it is not known how many there are.
const ENOUGH: u64 = 10_000;

/// Rows that are read at once where each is a call.
const SINGLE_ROWS: usize = 64;

/// A lease that is not renewed for so long is over.
const LEASE_EXPIRY: Duration = Duration::from_secs(30);

/// What the work at parts shares.
pub(crate) struct Work {
    pub(crate) plan: Plan,
    pub(crate) answerer: Arc<Answerer>,
    pub(crate) progress: Arc<Progress>,
    /// Calls of one part at once.
    pub(crate) calls: usize,
}

impl Work {
    /// Does one part, and begins it again where a store was away.
    ///
    /// # Errors
    /// What ends the job, or this worker's run of it.
    pub(crate) async fn part(self: Arc<Self>, part: usize) -> Result<(), BatchError> {
        patiently(|| self.once(part)).await
    }

    async fn once(&self, part: usize) -> Result<(), BatchError> {
        let options = LeaseOptions { expiry: LEASE_EXPIRY };
        let lease = match Lease::take(&self.plan.layout.leases(), &format!("{part:05}"), &options).await? {
            Taken::Ours(lease) => lease,
            Taken::Theirs(holder) => return Err(BatchError::Held { part, holder }),
        };
        let mut counted = Counted { progress: &self.progress, rows: 0, failed: 0 };
        let outcome = self.write(part, &lease, &mut counted).await;
        lease.release().await;
        match outcome {
            Ok(bytes) => {
                self.progress.part_done(bytes);
                counted.keep();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, part: usize, lease: &Lease, counted: &mut Counted<'_>) -> Result<u64, BatchError> {
        let started = Instant::now();
        let plan = &self.plan;
        let layout = &plan.layout;
        let options = WriterOptions {
            format: plan.format,
            schema: Arc::clone(&plan.mapping.schema),
            staging: layout.staging(),
        };
        let mut writer = Writer::create(layout.part(part, plan.format), options).await?;
        let mut errors = Errors { work: self, part, writer: None, first: None };
        let outcome = self.rows(part, &mut writer, &mut errors, counted).await;
        let first = errors.first.clone();
        // They are told also where there are too many of them.
        let told = errors.finish().await;
        if let Err(error) = outcome.and(told) {
            writer.abort().await;
            return Err(error);
        }
        if !lease.confirm().await? {
            writer.abort().await;
            return Err(BatchError::Lost { part });
        }
        // The record comes before the file, whose appearance ends the part.
        let seconds = started.elapsed().as_secs_f64();
        let record = PartRecord { rows: counted.rows, failed: counted.failed, seconds, first };
        let text = serde_json::to_vec(&record).map_err(|error| BatchError::Internal(error.to_string()))?;
        layout.record(part).put(text.into()).await?;
        Ok(writer.finish().await?.bytes)
    }

    async fn rows(
        &self,
        part: usize,
        writer: &mut Writer,
        errors: &mut Errors<'_>,
        counted: &mut Counted<'_>,
    ) -> Result<(), BatchError> {
        let mut answered = self.answered(part)?;
        while let Some(answered) = answered.next().await {
            let Answered { batch, failed, rows } = answered?;
            counted.add(rows, failed.len() as u64);
            errors.tell(&failed).await?;
            self.allowed()?;
            if batch.num_rows() > 0 {
                writer.write(&batch).await?;
            }
        }
        Ok(())
    }

    /// The rows of a part with their answers, in order.
    fn answered(&self, part: usize) -> Result<BoxStream<'static, Result<Answered, BatchError>>, BatchError> {
        let plan = &self.plan;
        let planned = plan.manifest.parts.get(part);
        let planned = planned.ok_or_else(|| BatchError::Internal(format!("there is no part {part}")))?;
        let batch_rows = if plan.mapping.batched { plan.rows_per_call() } else { SINGLE_ROWS };
        let wanted = Wanted {
            columns: plan.mapping.wanted.clone(),
            filter: plan.filter.clone(),
            batch_rows,
            batch_bytes: BATCH_BYTES,
        };
        let mut rows = plan.dataset.read(planned, wanted);
        let (send, receive) = mpsc::channel::<Result<Rows, DataError>>(AHEAD);
        let reader = Spawned::new(async move {
            while let Some(rows) = rows.next().await {
                if send.send(rows).await.is_err() {
                    break;
                }
            }
        });
        let read = futures_util::stream::unfold((receive, reader), |(mut receive, reader)| async move {
            receive.recv().await.map(|rows| (rows, (receive, reader)))
        });
        let answerer = Arc::clone(&self.answerer);
        let answered = read.map(move |rows| {
            let answerer = Arc::clone(&answerer);
            let answer = Spawned::new(async move { answerer.answer(rows?).await });
            async move { answer.await.unwrap_or_else(|error| Err(BatchError::Internal(error.to_string()))) }
        });
        Ok(answered.buffered(self.calls).boxed())
    }

    /// Whether no more rows have failed than may.
    fn allowed(&self) -> Result<(), BatchError> {
        let counts = self.progress.counts();
        // A percentage is one of all rows; where their number is not known, of enough of them.
        let rows = counts.rows.unwrap_or_else(|| counts.rows_done.max(ENOUGH)).max(counts.rows_done);
        if self.plan.manifest.job.max_errors.exceeded(counts.failed, rows) {
            return Err(self.too_many(counts.failed, counts.rows_done));
        }
        Ok(())
    }

    pub(crate) fn too_many(&self, failed: u64, rows: u64) -> BatchError {
        let layout = &self.plan.layout;
        BatchError::TooManyErrors {
            failed,
            rows,
            allowed: self.plan.manifest.job.max_errors.to_string(),
            first: self.progress.first().unwrap_or_default(),
            errors: layout.root.child("_errors").shown.to_string(),
        }
    }
}

/// What a part has counted, which is taken back where it is given up.
struct Counted<'a> {
    progress: &'a Progress,
    rows: u64,
    failed: u64,
}

impl Counted<'_> {
    fn add(&mut self, rows: u64, failed: u64) {
        self.progress.add(rows, failed);
        self.rows += rows;
        self.failed += failed;
    }

    fn keep(mut self) {
        (self.rows, self.failed) = (0, 0);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.progress.take_back(self.rows, self.failed);
    }
}

/// The errors of a part, which have a file where there are some.
struct Errors<'a> {
    work: &'a Work,
    part: usize,
    writer: Option<Writer>,
    first: Option<String>,
}

impl Errors<'_> {
    async fn tell(&mut self, failed: &[FailedRow]) -> Result<(), BatchError> {
        let Some(first) = failed.first() else { return Ok(()) };
        let shown = || format!("{}, row {}: {}: {}", first.file, first.row, first.code, first.message);
        self.work.progress.note(shown);
        self.first.get_or_insert_with(shown);
        let layout = &self.work.plan.layout;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let options = WriterOptions {
                    format: Format::Jsonl,
                    schema: schema_of_errors(),
                    staging: layout.staging(),
                };
                none.insert(Writer::create(layout.errors(self.part), options).await?)
            }
        };
        let batch = batch_of_errors(failed).map_err(|error| BatchError::Internal(error.to_string()))?;
        Ok(writer.write(&batch).await?)
    }

    async fn finish(self) -> Result<(), BatchError> {
        match self.writer {
            Some(writer) => {
                writer.finish().await?;
                Ok(())
            }
            // Those of an earlier try.
            None => Ok(self.work.plan.layout.errors(self.part).delete().await?),
        }
    }
}

fn schema_of_errors() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("row", DataType::UInt64, false),
        Field::new("column", DataType::Utf8, true),
        Field::new("code", DataType::Utf8, false),
        Field::new("message", DataType::Utf8, false),
    ]))
}

fn batch_of_errors(failed: &[FailedRow]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let text = |of: fn(&FailedRow) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(failed.iter().map(of)))
    };
    let rows: UInt64Array = failed.iter().map(|failed| failed.row).collect();
    let columns: StringArray = failed.iter().map(|failed| failed.column.as_deref()).collect();
    RecordBatch::try_new(
        schema_of_errors(),
        vec![
            text(|failed| &failed.file),
            Arc::new(rows),
            Arc::new(columns),
            text(|failed| failed.code.as_str()),
            text(|failed| &failed.message),
        ],
    )
}
