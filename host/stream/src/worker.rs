//! The work at one partition.
//!
//! Contract: with `order: partition` one pipeline, several calls of which may be in flight; with `order: key` several, each with the messages of some
//! keys and one call in flight, so that a key's messages keep their order and those of others do not wait for them. It ends when it is told to,
//! or when no more messages come.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::StreamError;
use crate::message::{Message, Partition};
use crate::pipeline::{Control, Gather, Pipeline, Work};
use crate::sessions::Sessions;
use crate::source::{CHUNKS, Chunk, Inbox};
use crate::spec::Order;
use crate::tracker::Tracker;

/// How often a sink is told that somebody waits.
pub(crate) const HURRY: Duration = Duration::from_millis(20);

/// The work at one partition.
pub(crate) struct Worker {
    pub(crate) work: Arc<Work>,
    pub(crate) partition: Partition,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) sessions: Option<Arc<Sessions>>,
    pub(crate) control: watch::Receiver<Control>,
}

impl Worker {
    /// Works until it is told to finish, or no more messages come.
    ///
    /// # Errors
    /// What ends the stream, or its run.
    pub(crate) async fn run(self, inbox: Inbox) -> Result<(), StreamError> {
        let spec = Arc::clone(&self.work.asker.spec);
        let (rows, wait) = (spec.max_rows as usize, spec.max_wait);
        let calls = spec.concurrency as usize;
        if spec.order == Order::Partition && self.sessions.is_none() {
            let gather = Gather::new(inbox, rows, wait, true);
            return self.pipeline(calls).run(gather, self.control).await;
        }
        let (outputs, inputs): (Vec<_>, Vec<_>) = (0..calls).map(|_| mpsc::channel(CHUNKS)).unzip();
        let pipelines = inputs.into_iter().map(|input| {
            let gather = Gather::new(Inbox::new(input, Arc::new(|| ())), rows, wait, false);
            self.pipeline(1).run(gather, self.control.clone())
        });
        let pipelines = try_join_all(pipelines.collect::<Vec<_>>());
        let dividing = self.divide(inbox, outputs);
        tokio::try_join!(pipelines, dividing).map(drop)
    }

    /// Gives each message to the pipeline of its key, and saves the state of keys from time to time.
    async fn divide(&self, mut inbox: Inbox, outputs: Vec<mpsc::Sender<Chunk>>) -> Result<(), StreamError> {
        let mut control = self.control.clone();
        let mut saving = self.sessions.as_ref().filter(|sessions| sessions.are_saved()).map(|sessions| {
            let mut saving = tokio::time::interval(sessions.every());
            saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
            saving.reset();
            saving
        });
        loop {
            let told = *control.borrow_and_update();
            let time = async {
                match &mut saving {
                    Some(saving) => drop(saving.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                chunk = inbox.next(), if told == Control::Run => match chunk {
                    Some(chunk) => self.divide_one(chunk, &outputs).await,
                    None => return Ok(()),
                },
                () = time => self.save(&mut control).await,
                changed = control.changed() => {
                    if changed.is_err() || *control.borrow() == Control::Finish {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn divide_one(&self, chunk: Chunk, outputs: &[mpsc::Sender<Chunk>]) {
        self.tracker.took(&chunk);
        let mut divided: Vec<Chunk> = outputs.iter().map(|_| Vec::new()).collect();
        for message in chunk {
            let place = place(&message, outputs.len());
            if let Some(chunk) = divided.get_mut(place) {
                chunk.push(message);
            }
        }
        for (output, chunk) in outputs.iter().zip(divided) {
            if chunk.is_empty() {
                continue;
            }
            // A pipeline that has ended was told to finish, and so is this in a moment.
            if let Err(unsent) = output.send(chunk).await {
                self.tracker.returned(&unsent.0);
            }
        }
    }

    /// Stands still until all that was taken is done and committed, and saves the state of keys there.
    async fn save(&self, control: &mut watch::Receiver<Control>) {
        let Some(sessions) = &self.sessions else { return };
        let still = async {
            while tokio::time::timeout(HURRY, self.tracker.idle()).await.is_err() {
                self.work.sink.hurry();
            }
            if let Some(position) = self.tracker.ready().filter(|_| !self.work.sink.commits()) {
                self.work.source.commit(vec![(self.partition.clone(), position)]).await?;
            }
            sessions.save(self.tracker.position()).await
        };
        let saved = tokio::select! {
            saved = still => saved,
            // It is done at the end.
            _ = control.wait_for(|told| *told == Control::Finish) => Ok(()),
        };
        if let Err(error) = saved {
            tracing::warn!(partition = %self.partition, "the state of keys is not saved: {error}");
        }
    }

    fn pipeline(&self, depth: usize) -> Pipeline {
        Pipeline {
            work: Arc::clone(&self.work),
            partition: self.partition.clone(),
            tracker: Arc::clone(&self.tracker),
            depth,
            sessions: self.sessions.clone(),
        }
    }
}

fn place(message: &Message, of: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    message.key.hash(&mut hasher);
    usize::try_from(hasher.finish() % of.max(1) as u64).unwrap_or_default()
}
