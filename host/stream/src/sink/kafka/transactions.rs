//! Answers and offsets in one transaction.
//!
//! Contract: what is sent is in the transaction that is open; every `commit_interval` it is committed with the offsets of all that it holds, and a new
//! one is begun. What is sent meanwhile waits. Where a transaction fails it is given up, and the stream begins anew
//! from the offsets that were committed: nothing of it is seen by who reads what is committed. One that is left by a process that was killed is
//! given up by the brokers, when the next process of its `transactional_id` begins or after `transaction.timeout.ms`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::JoinHandle;

use super::{Delivered, Sending};
use crate::StreamError;
use crate::message::Partition;
use crate::sink::{Acked, Outgoing, Sink};
use crate::source::Group;
use crate::source::kafka::positions_list;
use crate::spec::StreamSpec;

/// How long brokers may take to begin or end a transaction.
const ANSWER: Duration = Duration::from_secs(60);

/// How often what may pass is tried again.
const TRIES: usize = 10;

/// A sink with transactions.
pub(super) struct Transactions {
    shared: Arc<Shared>,
    committing: JoinHandle<()>,
}

struct Shared {
    sending: Arc<Sending>,
    group: Group,
    /// Whoever holds it sends, or commits.
    open: Mutex<Open>,
    hurry: Notify,
}

/// The transaction that is open.
#[derive(Default)]
struct Open {
    /// Where each partition is when it is committed.
    positions: HashMap<Partition, i64>,
    waiting: Vec<Waiting>,
    /// How often partitions had been lost when it got its first record.
    epoch: u64,
    /// Why no more can be taken.
    failed: Option<String>,
}

struct Waiting {
    delivered: oneshot::Receiver<Delivered>,
    done: oneshot::Sender<Result<Vec<(i64, String)>, StreamError>>,
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.committing.abort();
    }
}

impl Transactions {
    pub(super) async fn open(
        sending: Arc<Sending>,
        group: Group,
        spec: &StreamSpec,
    ) -> Result<Self, StreamError> {
        let of = Arc::clone(&sending);
        blocking(move || again(|| of.producer.init_transactions(ANSWER))).await?;
        let of = Arc::clone(&sending);
        blocking(move || of.producer.begin_transaction()).await?;
        let shared = Arc::new(Shared { sending, group, open: Mutex::default(), hurry: Notify::new() });
        let committing = tokio::spawn(commit_all(Arc::clone(&shared), spec.commit_interval));
        Ok(Self { shared, committing })
    }
}

impl Sink for Transactions {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Acked, StreamError>> {
        Box::pin(async move {
            let mut open = self.shared.open.lock().await;
            if let Some(reason) = &open.failed {
                return Err(StreamError::Sink(reason.clone()));
            }
            if open.waiting.is_empty() {
                open.epoch = self.shared.group.epoch();
            }
            // Where this is given up in the middle, a part of it is in the transaction, which must not be committed then.
            open.failed = Some("a message was sent in part".to_owned());
            let delivered = self.shared.sending.enqueue(&outgoing).await?;
            open.failed = None;
            let position = open.positions.entry(outgoing.partition).or_default();
            *position = outgoing.position.max(*position);
            let (done, acked) = oneshot::channel();
            open.waiting.push(Waiting { delivered, done });
            let acked: Acked = Box::pin(async move {
                acked
                    .await
                    .unwrap_or_else(|_| Err(StreamError::Sink("the transaction was given up".to_owned())))
            });
            Ok(acked)
        })
    }

    fn commits(&self) -> bool {
        true
    }

    fn max_bytes(&self) -> Option<usize> {
        Some(self.shared.sending.max_bytes)
    }

    fn hurry(&self) {
        self.shared.hurry.notify_one();
    }
}

async fn commit_all(shared: Arc<Shared>, every: Duration) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shared.hurry.notified() => {}
        }
        let mut open = shared.open.lock().await;
        let outcome = match &open.failed {
            Some(reason) => Err(StreamError::Sink(reason.clone())),
            None if open.waiting.is_empty() => continue,
            None => commit(&shared, std::mem::take(&mut *open)).await,
        };
        if let Err(error) = outcome {
            let reason = format!("the transaction failed: {error}");
            tracing::warn!("{reason}");
            // Who waits is told by what it waits for being dropped.
            *open = Open { failed: Some(reason), ..Open::default() };
            let of = Arc::clone(&shared.sending);
            // What cannot be given up by us is by the brokers.
            drop(blocking(move || of.producer.abort_transaction(ANSWER)).await);
            return;
        }
    }
}

async fn commit(shared: &Arc<Shared>, open: Open) -> Result<(), StreamError> {
    let Open { positions, waiting, epoch, .. } = open;
    let of = Arc::clone(&shared.sending);
    blocking(move || of.producer.flush(ANSWER)).await?;
    let mut told = Vec::with_capacity(waiting.len());
    for Waiting { delivered, done } in waiting {
        let delivered =
            delivered.await.map_err(|_| StreamError::Sink("the producer has ended".to_owned()))?;
        let refused = delivered.told()?;
        if let Some((offset, reason)) = refused.first() {
            // Its message would be committed with the others and be nowhere.
            let reason = format!(
                "the answer for offset {offset} is refused: {reason}; let the topic take larger ones"
            );
            return Err(StreamError::Sink(reason));
        }
        told.push((done, refused));
    }
    let positions: Vec<_> = positions.into_iter().collect();
    let list = positions_list(&positions)?;
    let of = Arc::clone(shared);
    blocking(move || {
        let producer = &of.sending.producer;
        let group = of.group.metadata().ok_or(KafkaError::Canceled)?;
        // Read after that: a member is known anew only after it was told that it lost what it had.
        if of.group.epoch() != epoch {
            return Err(KafkaError::Canceled);
        }
        again(|| producer.send_offsets_to_transaction(&list, &group, ANSWER))?;
        again(|| producer.commit_transaction(ANSWER))?;
        producer.begin_transaction()
    })
    .await?;
    for (done, refused) in told {
        // Nobody waits where the partition was given away.
        drop(done.send(Ok(refused)));
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, StreamError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| StreamError::Internal(error.to_string()))?;
    done.map_err(|error| match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::Fenced) => StreamError::config(
            "sink.kafka.transactional_id",
            "another process has it: give each its own, and stop the other or this one",
        ),
        _ => StreamError::Sink(error.to_string()),
    })
}

/// Does again what librdkafka says can be done again.
fn again(work: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut done = work();
    for _ in 1..TRIES {
        match &done {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => done = work(),
            _ => break,
        }
    }
    done
}
