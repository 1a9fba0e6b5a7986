//! Rows to answers: the calls of one batch of rows, and what is done where they fail.
//!
//! Contract: each row is either answered or told as failed, whatever the model does: where a call of several rows fails, each of them
//! is asked for alone. A model that has no room now is asked again, with growing pauses; one that is gone ends the job. Cost: one
//! call for a batch, and one more for each row of a call that failed. Where calls of many rows fail that succeed row by row,
//! later ones have half as many rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute;
use backon::Retryable;
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use vespid_dataset::Rows;
use vespid_serving::Predictor;
use vespid_types::{Error, ErrorCode, ModelRef, Priority, Request, Sequence};

use crate::BatchError;
use crate::mapping::{Call, Fault, Mapping};
use crate::patience::growing;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Asks one model.
pub struct Answerer {
    predictor: Predictor,
    model: ModelRef,
    mapping: Mapping,
    priority: Priority,
    patience: Duration,
    /// Calls at once.
    room: Semaphore,
    /// Rows of a call, at most.
    limit: AtomicUsize,
}

/// How a model is asked.
#[derive(Clone, Copy, Debug)]
pub struct AnswererOptions {
    /// Calls at once.
    pub calls: usize,
    /// Rows of a call, at most.
    pub rows: usize,
    /// The turn of the calls.
    pub priority: Priority,
    /// How long a model that has no room is asked again.
    pub patience: Duration,
}

/// How jobs ask: in their turn, and for ten minutes.
pub(crate) fn for_jobs(calls: usize, rows: usize) -> AnswererOptions {
    AnswererOptions { calls, rows, priority: Priority::BATCH, patience: Duration::from_secs(600) }
}

/// What came of the rows of one batch.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The rows that were answered, as they are written, in order.
    pub batch: RecordBatch,
    /// Those that were not, in order.
    pub faults: Vec<RowFault>,
}

/// A row that was not answered.
#[derive(Clone, Debug)]
pub struct RowFault {
    /// Its position in the batch.
    pub row: usize,
    /// The column, where it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub error: Error,
}

/// What came of some rows of a file.
pub(crate) struct Answered {
    /// As they are written.
    pub(crate) batch: RecordBatch,
    pub(crate) failed: Vec<FailedRow>,
    /// Answered and failed ones.
    pub(crate) rows: u64,
}

/// A row of a file that failed, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedRow {
    pub(crate) file: Arc<str>,
    pub(crate) row: u64,
    pub(crate) column: Option<String>,
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

type Outputs = (Vec<u32>, Vec<ArrayRef>);

impl Answerer {
    /// Asks `model` by way of `mapping`.
    #[must_use]
    pub fn new(predictor: Predictor, model: ModelRef, mapping: Mapping, options: AnswererOptions) -> Self {
        let AnswererOptions { calls, rows, priority, patience } = options;
        let (room, limit) = (Semaphore::new(calls.max(1)), AtomicUsize::new(rows.max(1)));
        Self { predictor, model, mapping, priority, patience, room, limit }
    }

    /// Answers the rows of a batch that has the columns of the mapping.
    ///
    /// # Errors
    /// What is wrong with more than a row: the model is gone, or has had no room for as long as there was patience.
    pub async fn ask(&self, batch: &RecordBatch) -> Result<Answers, BatchError> {
        let limit = if self.mapping.batched { self.limit.load(Ordering::Relaxed) } else { usize::MAX };
        let (mut written, mut faults) = (Vec::new(), Vec::new());
        let mut start = 0;
        while start < batch.num_rows() {
            let length = limit.min(batch.num_rows() - start);
            let piece = batch.slice(start, length);
            let (answers, failed) = self.piece(&piece).await?;
            faults.extend(failed.into_iter().map(|fault| RowFault { row: start + fault.row, ..fault }));
            written.push(self.mapping.rows(&piece, answers).map_err(defect)?);
            start += length;
        }
        faults.sort_by_key(|fault| fault.row);
        let batch = match written.len() {
            1 => written.pop().unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&self.mapping.schema))),
            _ => compute::concat_batches(&self.mapping.schema, &written).map_err(defect)?,
        };
        Ok(Answers { batch, faults })
    }

    /// Answers one row, the only one of a batch, as a request of a sequence.
    ///
    /// # Errors
    /// As [`Answerer::ask`].
    pub async fn ask_in(&self, batch: &RecordBatch, sequence: Sequence) -> Result<Answers, BatchError> {
        let (calls, mut faults) = self.calls(batch)?;
        let mut answers = Vec::new();
        for call in calls {
            match self.call(call, Some(&sequence)).await? {
                (rows, Ok(columns)) => answers.push((rows, columns)),
                (_, Err(error)) => faults.push(RowFault { row: 0, column: None, error }),
            }
        }
        Ok(Answers { batch: self.mapping.rows(batch, answers).map_err(defect)?, faults })
    }

    /// Answers all of these rows.
    ///
    /// # Errors
    /// As [`Answerer::ask`].
    pub(crate) async fn answer(&self, rows: Rows) -> Result<Answered, BatchError> {
        let Rows { batch, origin, refused } = rows;
        let unread = refused.into_iter().map(|refused| FailedRow {
            file: refused.file,
            row: refused.row,
            column: refused.column,
            code: ErrorCode::InvalidArgument,
            message: refused.message,
        });
        let mut failed: Vec<FailedRow> = unread.collect();
        let Answers { batch, faults } = self.ask(&batch).await?;
        failed.extend(faults.into_iter().map(|RowFault { row, column, error }| {
            let (file, row) = origin.at(row);
            FailedRow { file, row, column, code: error.code(), message: error.message().to_owned() }
        }));
        failed.sort_by(|a, b| (&a.file, a.row).cmp(&(&b.file, b.row)));
        let rows = batch.num_rows() as u64 + failed.len() as u64;
        Ok(Answered { batch, failed, rows })
    }

    /// Whether a call of these rows gives an answer for each; what is wrong with some of them does not matter here.
    pub(crate) async fn succeeds(&self, batch: &RecordBatch) -> bool {
        let Ok((calls, _)) = self.mapping.calls(batch) else { return false };
        let Ok(answers) = try_join_all(calls.into_iter().map(|call| self.call(call, None))).await else {
            return false;
        };
        answers.iter().all(|(_, outcome)| outcome.is_ok())
    }

    /// The calls that rows make, and the rows that make none.
    fn calls(&self, batch: &RecordBatch) -> Result<(Vec<Call>, Vec<RowFault>), BatchError> {
        let (calls, faults) = self.mapping.calls(batch).map_err(defect)?;
        let told = |fault: Fault| RowFault {
            row: fault.row,
            column: Some(fault.column),
            error: Error::invalid(fault.message),
        };
        Ok((calls, faults.into_iter().map(told).collect()))
    }

    async fn piece(&self, batch: &RecordBatch) -> Result<(Vec<Outputs>, Vec<RowFault>), BatchError> {
        let (calls, mut faults) = self.calls(batch)?;
        let mut answers = Vec::with_capacity(calls.len());
        for (rows, outcome) in try_join_all(calls.into_iter().map(|call| self.call(call, None))).await? {
            match (outcome, &rows[..]) {
                (Ok(columns), _) => answers.push((rows, columns)),
                (Err(error), [row]) => faults.push(RowFault { row: *row as usize, column: None, error }),
                (Err(error), _) => {
                    let (alone, failed) = self.one_by_one(batch, &rows).await?;
                    if failed.is_empty() {
                        self.ask_for_less(rows.len(), &error);
                    }
                    answers.extend(alone);
                    faults.extend(failed);
                }
            }
        }
        Ok((answers, faults))
    }

    async fn one_by_one(
        &self,
        batch: &RecordBatch,
        rows: &[u32],
    ) -> Result<(Vec<Outputs>, Vec<RowFault>), BatchError> {
        let calls = self.mapping.single(batch, rows).map_err(defect)?;
        let (mut answers, mut faults) = (Vec::with_capacity(calls.len()), Vec::new());
        for (rows, outcome) in try_join_all(calls.into_iter().map(|call| self.call(call, None))).await? {
            match outcome {
                Ok(columns) => answers.push((rows, columns)),
                Err(error) => faults.extend(rows.into_iter().map(|row| RowFault {
                    row: row as usize,
                    column: None,
                    error: error.clone(),
                })),
            }
        }
        Ok((answers, faults))
    }

    fn ask_for_less(&self, rows: usize, error: &Error) {
        let less = (rows / 2).max(1);
        if self.limit.fetch_min(less, Ordering::Relaxed) > less {
            tracing::warn!(
                "a call of {rows} rows failed ({}: {}) where each row alone did not: calls have {less} rows from here on; \
                 rows_per_call, or a stream's max_rows, sets it",
                error.code(),
                error.message()
            );
        }
    }

    /// One call, and what it came to; the outer error ends the job.
    async fn call(
        &self,
        call: Call,
        sequence: Option<&Sequence>,
    ) -> Result<(Vec<u32>, vespid_types::Result<Vec<ArrayRef>>), BatchError> {
        let Call { rows, inputs } = call;
        let ask = || async {
            let _room = self.room.acquire().await.map_err(|_| Error::internal("the job is over"))?;
            let model = self.predictor.resolve(&self.model).await?;
            let request = Request {
                model: self.model.clone(),
                id: None,
                parameters: Default::default(),
                inputs: inputs.clone(),
                outputs: self.mapping.asked(),
                deadline: None,
                priority: self.priority,
                sequence: sequence.cloned(),
            };
            self.predictor.predict(&model, request).await
        };
        let pauses = growing(FIRST_PAUSE, LONGEST_PAUSE, self.patience);
        let outcome = ask.retry(pauses).when(|error| error.code().may_pass()).await;
        match outcome {
            Ok(response) => {
                let columns = self.mapping.columns(rows.len(), &response.outputs);
                Ok((rows, columns))
            }
            Err(error) => match error.code() {
                ErrorCode::NotFound | ErrorCode::PermissionDenied => Err(error.into()),
                code if code.may_pass() => Err(error.into()),
                _ => Ok((rows, Err(error))),
            },
        }
    }
}

fn defect(error: impl std::fmt::Display) -> BatchError {
    BatchError::Internal(format!("columns and tensors do not fit: {error}"))
}
