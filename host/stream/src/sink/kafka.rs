//! A producer of Kafka, with or without transactions.
//!
//! Contract: idempotent, so that what librdkafka sends again appears once and in order. Records with a key go to the partition that Java's
//! clients choose for it, those without to one that depends on the partition that they came from alone, so that order is
//! kept. Cost: librdkafka's copy of each record.

mod transactions;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as KafkaHeader, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use self::transactions::Transactions;
use super::{Acked, Outgoing, Sink};
use crate::StreamError;
use crate::message::Record;
use crate::source::Source;
use crate::source::kafka::{client, refused};
use crate::spec::{KafkaSink, SourceKind, StreamSpec};

/// How long brokers may take to tell of a topic.
const ANSWER: Duration = Duration::from_secs(10);

/// How long to wait where librdkafka has no room for more.
const FULL: Duration = Duration::from_millis(2);

/// What librdkafka takes for a record where nothing is said, and what it counts besides what is in it, about.
const MAX_BYTES: usize = 1_000_000;
const FRAMING: usize = 1024;

type KafkaProducer = ThreadedProducer<Deliveries>;

pub(crate) async fn open(
    kafka: &KafkaSink,
    spec: &StreamSpec,
    source: &Arc<dyn Source>,
) -> Result<Arc<dyn Sink>, StreamError> {
    let producer = producer(kafka, spec)?;
    let answers = Topic::find(&producer, &kafka.topic, "sink.kafka.topic").await?;
    let dead = match &kafka.dead_letter {
        Some(topic) => Some(Topic::find(&producer, topic, "sink.kafka.dead_letter").await?),
        None => None,
    };
    let max_bytes = match kafka.properties.get("message.max.bytes") {
        Some(value) => value.text("sink.kafka.properties.message.max.bytes")?.parse().unwrap_or(MAX_BYTES),
        None => MAX_BYTES,
    };
    let max_bytes = max_bytes.saturating_sub(FRAMING);
    let sending = Arc::new(Sending { producer, answers, dead, max_bytes });
    if !spec.exactly_once {
        return Ok(Arc::new(Plain(sending)));
    }
    let group = source.group().ok_or_else(|| StreamError::Internal("no consumer group".to_owned()))?;
    Ok(Arc::new(Transactions::open(sending, group, spec).await?))
}

fn producer(kafka: &KafkaSink, spec: &StreamSpec) -> Result<KafkaProducer, StreamError> {
    let mut properties = kafka.properties.clone();
    let brokers = match (&kafka.brokers, &spec.source.kind) {
        (Some(brokers), _) => brokers.as_slice(),
        (None, SourceKind::Kafka(source)) => {
            // What only a consumer knows is not for a producer.
            let shared = |name: &str| {
                ["security.", "sasl.", "ssl.", "socket.", "enable.ssl.", "broker."]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
            };
            let theirs = source.properties.iter().filter(|(name, _)| shared(name));
            for (name, value) in theirs {
                properties.entry(name.clone()).or_insert_with(|| value.clone());
            }
            source.brokers.as_slice()
        }
        (None, _) => return Err(StreamError::config("sink.kafka.brokers", "it is missing: name a broker")),
    };
    let mut config = client(brokers, &spec.name, &properties, "sink.kafka")?;
    config.set("enable.idempotence", "true");
    for (property, value) in [
        ("partitioner", "murmur2_random"),
        ("queue.buffering.max.messages", "100000"),
        ("queue.buffering.max.kbytes", "32768"),
        ("reconnect.backoff.max.ms", "2000"),
    ] {
        if !properties.contains_key(property) {
            config.set(property, value);
        }
    }
    if spec.exactly_once {
        let id = match &kafka.transactional_id {
            Some(id) => id.text("sink.kafka.transactional_id")?,
            None => own_id(&spec.name),
        };
        config.set("transactional.id", id);
    }
    config.create_with_context(Deliveries).map_err(|error| refused("sink.kafka", error))
}

/// One that only this host's process of that stream has: a pod's name is its host's.
fn own_id(name: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{name}-{}", host.trim())
}

/// A topic, and how many partitions it has.
struct Topic {
    name: String,
    partitions: i32,
}

impl Topic {
    async fn find(producer: &KafkaProducer, name: &str, field: &str) -> Result<Self, StreamError> {
        let (producer, topic) = (producer.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let metadata = producer.client().fetch_metadata(Some(&topic), ANSWER)?;
            Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
        });
        let found: Result<usize, KafkaError> =
            found.await.map_err(|error| StreamError::Internal(error.to_string()))?;
        match found {
            Ok(0) => Err(StreamError::config(field, format!("there is no topic '{name}': create it"))),
            Ok(count) => {
                Ok(Self { name: name.to_owned(), partitions: i32::try_from(count).unwrap_or(i32::MAX) })
            }
            Err(error) => Err(StreamError::Sink(format!("topic '{name}': {error}"))),
        }
    }
}

/// The producer and its topics.
struct Sending {
    producer: KafkaProducer,
    answers: Topic,
    dead: Option<Topic>,
    max_bytes: usize,
}

impl Sending {
    /// Hands records over to librdkafka, in order; waits where it has no room.
    async fn enqueue(&self, outgoing: &Outgoing) -> Result<oneshot::Receiver<Delivered>, StreamError> {
        let (done, delivered) = oneshot::channel();
        let batch = Arc::new(Delivery {
            left: AtomicUsize::new(outgoing.records.len()),
            state: Mutex::new((Some(done), Delivered::default())),
        });
        if outgoing.records.is_empty() {
            batch.end();
        }
        for record in &outgoing.records {
            let opaque = Arc::new(Sent { batch: Arc::clone(&batch), offset: record.offset });
            self.one(record, outgoing.partition.index, opaque).await?;
        }
        Ok(delivered)
    }

    async fn one(&self, record: &Record, from: i32, opaque: Arc<Sent>) -> Result<(), StreamError> {
        let topic = match (&self.dead, record.dead) {
            (Some(dead), true) => dead,
            (_, _) => &self.answers,
        };
        let mut sent = BaseRecord::with_opaque_to(&topic.name, opaque);
        if let Some(payload) = &record.payload {
            sent = sent.payload(&payload[..]);
        }
        match &record.key {
            Some(key) => sent = sent.key(&key[..]),
            None => sent = sent.partition(from % topic.partitions),
        }
        if let Some(timestamp) = record.timestamp {
            sent = sent.timestamp(timestamp);
        }
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for header in &record.headers {
                headers = headers.insert(KafkaHeader { key: &header.name, value: header.value.as_deref() });
            }
            sent = sent.headers(headers);
        }
        loop {
            match self.producer.send(sent) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    sent = back;
                    tokio::time::sleep(FULL).await;
                }
                Err((error, back)) if refuses(&error) => {
                    back.delivery_opaque.refuse(error.to_string());
                    return Ok(());
                }
                Err((error, _)) => return Err(StreamError::Sink(error.to_string())),
            }
        }
    }
}

/// Whether it is the record's fault.
fn refuses(error: &KafkaError) -> bool {
    let codes = [
        RDKafkaErrorCode::MessageSizeTooLarge,
        RDKafkaErrorCode::InvalidMessageSize,
        RDKafkaErrorCode::InvalidRecord,
    ];
    error.rdkafka_error_code().is_some_and(|code| codes.contains(&code))
}

/// Records that are sent together and acknowledged when all of them are.
struct Delivery {
    left: AtomicUsize,
    state: Mutex<(Option<oneshot::Sender<Delivered>>, Delivered)>,
}

/// What came of them.
#[derive(Debug, Default)]
struct Delivered {
    refused: Vec<(i64, String)>,
    failed: Option<String>,
}

impl Delivered {
    fn told(self) -> Result<Vec<(i64, String)>, StreamError> {
        match self.failed {
            Some(reason) => Err(StreamError::Sink(reason)),
            None => Ok(self.refused),
        }
    }
}

impl Delivery {
    fn one(&self, note: impl FnOnce(&mut Delivered)) {
        note(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).1);
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.end();
        }
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let delivered = std::mem::take(&mut state.1);
        if let Some(done) = state.0.take() {
            // Nobody waits where the stream has ended.
            drop(done.send(delivered));
        }
    }
}

/// One record on its way.
struct Sent {
    batch: Arc<Delivery>,
    offset: i64,
}

impl Sent {
    fn refuse(&self, reason: String) {
        self.batch.one(|delivered| delivered.refused.push((self.offset, reason)));
    }
}

/// What librdkafka tells of records.
struct Deliveries;

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!("Kafka: {error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Arc<Sent>) {
        match result {
            Ok(_) => sent.batch.one(|_| ()),
            Err((error, _)) if refuses(error) => sent.refuse(error.to_string()),
            Err((error, message)) => {
                let reason = format!("topic '{}': {error}", message.topic());
                sent.batch.one(|delivered| {
                    delivered.failed.get_or_insert(reason);
                });
            }
        }
    }
}

/// Without transactions.
struct Plain(Arc<Sending>);

impl Sink for Plain {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Acked, StreamError>> {
        Box::pin(async move {
            let delivered = self.0.enqueue(&outgoing).await?;
            let acked: Acked = Box::pin(async move {
                delivered.await.map_err(|_| StreamError::Sink("the producer has ended".to_owned()))?.told()
            });
            Ok(acked)
        })
    }

    fn max_bytes(&self) -> Option<usize> {
        Some(self.0.max_bytes)
    }
}
