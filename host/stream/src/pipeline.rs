//! Messages on their way through: gathered, asked for, sent, acknowledged.
//!
//! Contract: what goes to the sink keeps the order of the messages, also where several calls are in flight. A message is done when the sink has
//! acknowledged what came of it. Nothing is gathered while `depth` calls are in flight or [`ACKS`] sends are not acknowledged, so that memory is
//! bounded. Dropping it gives up what is in hand. Cost: a task for each call.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::sync::watch;
use tokio::time::Instant;

use vespid_batch::Spawned;
use vespid_types::ErrorCode;

use crate::StreamError;
use crate::asker::{Asker, refused_by_sink};
use crate::message::{Message, Partition, Record};
use crate::sessions::Sessions;
use crate::sink::{Acked, Outgoing, Sink};
use crate::source::{Inbox, Source};
use crate::tracker::Tracker;

/// Sends that are not acknowledged.
const ACKS: usize = 16;

/// Bytes of messages that are predicted together, at most; one that is larger is alone.
const BATCH_BYTES: usize = 4 << 20;

/// What a partition's workers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Run,
    /// Take no more for now.
    Pause,
    /// Take no more, and end when what is in hand is done.
    Finish,
}

/// What the pipelines of a stream share.
pub(crate) struct Work {
    pub(crate) asker: Asker,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) sink: Arc<dyn Sink>,
}

/// One pipeline.
pub(crate) struct Pipeline {
    pub(crate) work: Arc<Work>,
    pub(crate) partition: Partition,
    pub(crate) tracker: Arc<Tracker>,
    /// Calls at once.
    pub(crate) depth: usize,
    /// Where the model keeps state for each key.
    pub(crate) sessions: Option<Arc<Sessions>>,
}

/// Messages and what came of them.
struct Handled {
    messages: Vec<Message>,
    records: Vec<Record>,
}

impl Pipeline {
    /// Runs until no more messages come, or it is told to finish.
    ///
    /// # Errors
    /// What ends the stream, or its run.
    pub(crate) async fn run(
        self,
        mut gather: Gather,
        mut control: watch::Receiver<Control>,
    ) -> Result<(), StreamError> {
        let mut calls = FuturesOrdered::new();
        let mut acks = FuturesOrdered::new();
        let mut ended = false;
        loop {
            let told = *control.borrow_and_update();
            if told == Control::Finish && !ended {
                gather.hand_back(&self.tracker);
                ended = true;
            }
            if ended && calls.is_empty() && acks.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(acked) = acks.next(), if !acks.is_empty() => {
                    let (messages, acked): (Vec<Message>, _) = acked;
                    self.done(&messages, acked?).await?;
                }
                Some(handled) = calls.next(), if !calls.is_empty() && acks.len() < ACKS => {
                    let handled: Result<Handled, StreamError> = handled;
                    let (messages, acked) = self.send(handled?).await?;
                    acks.push_back(async move { (messages, acked.await) });
                }
                messages = gather.next(&self.tracker), if told == Control::Run && !ended && calls.len() < self.depth => {
                    match messages {
                        Some(messages) => calls.push_back(self.handle(messages)),
                        None => ended = true,
                    }
                }
                changed = control.changed() => if changed.is_err() {
                    // Whoever would tell it is gone.
                    return Ok(());
                },
            }
        }
    }

    fn handle(&self, messages: Vec<Message>) -> impl Future<Output = Result<Handled, StreamError>> + use<> {
        let (work, partition, sessions) =
            (Arc::clone(&self.work), self.partition.clone(), self.sessions.clone());
        let task = Spawned::new(async move {
            work.asker.counters.rows.observe(messages.len() as f64);
            let max_bytes = work.sink.max_bytes();
            let records = match sessions {
                Some(sessions) => sessions.records(&work.asker, &partition, &messages, max_bytes).await?,
                None => work.asker.records(&partition, &messages, max_bytes).await?,
            };
            Ok(Handled { messages, records })
        });
        async move { task.await.unwrap_or_else(|error| Err(StreamError::Internal(error.to_string()))) }
    }

    async fn send(&self, handled: Handled) -> Result<(Vec<Message>, Acked), StreamError> {
        let Handled { messages, records } = handled;
        let position = self.position(&messages);
        let outgoing = Outgoing { partition: self.partition.clone(), records, position };
        Ok((messages, self.work.sink.send(outgoing).await?))
    }

    /// Where all is done with when these are.
    fn position(&self, messages: &[Message]) -> i64 {
        let position = messages.last().map_or(0, |message| message.offset + 1);
        // What is read again is behind what is committed.
        self.tracker.floor().map_or(position, |floor| floor.max(position))
    }

    /// What the sink has refused goes where failed messages go, and after that all of them are done.
    async fn done(&self, messages: &[Message], refused: Vec<(i64, String)>) -> Result<(), StreamError> {
        let mut records = Vec::new();
        for (offset, reason) in refused {
            let Some(message) = messages.iter().find(|message| message.offset == offset) else { continue };
            let failure = refused_by_sink(reason);
            let max_bytes = self.work.sink.max_bytes();
            records.extend(self.work.asker.failed(&self.partition, message, &failure, max_bytes)?);
        }
        if !records.is_empty() {
            let position = self.position(messages);
            let outgoing = Outgoing { partition: self.partition.clone(), records, position };
            let again = self.work.sink.send(outgoing).await?.await?;
            if let Some((offset, reason)) = again.first() {
                let at = format!("{}@{offset}", self.partition);
                return Err(StreamError::Message {
                    at,
                    class: "encode",
                    code: ErrorCode::TooLarge,
                    reason: format!("it is refused where failed messages go: {reason}"),
                });
            }
        }
        self.tracker.done(messages);
        Ok(())
    }
}

/// Puts messages together that are predicted together.
pub(crate) struct Gather {
    inbox: Inbox,
    waiting: VecDeque<Message>,
    /// Of those.
    bytes: usize,
    since: Instant,
    ended: bool,
    max_rows: usize,
    max_wait: Duration,
    /// Whether what is taken is in hand from then on, or was before.
    tracks: bool,
}

impl Gather {
    pub(crate) fn new(inbox: Inbox, max_rows: usize, max_wait: Duration, tracks: bool) -> Self {
        let (waiting, since, ended) = (VecDeque::new(), Instant::now(), false);
        Self { inbox, waiting, bytes: 0, since, ended, max_rows, max_wait, tracks }
    }

    /// The next messages; none where no more come. May be dropped without loss.
    async fn next(&mut self, tracker: &Tracker) -> Option<Vec<Message>> {
        loop {
            while !self.is_full()
                && let Some(chunk) = self.inbox.ready()
            {
                self.take(chunk, tracker);
            }
            let first = !self.waiting.is_empty();
            let due = self.since + self.max_wait;
            if first && (self.ended || self.is_full() || due <= Instant::now()) {
                return Some(self.some());
            }
            if self.ended {
                return None;
            }
            let next = match first {
                false => self.inbox.next().await,
                true => match tokio::time::timeout_at(due, self.inbox.next()).await {
                    Ok(next) => next,
                    Err(_) => continue,
                },
            };
            match next {
                Some(chunk) => self.take(chunk, tracker),
                None => self.ended = true,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.max_rows || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self, chunk: Vec<Message>, tracker: &Tracker) {
        if self.tracks {
            tracker.took(&chunk);
        }
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += chunk.iter().map(Message::size).sum::<usize>();
        self.waiting.extend(chunk);
    }

    fn some(&mut self) -> Vec<Message> {
        let (mut count, mut bytes) = (0, 0);
        for message in self.waiting.iter().take(self.max_rows) {
            let size = message.size();
            if count > 0 && bytes + size > BATCH_BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + size);
        }
        self.bytes -= bytes;
        self.waiting.drain(..count).collect()
    }

    /// Gives back what is not begun, also what was on its way here.
    fn hand_back(&mut self, tracker: &Tracker) {
        self.waiting.extend(self.inbox.close());
        tracker.returned(&self.waiting);
        self.waiting.clear();
    }
}
