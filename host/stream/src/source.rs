//! Where messages come from.
//!
//! Contract: a source says which partitions are this process's ([`Event::Assigned`]), brings their messages in order, each partition by a
//! channel of its own that holds little, so that one that is not read does not hold up others, and waits before it gives one
//! away until what is in hand of it has ended ([`Event::Revoked`]). Nothing is committed but what [`Source::commit`] says.

mod file;
pub(crate) mod kafka;
pub(crate) mod nats;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::StreamError;
use crate::message::{Message, Partition};
use crate::spec::{SourceKind, StreamSpec};

pub(crate) use kafka::Group;

/// Messages that were read together.
pub(crate) type Chunk = Vec<Message>;

/// Chunks that wait for a partition's turn.
pub(crate) const CHUNKS: usize = 2;
/// A chunk, at most: one that is larger has one message.
pub(crate) const CHUNK_MESSAGES: usize = 1024;
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// What happens to a source's partitions.
pub(crate) enum Event {
    /// These are ours: [`Source::start`] lets their messages come.
    Assigned(Vec<(Partition, Inbox)>),
    /// These are to be given away, or are lost already. `done` is dropped when what is in hand has ended.
    Revoked { partitions: Vec<Partition>, lost: bool, done: std::sync::mpsc::Sender<()> },
    /// There are no more messages, ever.
    Ended,
    /// It cannot go on.
    Failed(StreamError),
}

/// The messages of one partition.
pub(crate) struct Inbox {
    chunks: mpsc::Receiver<Chunk>,
    /// Tells the source that there is room.
    room: Arc<dyn Fn() + Send + Sync>,
}

impl Inbox {
    pub(crate) fn new(chunks: mpsc::Receiver<Chunk>, room: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { chunks, room }
    }

    /// The next messages; none where no more come. May be dropped without loss.
    pub(crate) async fn next(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.recv().await;
        (self.room)();
        chunk
    }

    /// Takes no more; returns what was on its way.
    pub(crate) fn close(&mut self) -> Vec<Message> {
        self.chunks.close();
        std::iter::from_fn(|| self.chunks.try_recv().ok()).flatten().collect()
    }

    /// Those that are there already.
    pub(crate) fn ready(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.try_recv().ok()?;
        (self.room)();
        Some(chunk)
    }
}

/// How far a partition is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) partition: Partition,
    pub(crate) behind: Behind,
}

/// What is known of how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// So many messages are there and not committed.
    Messages(u64),
    /// The next message to come has this offset; all before `known` was committed, or is gone.
    End { end: i64, known: i64 },
}

/// Where a partition begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Started {
    /// What was committed, where an earlier offset was asked for.
    pub(crate) committed: Option<i64>,
    /// Whether it begins with the offset that was asked for.
    pub(crate) as_asked: bool,
}

/// Brings messages.
pub(crate) trait Source: Send + Sync {
    /// Joins those who share the messages. What the sink had left open is closed by then, so that what is committed stands.
    fn join(&self) -> BoxFuture<'_, Result<(), StreamError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Lets the messages of an assigned partition come: from where it was committed, or from an earlier offset that is still there.
    fn start(&self, partition: Partition, from: Option<i64>) -> BoxFuture<'_, Result<Started, StreamError>>;

    /// Says that all before these offsets is done with.
    fn commit(&self, positions: Vec<(Partition, i64)>) -> BoxFuture<'_, Result<(), StreamError>>;

    /// How far partitions are behind, as it was known a moment ago.
    fn lag(&self) -> Vec<Lag>;

    /// Hands back what it has brought and nobody has committed, so that others need not wait for it.
    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The consumer group, for transactions.
    fn group(&self) -> Option<Group> {
        None
    }
}

/// Opens the source of a stream.
///
/// # Errors
/// [`StreamError::Config`] with the setting that is wrong, [`StreamError::Source`] where it cannot be reached.
pub(crate) async fn open(spec: &StreamSpec) -> Result<(Arc<dyn Source>, mpsc::Receiver<Event>), StreamError> {
    match &spec.source.kind {
        SourceKind::Kafka(kafka) => kafka::open(kafka, spec).await,
        SourceKind::Nats(nats) => nats::open(nats, &spec.name).await,
        SourceKind::File(file) => file::open(file).await,
    }
}
