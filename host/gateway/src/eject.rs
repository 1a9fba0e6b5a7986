//! Pods that fail are left alone for a while (outlier ejection, as Envoy has it).
//!
//! Contract: [`FAILURES`] failures in a row eject a pod for [`FIRST`], and twice as long each time after, up to [`LONGEST`].
//! A pod that has answered for as long as it was ejected last begins anew. Whether there is room for another ejection is the
//! caller's to say: at most half of a pool's pods are ejected. What counts as a failure is a connection that was not made or
//! broke before the head of an answer, and 502 and 503; the host's own 503 (`Retry-After`) is none, for a pod that says so is
//! well. Cost: two atomics a call.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Failures in a row that eject a pod.
pub(crate) const FAILURES: u32 = 5;

/// How long a pod is ejected the first time.
pub(crate) const FIRST: Duration = Duration::from_secs(10);

/// How long it is ejected at most.
pub(crate) const LONGEST: Duration = Duration::from_secs(300);

/// How a pod has done lately. Times are those of [`crate::clock`].
#[derive(Debug, Default)]
pub(crate) struct Health {
    failures: AtomicU32,
    /// How often in a row it was ejected.
    times: AtomicU32,
    until: AtomicU64,
}

impl Health {
    /// Whether it gets no calls.
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        self.until.load(Relaxed) > now
    }

    /// It has answered.
    pub(crate) fn succeeded(&self, now: u64) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        let times = self.times.load(Relaxed);
        if times != 0 && now > self.until.load(Relaxed).saturating_add(length(times)) {
            self.times.store(0, Relaxed);
        }
    }

    /// It has failed. Says for how long it is ejected, where that is what comes of it.
    pub(crate) fn failed(&self, now: u64, has_room: impl FnOnce() -> bool) -> Option<Duration> {
        if self.failures.fetch_add(1, Relaxed) + 1 < FAILURES || self.is_ejected(now) || !has_room() {
            return None;
        }
        self.failures.store(0, Relaxed);
        let length = length(self.times.fetch_add(1, Relaxed) + 1);
        self.until.store(now.saturating_add(length), Relaxed);
        Some(Duration::from_millis(length))
    }
}

/// How long the ejection of this number is, in milliseconds.
fn length(times: u32) -> u64 {
    let doubled = FIRST.saturating_mul(1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX));
    u64::try_from(doubled.min(LONGEST).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(health: &Health, now: u64, times: u32) -> Option<Duration> {
        (0..times).filter_map(|_| health.failed(now, || true)).last()
    }

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let health = Health::default();
        assert_eq!(fail(&health, 1, FAILURES - 1), None);
        health.succeeded(1);
        assert_eq!(fail(&health, 1, FAILURES - 1), None, "they were not in a row");
        assert_eq!(fail(&health, 1, 1), Some(FIRST));
        assert!(health.is_ejected(10_000) && !health.is_ejected(10_001));
        let mut now = 10_001;
        for seconds in [20, 40, 80, 160, 300, 300] {
            assert_eq!(fail(&health, now, FAILURES), Some(Duration::from_secs(seconds)));
            now += seconds * 1000;
        }
        // It has answered for as long as it was away.
        health.succeeded(now + 1);
        assert_eq!(fail(&health, now, FAILURES), Some(LONGEST), "it has only just come back");
        health.succeeded(now + 700_000);
        assert_eq!(fail(&health, now + 700_000, FAILURES), Some(FIRST));
    }

    #[test]
    fn nobody_is_ejected_where_there_is_no_room() {
        let health = Health::default();
        assert_eq!((0..50).find_map(|_| health.failed(1, || false)), None);
        assert!(!health.is_ejected(1));
        assert_eq!(fail(&health, 1, 1), Some(FIRST), "as soon as there is");
    }
}
