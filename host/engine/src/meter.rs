//! What a plugin has used up, counted over all of its calls.
//!
//! Contract: processor time is the time for which calls were polled: the guest's own, and that of the host calls that it
//! makes, without what it waits for. It is counted at each poll, so that a call that is dropped counts too. Cost: two
//! readings of the clock and one addition a poll.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use vespid_types::Deadline;

use crate::error::EngineError;

/// Counters of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    cpu: AtomicU64,
    fresh: AtomicU64,
    warm: AtomicU64,
    retired: AtomicU64,
}

/// What a plugin's calls have used up since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginUsage {
    /// Processor time.
    pub cpu: Duration,
    /// Calls that were answered by an instance of their own.
    pub fresh: u64,
    /// Calls that were answered by an instance that had answered others.
    pub warm: u64,
    /// Instances that were kept and then ended: after their number of calls, a trap, or to make room.
    pub retired: u64,
}

impl PluginUsage {
    /// The sum of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            fresh: self.fresh.saturating_add(other.fresh),
            warm: self.warm.saturating_add(other.warm),
            retired: self.retired.saturating_add(other.retired),
        }
    }
}

impl Meter {
    pub(crate) fn count_fresh(&self) {
        self.fresh.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_warm(&self) {
        self.warm.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self) -> PluginUsage {
        PluginUsage {
            cpu: Duration::from_nanos(self.cpu.load(Ordering::Relaxed)),
            fresh: self.fresh.load(Ordering::Relaxed),
            warm: self.warm.load(Ordering::Relaxed),
            retired: self.retired.load(Ordering::Relaxed),
        }
    }

    /// Does `work` while the deadline allows it, and counts its time.
    pub(crate) async fn within<T>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout_at(deadline.instant().into(), self.measure(work)).await {
            Ok(done) => done,
            Err(_) => Err(EngineError::DeadlineExceeded),
        }
    }

    /// Counts the time of each poll of `work`.
    async fn measure<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| self.poll(work.as_mut(), cx)).await
    }

    fn poll<F: Future>(&self, work: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let began = Instant::now();
        let poll = work.poll(cx);
        let spent = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.cpu.fetch_add(spent, Ordering::Relaxed);
        poll
    }
}
