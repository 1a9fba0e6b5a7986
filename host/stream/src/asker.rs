//! Messages to records: what a model says of them, and what is done with those that fail.
//!
//! Contract: each message has one outcome, in the order of the messages: a record with its answer, one for where failed messages
//! go, none where it is skipped; or the stream stops. A model that is away is waited for, with growing pauses and for as long as it
//! takes, and so is one that does not fit any more. Cost: one call for a batch, and one more for each message of a call that failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use backon::BackoffBuilder;
use bytes::Bytes;
use vespid_batch::{Answerer, AnswererOptions, Answers, BatchError, growing};
use vespid_serving::{Predictor, ReadyModel};
use vespid_types::{Error, ErrorCode, ModelRef, Priority, Version};

use crate::StreamError;
use crate::codec::{Coding, Decoded, read_arrow};
use crate::failure::{Class, Failure};
use crate::message::{Header, Message, Partition, Record};
use crate::metrics::Counters;
use crate::spec::{Action, Codec, StreamSpec};
use crate::status::Told;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a full lane is asked again before it is said that the stream waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Calls of a stream at once, at most: where a call of many messages fails, each of them is asked for alone.
const CALLS: usize = 64;

/// Versions and columns that are remembered.
const REMEMBERED: usize = 8;

/// Asks one model for the messages of one stream.
pub(crate) struct Asker {
    pub(crate) spec: Arc<StreamSpec>,
    predictor: Predictor,
    model: ModelRef,
    known: Mutex<Vec<Known>>,
    pub(crate) counters: Arc<Counters>,
    told: Arc<Told>,
}

/// How a version of the model is asked.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) version: Version,
    pub(crate) model: Arc<ReadyModel>,
    columns: Option<SchemaRef>,
    pub(crate) coding: Arc<Coding>,
    pub(crate) answerer: Arc<Answerer>,
}

/// What came of a message.
enum Outcome {
    Answer { payload: Bytes, version: Version },
    Failed(Failure),
}

impl Asker {
    pub(crate) fn new(
        spec: Arc<StreamSpec>,
        predictor: Predictor,
        model: ModelRef,
        counters: Arc<Counters>,
        told: Arc<Told>,
    ) -> Self {
        Self { spec, predictor, model, known: Mutex::default(), counters, told }
    }

    /// Sees whether the stream fits the model, which is loaded where it is not.
    ///
    /// # Errors
    /// [`StreamError::Config`] with the field that does not fit; [`StreamError::Model`].
    pub(crate) async fn check(&self) -> Result<(), StreamError> {
        let known = self.version(None).await?;
        let stateful = known.model.is_stateful();
        match &self.spec.sessions {
            None if stateful => {
                let reason = "the model keeps state for each sequence: add it (`sessions: {}`), so that each key is one";
                Err(StreamError::config("sessions", reason))
            }
            Some(_) if !stateful => Err(StreamError::config(
                "sessions",
                "the model keeps no state: its model.toml has no [sequences]",
            )),
            Some(sessions) if sessions.snapshots.is_some() && !known.model.saves_sequences() => {
                let reason =
                    "the model's plugin cannot save what it keeps: it does not export vespid:model/session";
                Err(StreamError::config("sessions.snapshots", reason))
            }
            _ => Ok(()),
        }
    }

    /// How the version that is asked now is asked, once it is there.
    pub(crate) async fn known(&self) -> Result<Known, StreamError> {
        self.held(async || match self.version(None).await {
            // It did when the stream began: another version is asked for now, and a third may be.
            Err(StreamError::Config { field, reason }) => {
                let reason =
                    format!("the version that is asked now does not fit the stream: {field}: {reason}");
                Err(StreamError::Model(Error::invalid(reason)))
            }
            known => known,
        })
        .await
    }

    /// The records for some messages of a partition.
    ///
    /// # Errors
    /// [`StreamError::Message`] where one fails and the stream is to stop.
    pub(crate) async fn records(
        &self,
        partition: &Partition,
        messages: &[Message],
        max_bytes: Option<usize>,
    ) -> Result<Vec<Record>, StreamError> {
        let outcomes = match self.spec.source.codec {
            Codec::Json | Codec::Raw => self.together(messages).await?,
            Codec::Arrow => {
                let mut outcomes = Vec::with_capacity(messages.len());
                for message in messages {
                    outcomes.push(self.alone(message).await?);
                }
                outcomes
            }
        };
        let mut records = Vec::with_capacity(messages.len());
        for (message, outcome) in messages.iter().zip(outcomes) {
            let outcome = match outcome {
                Outcome::Answer { payload, .. }
                    if max_bytes.is_some_and(|max| payload.len() + message.overhead() > max) =>
                {
                    let reason = format!("the answer has {} bytes, and the sink takes fewer", payload.len());
                    Outcome::Failed(Failure::encode(reason))
                }
                outcome => outcome,
            };
            match outcome {
                Outcome::Answer { payload, version } => {
                    records.push(self.answer(partition, message, payload, version));
                }
                Outcome::Failed(failure) => {
                    records.extend(self.failed(partition, message, &failure, max_bytes)?);
                }
            }
        }
        Ok(records)
    }

    async fn together(&self, messages: &[Message]) -> Result<Vec<Outcome>, StreamError> {
        let known = self.known().await?;
        let Decoded { batch, of, refused } = known.coding.decode(messages)?;
        let Answers { batch: answered, faults } = self.held(|| ask(&known.answerer, &batch)).await?;
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        outcomes.resize_with(messages.len(), || None);
        let mut put = |index: usize, outcome: Outcome| {
            if let Some(place) = outcomes.get_mut(index) {
                *place = Some(outcome);
            }
        };
        refused.into_iter().for_each(|(index, failure)| put(index, Outcome::Failed(failure)));
        let mut failed = vec![false; of.len()];
        for fault in &faults {
            if let (Some(index), Some(failed)) = (of.get(fault.row), failed.get_mut(fault.row)) {
                *failed = true;
                put(*index, Outcome::Failed(Failure::of_model(fault.column.as_deref(), &fault.error)));
            }
        }
        let rows: Vec<usize> =
            of.iter().zip(&failed).filter(|(_, failed)| !**failed).map(|(index, _)| *index).collect();
        let encoded = known.coding.encode(&answered, |row| messages.get(*rows.get(row)?));
        for (index, encoded) in rows.iter().zip(encoded) {
            let outcome = match encoded {
                Ok(payload) => Outcome::Answer { payload, version: known.version },
                Err(failure) => Outcome::Failed(failure),
            };
            put(*index, outcome);
        }
        let missing = || StreamError::Internal("a message has no outcome".to_owned());
        outcomes.into_iter().map(|outcome| outcome.ok_or_else(missing)).collect()
    }

    /// One message that is rows by itself.
    async fn alone(&self, message: &Message) -> Result<Outcome, StreamError> {
        let Some(payload) = &message.payload else {
            return Ok(Outcome::Failed(Failure::decode("the message has no value")));
        };
        let batch = match read_arrow(payload) {
            Ok(batch) => batch,
            Err(failure) => return Ok(Outcome::Failed(failure)),
        };
        let columns = batch.schema();
        let known = match self.held(|| self.version(Some(&columns))).await {
            // It is this message that has other columns.
            Err(StreamError::Config { field, reason }) => {
                return Ok(Outcome::Failed(Failure::decode(format!("{field}: {reason}"))));
            }
            known => known?,
        };
        let fields = known.coding.mapping.wanted.iter();
        let wanted: Vec<usize> = fields.filter_map(|field| columns.index_of(field.name()).ok()).collect();
        let batch = batch.project(&wanted).map_err(crate::codec::defect)?;
        let Answers { batch: answered, faults } = self.held(|| ask(&known.answerer, &batch)).await?;
        if let Some(fault) = faults.first() {
            let mut failure = Failure::of_model(fault.column.as_deref(), &fault.error);
            failure.message = format!("row {}: {}", fault.row + 1, failure.message);
            return Ok(Outcome::Failed(failure));
        }
        Ok(match known.coding.encode_rows(&answered) {
            Ok(payload) => Outcome::Answer { payload, version: known.version },
            Err(failure) => Outcome::Failed(failure),
        })
    }

    /// Does what needs the model until it is there; what does not pass by waiting is returned.
    pub(crate) async fn held<T, F: Future<Output = Result<T, StreamError>>>(
        &self,
        work: impl Fn() -> F,
    ) -> Result<T, StreamError> {
        let mut pauses = growing(FIRST_PAUSE, LONGEST_PAUSE, Duration::MAX).build();
        loop {
            match work().await {
                Err(StreamError::Model(error)) => {
                    self.counters.retries.inc();
                    self.told.waits(format!("the model: {} ({})", error.message(), error.code()));
                    tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
                }
                done => {
                    self.told.goes_on();
                    return done;
                }
            }
        }
    }

    /// How the version that is asked now is asked.
    async fn version(&self, columns: Option<&SchemaRef>) -> Result<Known, StreamError> {
        let model = self.predictor.resolve(&self.model).await.map_err(StreamError::Model)?;
        let found = |known: &&Known| Arc::ptr_eq(&known.model, &model) && known.columns.as_ref() == columns;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.iter().find(found) {
            return Ok(known.clone());
        }
        let new = self.learn(model, columns)?;
        if known.len() >= REMEMBERED {
            known.remove(0);
        }
        known.push(new.clone());
        Ok(new)
    }

    fn learn(&self, model: Arc<ReadyModel>, columns: Option<&SchemaRef>) -> Result<Known, StreamError> {
        let coding = Coding::new(&self.spec, model.signature(), columns)?;
        let version = model.version();
        let options = AnswererOptions {
            calls: CALLS,
            rows: self.spec.max_rows as usize,
            priority: Priority::STREAM,
            patience: PATIENCE,
        };
        let of = ModelRef { name: model.name().clone(), version: Some(version) };
        let answerer = Answerer::new(self.predictor.clone(), of, coding.mapping.clone(), options);
        let (columns, coding, answerer) = (columns.cloned(), Arc::new(coding), Arc::new(answerer));
        Ok(Known { version, model, columns, coding, answerer })
    }

    pub(crate) fn answer(
        &self,
        partition: &Partition,
        message: &Message,
        payload: Bytes,
        version: Version,
    ) -> Record {
        let mut headers = carried(message);
        headers.push(Header::new("vespid-model", self.model.name.to_string()));
        headers.push(Header::new("vespid-version", version.to_string()));
        headers.push(Header::new("vespid-source", format!("{partition}@{}", message.id)));
        self.counters.answered.inc();
        record(message, Some(payload), headers)
    }

    /// The record for a message without an answer; none where it is skipped.
    pub(crate) fn failed(
        &self,
        partition: &Partition,
        message: &Message,
        failure: &Failure,
        max_bytes: Option<usize>,
    ) -> Result<Option<Record>, StreamError> {
        let Failure { class, code, message: reason } = failure;
        let at = format!("{partition}@{}", message.id);
        match class.action(&self.spec) {
            Action::Stop => {
                Err(StreamError::Message { at, class: class.as_str(), code: *code, reason: reason.clone() })
            }
            Action::Skip => {
                self.counters.skipped(*class);
                tracing::warn!(stream = %self.spec.name, %at, %class, %code, "skipped: {reason}");
                Ok(None)
            }
            Action::DeadLetter => {
                self.counters.dead_letter(*class);
                Ok(Some(self.dead(partition, message, failure, max_bytes)))
            }
        }
    }

    fn dead(
        &self,
        partition: &Partition,
        message: &Message,
        failure: &Failure,
        max_bytes: Option<usize>,
    ) -> Record {
        let mut headers = carried(message);
        let more = [
            ("vespid-stream", self.spec.name.clone()),
            ("vespid-model", self.model.name.to_string()),
            ("vespid-error-class", failure.class.to_string()),
            ("vespid-error-code", failure.code.to_string()),
            ("vespid-error", failure.message.clone()),
            ("vespid-topic", partition.topic.to_string()),
            ("vespid-partition", partition.index.to_string()),
            ("vespid-offset", message.id.to_string()),
        ];
        headers.extend(more.into_iter().map(|(name, value)| Header::new(name, value)));
        let mut payload = message.payload.clone();
        // What came in may be larger than what goes out may be, with all that is said of it.
        let said =
            headers.iter().map(Header::size).sum::<usize>() + message.key.as_ref().map_or(0, Bytes::len);
        let room = max_bytes.map_or(usize::MAX, |max| max.saturating_sub(said));
        if let Some(bytes) = payload.as_mut().filter(|payload| payload.len() > room) {
            headers.push(Header::new("vespid-cut-from", bytes.len().to_string()));
            bytes.truncate(room.saturating_sub(64));
        }
        Record { dead: true, ..record(message, payload, headers) }
    }
}

/// The headers of a message but those of a stream that it went through before.
fn carried(message: &Message) -> Vec<Header> {
    message.headers.iter().filter(|header| !header.name.starts_with("vespid-")).cloned().collect()
}

fn record(message: &Message, payload: Option<Bytes>, headers: Vec<Header>) -> Record {
    let Message { offset, id, timestamp, key, .. } = message;
    Record {
        dead: false,
        offset: *offset,
        id: *id,
        timestamp: *timestamp,
        key: key.clone(),
        payload,
        headers,
    }
}

async fn ask(answerer: &Answerer, batch: &RecordBatch) -> Result<Answers, StreamError> {
    match answerer.ask(batch).await {
        Ok(answers) => Ok(answers),
        Err(BatchError::Model(error)) if error.code() != ErrorCode::Internal => {
            Err(StreamError::Model(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// The class of what a sink refuses.
pub(crate) fn refused_by_sink(reason: String) -> Failure {
    Failure { class: Class::Encode, code: ErrorCode::TooLarge, message: reason }
}
