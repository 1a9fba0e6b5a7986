//! What is told of a stream.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::message::Partition;
use crate::source::{Behind, Lag};

/// What a stream does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It looks for its model and connects.
    #[default]
    Starting,
    /// It reads, or waits for messages.
    Running,
    /// It was told to read no more for now.
    Paused,
    /// Something is away: it is tried again, and nothing is read or committed meanwhile.
    Waiting,
    /// It was told to stop, or its source has ended.
    Ended,
    /// It cannot go on.
    Failed,
}

impl State {
    pub(crate) const ALL: [Self; 6] =
        [Self::Starting, Self::Running, Self::Paused, Self::Waiting, Self::Ended, Self::Failed];

    /// Its name in metrics and on the admin port, such as `running`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }
}

/// What is told of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is called.
    pub name: String,
    /// The model that it asks.
    pub model: String,
    /// What it does.
    pub state: State,
    /// Whether it was told to read no more for now.
    pub paused: bool,
    /// Why it waits, or has failed.
    pub reason: Option<String>,
    /// Messages that are there and not committed, of all partitions of this process; none where it is not known of all of them.
    pub lag: Option<u64>,
    /// Keys that have an instance.
    pub sessions: u64,
    /// The partitions that are this process's.
    pub partitions: Vec<PartitionStatus>,
}

/// What is told of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The topic, stream or file.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// All before this offset is committed; none where nothing was by this process.
    pub position: Option<i64>,
    /// Messages that are there and not committed; none where it is not known yet.
    pub lag: Option<u64>,
}

/// Where a stream tells of itself.
pub(crate) struct Told {
    pub(crate) name: String,
    model: String,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    state: State,
    paused: bool,
    reason: Option<String>,
    sessions: u64,
    partitions: BTreeMap<Partition, (Option<i64>, Option<u64>)>,
}

impl Told {
    pub(crate) fn new(name: String, model: String) -> Self {
        Self { name, model, inner: Mutex::default() }
    }

    pub(crate) fn status(&self) -> Status {
        let inner = self.lock();
        let partition =
            |(partition, (position, lag)): (&Partition, &(Option<i64>, Option<u64>))| PartitionStatus {
                topic: partition.topic.to_string(),
                partition: partition.index,
                position: *position,
                lag: *lag,
            };
        let state = match (inner.state, inner.paused) {
            (State::Running, true) => State::Paused,
            (state, _) => state,
        };
        Status {
            name: self.name.clone(),
            model: self.model.clone(),
            state,
            paused: inner.paused,
            reason: inner.reason.clone(),
            lag: inner.partitions.values().map(|(_, lag)| *lag).sum(),
            sessions: inner.sessions,
            partitions: inner.partitions.iter().map(partition).collect(),
        }
    }

    pub(crate) fn state(&self, state: State, reason: Option<String>) {
        let mut inner = self.lock();
        (inner.state, inner.reason) = (state, reason);
        if matches!(state, State::Ended | State::Failed) {
            inner.partitions.clear();
            inner.sessions = 0;
        }
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
    }

    pub(crate) fn sessions(&self, more: u64, fewer: u64) {
        let mut inner = self.lock();
        inner.sessions = (inner.sessions + more).saturating_sub(fewer);
    }

    /// A run has ended, and with it all that it had.
    pub(crate) fn given_up(&self) {
        let mut inner = self.lock();
        inner.partitions.clear();
        inner.sessions = 0;
    }

    /// It waits for what may pass, which is said once.
    pub(crate) fn waits(&self, reason: String) {
        let mut inner = self.lock();
        if inner.state == State::Running || inner.reason.as_ref() != Some(&reason) {
            tracing::warn!(stream = %self.name, "waiting: {reason}");
        }
        (inner.state, inner.reason) = (State::Waiting, Some(reason));
    }

    /// What it waited for is there.
    pub(crate) fn goes_on(&self) {
        let mut inner = self.lock();
        if inner.state == State::Waiting {
            (inner.state, inner.reason) = (State::Running, None);
        }
    }

    pub(crate) fn assigned(&self, partition: &Partition) {
        self.lock().partitions.insert(partition.clone(), (None, None));
    }

    pub(crate) fn revoked(&self, partition: &Partition) {
        self.lock().partitions.remove(partition);
    }

    pub(crate) fn committed(&self, positions: &[(Partition, i64)]) {
        let mut inner = self.lock();
        for (partition, position) in positions {
            if let Some(known) = inner.partitions.get_mut(partition) {
                known.0 = Some(*position);
            }
        }
    }

    pub(crate) fn lag(&self, lag: &[Lag]) {
        let mut inner = self.lock();
        for Lag { partition, behind } in lag {
            let Some((position, told)) = inner.partitions.get_mut(partition) else { continue };
            *told = Some(match behind {
                Behind::Messages(messages) => *messages,
                Behind::End { end, known } => {
                    u64::try_from(end - position.unwrap_or(*known)).unwrap_or_default()
                }
            });
        }
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
