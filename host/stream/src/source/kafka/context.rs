//! What librdkafka tells its caller: rebalances, statistics, its log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::mpsc;

use super::super::{Behind, Event, Lag};
use crate::StreamError;
use crate::message::Partition;

/// What the stream has besides, to tell that it has ended.
const MORE: Duration = Duration::from_secs(1);

/// What the consumer is created with.
pub(crate) struct Context {
    events: mpsc::Sender<Event>,
    handing: Duration,
    state: Mutex<State>,
    /// Nobody listens any more.
    leaving: AtomicBool,
    /// How often partitions were lost, or given away with something in hand.
    epoch: AtomicU64,
}

#[derive(Default)]
struct State {
    assigned: Vec<Partition>,
    revoked: Vec<Partition>,
    /// The end of each partition that is ours, and what is behind it.
    lag: HashMap<Partition, Behind>,
}

impl Context {
    pub(super) fn new(events: mpsc::Sender<Event>, handing: Duration) -> Self {
        Self {
            events,
            handing,
            state: Mutex::default(),
            leaving: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
        }
    }

    /// What rebalances have taken and brought since it was asked last.
    pub(super) fn changes(&self) -> (Vec<Partition>, Vec<Partition>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.revoked), std::mem::take(&mut state.assigned))
    }

    pub(super) fn lag(&self) -> Vec<Lag> {
        let lag = |(partition, behind): (&Partition, &Behind)| Lag {
            partition: partition.clone(),
            behind: *behind,
        };
        self.lock().lag.iter().map(lag).collect()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Rebalances are nobody's concern from now on.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Tells the stream; where it has ended nobody is to be told.
    pub(super) fn tell(&self, event: Event) {
        if !self.leaving.load(Ordering::Relaxed) {
            drop(self.events.blocking_send(event));
        }
    }

    pub(super) fn fail(&self, reason: String) {
        self.tell(Event::Failed(StreamError::Source(reason)));
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let mut lag = HashMap::new();
        for (topic, told) in statistics.topics {
            for (index, partition) in told.partitions {
                // What is not committed cannot be read; of partitions that are not ours nothing is known.
                let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
                let known = partition.committed_offset.max(partition.lo_offset);
                if end >= 0 && known >= 0 {
                    let partition = Partition { topic: topic.as_str().into(), index };
                    lag.insert(partition, Behind::End { end, known });
                }
            }
        }
        self.lock().lag = lag;
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!("Kafka: {error}: {reason}");
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let partitions = partitions(list);
        if partitions.is_empty() {
            return;
        }
        let (done, waiting) = std_mpsc::channel();
        let lost = consumer.assignment_lost();
        if lost {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        self.lock().revoked.extend(partitions.iter().cloned());
        self.tell(Event::Revoked { partitions, lost, done });
        // Nothing is sent: it ends when `done` is dropped.
        if waiting.recv_timeout(self.handing + MORE) == Err(std_mpsc::RecvTimeoutError::Timeout) {
            self.epoch.fetch_add(1, Ordering::SeqCst);
            tracing::warn!("what was in hand of revoked partitions did not end in {:?}", self.handing);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.lock().assigned.extend(partitions(list));
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let partition = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| Partition {
        topic: element.topic().into(),
        index: element.partition(),
    };
    list.elements().iter().map(partition).collect()
}
