//! A consumer group of Kafka.
//!
//! Contract: one thread does all that librdkafka asks of its caller: it serves rebalances, and moves messages from each partition's queue
//! of librdkafka's into the partition's channel while there is room. A partition without room is not read, and librdkafka stops fetching it
//! when its own queue is full: that is the back pressure. Where partitions are revoked the thread waits until their workers
//! have ended, for as long as the stream's `drain` at most. Cost: a copy of each message out of librdkafka's buffers, one
//! allocation for those of a chunk.

mod context;
mod reading;

use std::collections::HashMap;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};

use self::context::Context;
use self::reading::{Copying, Reading};
use super::{CHUNKS, Event, Inbox, Lag, Source, Started};
use crate::StreamError;
use crate::message::Partition;
use crate::spec::{KafkaSource, Start, StreamSpec, Value};

/// What the stream sets itself, and where that is said.
const OURS: [(&str, &str); 10] = [
    ("bootstrap.servers", "source.kafka.brokers"),
    ("metadata.broker.list", "source.kafka.brokers"),
    ("group.id", "source.kafka.group"),
    ("auto.offset.reset", "source.kafka.start"),
    ("enable.auto.commit", "commit_interval"),
    ("enable.auto.offset.store", "commit_interval"),
    ("enable.partition.eof", "source.kafka"),
    ("enable.idempotence", "exactly_once"),
    ("transactional.id", "sink.kafka.transactional_id"),
    ("statistics.interval.ms", "source.kafka"),
];

/// How long a broker may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the thread sleeps where nothing wakes it.
const IDLE: Duration = Duration::from_millis(10);

/// Events that are served at a time: polling says of most of them no more than of none.
const EVENTS: usize = 32;

/// How long leaving the group may take.
const LEAVING: Duration = Duration::from_secs(5);

/// A consumer group that transactions are told of.
#[derive(Clone)]
pub(crate) struct Group(Arc<BaseConsumer<Context>>);

impl Group {
    /// Changes when partitions are lost, or given away with something in hand.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.context().epoch()
    }

    /// What the brokers know of this member.
    pub(crate) fn metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.0.group_metadata()
    }
}

/// The properties of a client, those that are written last.
pub(crate) fn client(
    brokers: &[String],
    name: &str,
    properties: &std::collections::BTreeMap<String, Value>,
    side: &str,
) -> Result<ClientConfig, StreamError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers.join(","));
    config.set("client.id", format!("vespid-{name}"));
    for (property, value) in properties {
        let field = format!("{side}.properties.{property}");
        if let Some((_, instead)) = OURS.iter().find(|(ours, _)| ours == property) {
            return Err(StreamError::config(field, format!("the stream sets it itself: see {instead}")));
        }
        config.set(property, value.text(&field)?);
    }
    Ok(config)
}

/// What librdkafka says of its properties is said of ours.
pub(crate) fn refused(side: &str, error: KafkaError) -> StreamError {
    match error {
        KafkaError::ClientConfig(_, reason, property, _) => {
            StreamError::config(format!("{side}.properties.{property}"), reason)
        }
        error => StreamError::config(side, error.to_string()),
    }
}

pub(crate) async fn open(
    kafka: &KafkaSource,
    spec: &StreamSpec,
) -> Result<(Arc<dyn Source>, mpsc::Receiver<Event>), StreamError> {
    let mut config = ClientConfig::new();
    // What properties may say otherwise.
    config
        .set("isolation.level", "read_committed")
        .set("queued.max.messages.kbytes", "8192")
        .set("queued.min.messages", "20000")
        .set("fetch.wait.max.ms", "100")
        .set("reconnect.backoff.max.ms", "2000");
    if !kafka.properties.contains_key("group.protocol") {
        config.set("partition.assignment.strategy", "cooperative-sticky");
    }
    let said = client(kafka.brokers.as_slice(), &spec.name, &kafka.properties, "source.kafka")?;
    for (property, value) in said.config_map() {
        config.set(property, value);
    }
    let start = match kafka.start {
        Start::Earliest => "earliest",
        Start::Latest => "latest",
    };
    config
        .set("group.id", kafka.group.as_ref().unwrap_or(&spec.name))
        .set("auto.offset.reset", start)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("statistics.interval.ms", "1000");
    let (events, coming) = mpsc::channel(16);
    let topics = kafka.topics.as_slice().to_vec();
    let handing = spec.drain;
    let (opened, opening) = oneshot::channel();
    std::thread::Builder::new()
        .name("kafka".to_owned())
        .spawn(move || run(&config, &topics, Context::new(events, handing), opened))
        .map_err(|error| StreamError::Internal(format!("no thread for Kafka: {error}")))?;
    let opened = opening.await.map_err(|_| StreamError::Internal("Kafka's thread ended".to_owned()))?;
    Ok((Arc::new(opened?), coming))
}

/// The source, as others see it.
struct Kafka {
    consumer: Arc<BaseConsumer<Context>>,
    commands: std_mpsc::Sender<Command>,
    thread: Thread,
}

/// What the thread is asked to do.
enum Command {
    Join(oneshot::Sender<Result<(), StreamError>>),
    Start {
        partition: Partition,
        from: Option<i64>,
        reply: oneshot::Sender<Result<Started, StreamError>>,
    },
    /// Leave the group.
    Leave(oneshot::Sender<()>),
    Stop,
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The thread may have ended already.
        let _ = self.commands.send(Command::Stop);
        self.thread.unpark();
    }
}

impl Source for Kafka {
    fn join(&self) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(async move { self.ask(Command::Join).await? })
    }

    fn start(&self, partition: Partition, from: Option<i64>) -> BoxFuture<'_, Result<Started, StreamError>> {
        Box::pin(async move { self.ask(|reply| Command::Start { partition, from, reply }).await? })
    }

    fn commit(&self, positions: Vec<(Partition, i64)>) -> BoxFuture<'_, Result<(), StreamError>> {
        let consumer = Arc::clone(&self.consumer);
        Box::pin(async move {
            let list = positions_list(&positions)?;
            let committed =
                tokio::task::spawn_blocking(move || consumer.commit(&list, CommitMode::Sync)).await;
            match committed.map_err(|error| StreamError::Internal(error.to_string()))? {
                Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
                Err(error) => Err(StreamError::Source(format!("offsets are not committed: {error}"))),
            }
        })
    }

    fn lag(&self) -> Vec<Lag> {
        self.consumer.context().lag()
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        // The thread may have ended already.
        Box::pin(async move { drop(self.ask(Command::Leave).await) })
    }

    fn group(&self) -> Option<Group> {
        Some(Group(Arc::clone(&self.consumer)))
    }
}

impl Kafka {
    /// Asks the thread, and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, StreamError> {
        let gone = || StreamError::Source("its thread has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| gone())?;
        self.thread.unpark();
        answer.await.map_err(|_| gone())
    }
}

/// Offsets as librdkafka takes them.
pub(crate) fn positions_list(positions: &[(Partition, i64)]) -> Result<TopicPartitionList, StreamError> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, offset) in positions {
        list.add_partition_offset(&partition.topic, partition.index, Offset::Offset(*offset))
            .map_err(|error| StreamError::Internal(error.to_string()))?;
    }
    Ok(list)
}

type Opened = oneshot::Sender<Result<Kafka, StreamError>>;

/// The thread.
fn run(config: &ClientConfig, topics: &[String], context: Context, opened: Opened) {
    let thread = std::thread::current();
    let consumer = config.create_with_context(context).map_err(|error| refused("source.kafka", error));
    let consumer = consumer.map(|mut consumer: BaseConsumer<Context>| {
        let wakened = thread.clone();
        consumer.set_nonempty_callback(move || wakened.unpark());
        Arc::new(consumer)
    });
    let consumer = match consumer {
        Ok(consumer) => consumer,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let (commands, coming) = std_mpsc::channel();
    let kafka = Kafka { consumer: Arc::clone(&consumer), commands, thread: thread.clone() };
    if opened.send(Ok(kafka)).is_err() {
        return;
    }
    let latest = config.get("auto.offset.reset") == Some("latest");
    let mut reader = Reader { latest, consumer, thread, readings: HashMap::new() };
    reader.run(topics, &coming);
}

/// The partitions that are this process's.
struct Reader {
    /// Whether a group that has committed nothing begins at the end.
    latest: bool,
    consumer: Arc<BaseConsumer<Context>>,
    thread: Thread,
    readings: HashMap<Partition, Reading>,
}

impl Reader {
    fn run(&mut self, topics: &[String], commands: &std_mpsc::Receiver<Command>) {
        loop {
            loop {
                match commands.try_recv() {
                    Ok(Command::Join(reply)) => {
                        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                        let joined = self.consumer.subscribe(&topics);
                        drop(reply.send(joined.map_err(|error| refused("source.kafka.topics", error))));
                    }
                    Ok(Command::Start { partition, from, reply }) => {
                        drop(reply.send(self.start(&partition, from)));
                    }
                    Ok(Command::Leave(reply)) => {
                        self.leave();
                        let _ = reply.send(());
                    }
                    Ok(Command::Stop) | Err(std_mpsc::TryRecvError::Disconnected) => return self.stop(),
                    Err(std_mpsc::TryRecvError::Empty) => break,
                }
            }
            if !self.serve() {
                return self.stop();
            }
            let mut moved = false;
            for (partition, reading) in &mut self.readings {
                match reading.read() {
                    Ok(some) => moved |= some,
                    Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage)) => {
                        let reason = format!("messages of {partition} do not come in their order");
                        self.consumer.context().fail(reason);
                        return self.stop();
                    }
                    Err(error) => tracing::warn!(%partition, "{error}"),
                }
            }
            if !moved {
                std::thread::park_timeout(IDLE);
            }
        }
    }

    /// Serves what is not a partition's own; whether it can go on.
    fn serve(&mut self) -> bool {
        let consumer = Arc::clone(&self.consumer);
        // What comes here of a partition comes before what is in its own queue.
        let mut idle = 0;
        while idle < EVENTS {
            let polled = consumer.poll(Duration::ZERO);
            self.rebalanced();
            match polled {
                None => idle += 1,
                Some(Ok(message)) => self.early(&message),
                Some(Err(KafkaError::MessageConsumptionFatal(error))) => {
                    consumer.context().fail(format!("{error}"));
                    return false;
                }
                Some(Err(error)) => {
                    if matches!(
                        error.rdkafka_error_code(),
                        Some(
                            RDKafkaErrorCode::UnknownTopicOrPartition
                                | RDKafkaErrorCode::TopicAuthorizationFailed
                                | RDKafkaErrorCode::GroupAuthorizationFailed
                        )
                    ) {
                        consumer.context().fail(error.to_string());
                        return false;
                    }
                    tracing::warn!("Kafka: {error}");
                }
            }
        }
        true
    }

    /// A message that came by the queue of all.
    fn early(&mut self, message: &BorrowedMessage<'_>) {
        let partition = Partition { topic: message.topic().into(), index: message.partition() };
        if let Some(reading) = self.readings.get_mut(&partition) {
            let mut chunk = Copying::default();
            chunk.add(message);
            reading.before.extend(chunk.finish());
        }
    }

    /// Takes up what a rebalance has brought, and forgets what it took.
    fn rebalanced(&mut self) {
        let (revoked, assigned) = self.consumer.context().changes();
        for partition in revoked {
            self.readings.remove(&partition);
        }
        let mut inboxes = Vec::with_capacity(assigned.len());
        for partition in assigned {
            let Some(mut queue) = self.consumer.split_partition_queue(&partition.topic, partition.index)
            else {
                continue;
            };
            let thread = self.thread.clone();
            queue.set_nonempty_callback(move || thread.unpark());
            let (output, chunks) = mpsc::channel(CHUNKS);
            let thread = self.thread.clone();
            inboxes.push((partition.clone(), Inbox::new(chunks, Arc::new(move || thread.unpark()))));
            let reading = Reading { queue, output, before: Vec::new(), started: false, last: -1 };
            self.readings.insert(partition, reading);
        }
        if !inboxes.is_empty() {
            self.consumer.context().tell(Event::Assigned(inboxes));
        }
    }

    fn start(&mut self, partition: &Partition, from: Option<i64>) -> Result<Started, StreamError> {
        // It may have been given away meanwhile.
        let Some(reading) = self.readings.get_mut(partition) else { return Ok(Started::default()) };
        let wrong = |error: KafkaError| StreamError::Source(error.to_string());
        let mut started = Started::default();
        if let Some(from) = from {
            let (topic, index) = (&*partition.topic, partition.index);
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, index);
            let found = self.consumer.committed_offsets(list, ANSWER).map_err(wrong)?;
            started.committed = found.elements().first().and_then(|element| match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            });
            let (first, _) = self.consumer.fetch_watermarks(topic, index, ANSWER).map_err(wrong)?;
            started.as_asked = first <= from && started.committed.is_some_and(|committed| from <= committed);
            if started.as_asked && started.committed != Some(from) {
                reading.before.clear();
                self.consumer.seek(topic, index, Offset::Offset(from), ANSWER).map_err(wrong)?;
            }
        }
        if self.latest && from.is_none() {
            note_end(&self.consumer, partition).map_err(wrong)?;
        }
        reading.started = true;
        Ok(started)
    }

    /// Leaves the group, so that others need not wait until this member is missed.
    fn leave(&mut self) {
        self.readings.clear();
        self.consumer.context().leave();
        self.consumer.unsubscribe();
        let until = Instant::now() + LEAVING;
        while Instant::now() < until {
            self.consumer.poll(Duration::from_millis(20));
            if self.consumer.assignment().is_ok_and(|assigned| assigned.count() == 0) {
                // The request is on its way when the brokers know of the empty assignment.
                self.consumer.poll(Duration::from_millis(50));
                return;
            }
        }
    }

    /// Waits until nobody else has the consumer: whoever drops it last waits until it is closed.
    fn stop(&mut self) {
        self.readings.clear();
        self.consumer.context().leave();
        while Arc::strong_count(&self.consumer) > 1 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Begins at the end where nothing is committed, and commits that: what comes from now on is not passed over by a later start.
fn note_end(consumer: &BaseConsumer<Context>, partition: &Partition) -> Result<(), KafkaError> {
    let (topic, index) = (&*partition.topic, partition.index);
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, index);
    let committed = consumer.committed_offsets(list, ANSWER)?;
    if committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))) {
        return Ok(());
    }
    let (_, end) = consumer.fetch_watermarks(topic, index, ANSWER)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, index, Offset::Offset(end))?;
    consumer.commit(&list, CommitMode::Sync)?;
    consumer.seek(topic, index, Offset::Offset(end), ANSWER)
}
