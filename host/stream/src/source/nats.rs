//! A durable consumer of NATS JetStream.
//!
//! Contract: all of the consumer is one partition. Messages are acknowledged one by one when the stream has committed them; those that take longer
//! than the server waits are told to be in progress, and those that are handed back are brought again at once. Where several processes
//! share a consumer, each has some of the messages, and their order among the processes is not kept. Cost: a message
//! to the server for each acknowledgement.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::{Behind, CHUNK_BYTES, CHUNKS, Chunk, Event, Inbox, Lag, Source, Started};
use crate::StreamError;
use crate::message::{Header, Message, Partition};
use crate::spec::NatsSource;

/// Messages that the server brings at once.
const BATCH: usize = 500;

/// Messages that may be in hand.
const PENDING: i64 = 20_000;

/// How often it is asked how much there is to do.
const ASK: Duration = Duration::from_secs(1);

struct Nats {
    client: Client,
    partition: Partition,
    shared: Arc<Shared>,
    begin: Mutex<Option<oneshot::Sender<()>>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Shared {
    /// What was brought and not acknowledged, in order.
    pending: Mutex<VecDeque<(i64, Arc<Acker>)>>,
    lag: AtomicU64,
}

impl Shared {
    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn pending(&self) -> MutexGuard<'_, VecDeque<(i64, Arc<Acker>)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Connects to NATS.
pub(crate) async fn connect(
    servers: &[String],
    credentials: Option<&std::path::Path>,
    name: &str,
    side: &str,
) -> Result<Client, StreamError> {
    let mut options = ConnectOptions::new().name(format!("vespid-{name}"));
    if let Some(file) = credentials {
        let wrong = |error: std::io::Error| {
            StreamError::config(format!("{side}.credentials"), format!("{}: {error}", file.display()))
        };
        options = options.credentials_file(file).await.map_err(wrong)?;
    }
    let mut addresses = Vec::with_capacity(servers.len());
    for server in servers {
        let address: async_nats::ServerAddr = server.parse().map_err(|error| {
            StreamError::config(format!("{side}.servers"), format!("'{server}': {error}"))
        })?;
        addresses.push(address);
    }
    options.connect(addresses).await.map_err(|error| StreamError::Source(format!("NATS: {error}")))
}

pub(crate) async fn open(
    nats: &NatsSource,
    name: &str,
) -> Result<(Arc<dyn Source>, mpsc::Receiver<Event>), StreamError> {
    let client = connect(nats.servers.as_slice(), nats.credentials.as_deref(), name, "source.nats").await?;
    let consumer = consumer(nats, &client, name).await?;
    let partition = Partition { topic: nats.stream.as_str().into(), index: 0 };
    let (events, coming) = mpsc::channel(4);
    let (output, chunks) = mpsc::channel(CHUNKS);
    let (begin, beginning) = oneshot::channel();
    let inbox = Inbox::new(chunks, Arc::new(|| ()));
    drop(events.send(Event::Assigned(vec![(partition.clone(), inbox)])).await);
    let shared = Arc::new(Shared::default());
    let bring = bring(consumer.clone(), beginning, output, events, Arc::clone(&shared));
    let watch = watch(consumer, nats.ack_wait, Arc::clone(&shared));
    let tasks = [tokio::spawn(bring), tokio::spawn(watch)];
    Ok((Arc::new(Nats { client, partition, shared, begin: Mutex::new(Some(begin)), tasks }), coming))
}

async fn consumer(nats: &NatsSource, client: &Client, name: &str) -> Result<PullConsumer, StreamError> {
    let stream = jetstream::new(client.clone()).get_stream(&nats.stream).await.map_err(|error| {
        StreamError::Source(format!("the stream '{}' of JetStream: {error}", nats.stream))
    })?;
    let durable = nats.consumer.clone().unwrap_or_else(|| name.replace('.', "_"));
    let config = pull::Config {
        durable_name: Some(durable.clone()),
        filter_subject: nats.subject.clone().unwrap_or_default(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: nats.ack_wait,
        max_ack_pending: PENDING,
        ..Default::default()
    };
    let consumer = stream
        .get_or_create_consumer(&durable, config.clone())
        .await
        .map_err(|error| StreamError::Source(format!("the consumer '{durable}' of JetStream: {error}")))?;
    let there = &consumer.cached_info().config;
    let differs = |field: &str, said: String, there: String| {
        let reason = format!(
            "it is {said}, and the consumer '{durable}' has {there}: say that, or name another consumer"
        );
        StreamError::config(format!("source.nats.{field}"), reason)
    };
    if there.ack_policy != AckPolicy::Explicit {
        return Err(differs(
            "consumer",
            "one that acknowledges each message".into(),
            format!("{:?}", there.ack_policy),
        ));
    }
    if there.ack_wait != config.ack_wait {
        return Err(differs("ack_wait", format!("{:?}", config.ack_wait), format!("{:?}", there.ack_wait)));
    }
    if there.filter_subject != config.filter_subject {
        return Err(differs(
            "subject",
            format!("'{}'", config.filter_subject),
            format!("'{}'", there.filter_subject),
        ));
    }
    Ok(consumer)
}

/// Moves messages into the partition's channel.
async fn bring(
    consumer: PullConsumer,
    beginning: oneshot::Receiver<()>,
    output: mpsc::Sender<Chunk>,
    events: mpsc::Sender<Event>,
    shared: Arc<Shared>,
) {
    if beginning.await.is_err() {
        return;
    }
    let failed = |error: String| Event::Failed(StreamError::Source(format!("NATS: {error}")));
    let messages =
        consumer.stream().max_messages_per_batch(BATCH).max_bytes_per_batch(4 * CHUNK_BYTES).messages().await;
    let mut messages = match messages {
        Ok(messages) => messages.ready_chunks(BATCH),
        Err(error) => return drop(events.send(failed(error.to_string())).await),
    };
    while let Some(ready) = messages.next().await {
        let mut chunk = Vec::with_capacity(ready.len());
        for message in ready {
            match message.map_err(|error| error.to_string()).and_then(read) {
                Ok((message, acker)) => {
                    shared.pending().push_back((message.offset, Arc::new(acker)));
                    chunk.push(message);
                }
                Err(error) => return drop(events.send(failed(error)).await),
            }
        }
        if output.send(chunk).await.is_err() {
            return;
        }
    }
    drop(events.send(failed("the consumer has ended".to_owned())).await);
}

fn read(message: jetstream::Message) -> Result<(Message, Acker), String> {
    let info = message.info().map_err(|error| error.to_string())?;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (offset, id) = (number(info.consumer_sequence), number(info.stream_sequence));
    let timestamp = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).ok();
    let (message, acker) = message.split();
    let mut headers = Vec::new();
    for (name, values) in message.headers.iter().flat_map(async_nats::HeaderMap::iter) {
        let name: Arc<str> = name.to_string().into();
        headers.extend(values.iter().map(|value| Header {
            name: Arc::clone(&name),
            value: Some(bytes::Bytes::copy_from_slice(value.as_str().as_bytes())),
        }));
    }
    // The last part of a subject is what tells messages of one kind apart.
    let key = message.subject.as_str().to_owned();
    let message =
        Message { offset, id, timestamp, key: Some(key.into()), payload: Some(message.payload), headers };
    Ok((message, acker))
}

/// Says what is in progress, and asks how much there is to do.
async fn watch(mut consumer: PullConsumer, ack_wait: Duration, shared: Arc<Shared>) {
    let mut told = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(ASK.min(ack_wait / 3)).await;
        if told.elapsed() >= ack_wait / 3 {
            told = tokio::time::Instant::now();
            let in_hand: Vec<Arc<Acker>> =
                shared.pending().iter().map(|(_, acker)| Arc::clone(acker)).collect();
            for acker in in_hand {
                drop(acker.ack_with(AckKind::Progress).await);
            }
        }
        if let Ok(info) = consumer.info().await {
            shared.lag.store(info.num_pending + info.num_ack_pending as u64, Ordering::Relaxed);
        }
    }
}

impl Source for Nats {
    fn start(&self, _: Partition, _: Option<i64>) -> BoxFuture<'_, Result<Started, StreamError>> {
        if let Some(begin) = self.begin.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The task is gone where the stream ends.
            let _ = begin.send(());
        }
        Box::pin(std::future::ready(Ok(Started::default())))
    }

    fn commit(&self, positions: Vec<(Partition, i64)>) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(async move {
            for (_, position) in positions {
                loop {
                    let next = self.shared.pending().front().cloned();
                    let Some((offset, acker)) = next.filter(|(offset, _)| *offset < position) else { break };
                    let acked = acker.ack().await;
                    acked.map_err(|error| StreamError::Source(format!("NATS: {error}")))?;
                    // Nobody else takes from its front.
                    drop(self.shared.pending().pop_front_if(|(front, _)| *front == offset));
                }
            }
            Ok(())
        })
    }

    fn lag(&self) -> Vec<Lag> {
        let messages = self.shared.lag.load(Ordering::Relaxed);
        vec![Lag { partition: self.partition.clone(), behind: Behind::Messages(messages) }]
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Whoever brings more stops first.
            self.tasks.iter().for_each(JoinHandle::abort);
            let back = std::mem::take(&mut *self.shared.pending());
            for (_, acker) in back {
                drop(acker.ack_with(AckKind::Nak(None)).await);
            }
            // They, and acknowledgements before them, are on their way when the connection has them.
            drop(self.client.flush().await);
        })
    }
}
