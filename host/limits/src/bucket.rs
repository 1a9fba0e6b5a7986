//! What flows back with time: calls a second, processor time, uploads an hour.
//!
//! Contract: a bucket has room for so many units, and each that was taken comes back after its time (GCRA: all that is kept is the
//! moment at which everything will be back). Times are told, in nanoseconds from any beginning. Cost: one atomic. Why not `governor`,
//! which is the same for calls: its cells cannot be in debt, which processor time takes, as it is known afterwards; they do not give
//! back what another limit refuses; and they do not say how much is taken.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A bucket that is full of units, until some are taken.
#[derive(Debug)]
pub(super) struct Bucket {
    /// When all will be back.
    back: AtomicU64,
    /// After how long one unit comes back.
    cost: u64,
    /// After how long all of them do.
    room: u64,
}

impl Bucket {
    /// Room for so many units, of which so many come back in a second.
    pub(super) fn new(units: f64, per_second: f64) -> Self {
        let nanos = |time: f64| (time * 1e9).round().max(1.0) as u64;
        let cost = nanos(1.0 / per_second);
        // Of whole units, however they are rounded.
        let room =
            if units.fract() == 0.0 { cost.saturating_mul(units as u64) } else { nanos(units / per_second) };
        Self { back: AtomicU64::new(0), cost, room }
    }

    /// Takes a unit.
    ///
    /// # Errors
    /// After how long there will be one.
    pub(super) fn take(&self, now: u64) -> Result<(), Duration> {
        let full = now.saturating_add(self.room);
        let taken = |back: u64| Some(back.max(now).saturating_add(self.cost)).filter(|back| *back <= full);
        let refused = |back: u64| back.max(now).saturating_add(self.cost).saturating_sub(full);
        self.back
            .fetch_update(Relaxed, Relaxed, taken)
            .map_or_else(|back| Err(Duration::from_nanos(refused(back))), |_| Ok(()))
    }

    /// Sees whether there is a unit.
    ///
    /// # Errors
    /// As [`Bucket::take`].
    pub(super) fn check_one(&self, now: u64) -> Result<(), Duration> {
        match self
            .back
            .load(Relaxed)
            .max(now)
            .saturating_add(self.cost)
            .saturating_sub(now.saturating_add(self.room))
        {
            0 => Ok(()),
            wait => Err(Duration::from_nanos(wait)),
        }
    }

    /// Gives back a unit that was taken just now.
    pub(super) fn give_back(&self) {
        let _ = self.back.fetch_update(Relaxed, Relaxed, |back| Some(back.saturating_sub(self.cost)));
    }

    /// Takes what was used, whether it was there or not.
    pub(super) fn debit(&self, now: u64, units: f64) {
        let cost = (units * self.cost as f64) as u64;
        let _ = self.back.fetch_update(Relaxed, Relaxed, |back| Some(back.max(now).saturating_add(cost)));
    }

    /// Whether it is in no debt.
    ///
    /// # Errors
    /// After how long it will be.
    pub(super) fn check(&self, now: u64) -> Result<(), Duration> {
        match self.back.load(Relaxed).saturating_sub(now.saturating_add(self.room)) {
            0 => Ok(()),
            debt => Err(Duration::from_nanos(debt)),
        }
    }

    /// The units that are not back.
    pub(super) fn used(&self, now: u64) -> f64 {
        self.back.load(Relaxed).saturating_sub(now) as f64 / self.cost as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn units_come_back_one_by_one() {
        let bucket = Bucket::new(3.0, 2.0);
        let now = 7 * SECOND;
        assert_eq!((0..5).filter(|_| bucket.take(now).is_ok()).count(), 3);
        assert_eq!(bucket.take(now), Err(Duration::from_millis(500)));
        assert_eq!(
            (bucket.check_one(now), bucket.check_one(now + SECOND / 2)),
            (Err(Duration::from_millis(500)), Ok(()))
        );
        assert_eq!(bucket.take(now + SECOND / 4), Err(Duration::from_millis(250)));
        assert_eq!((bucket.take(now + SECOND / 2), bucket.used(now + SECOND / 2)), (Ok(()), 3.0));
        assert_eq!(
            (0..9).filter(|_| bucket.take(now + 100 * SECOND).is_ok()).count(),
            3,
            "none are saved up"
        );
    }

    #[test]
    fn what_another_limit_refuses_is_given_back() {
        let bucket = Bucket::new(1.0, 0.001);
        bucket.take(0).unwrap();
        bucket.give_back();
        assert_eq!((bucket.used(0), bucket.take(0)), (0.0, Ok(())));
        // Also when it came back by itself meanwhile.
        bucket.give_back();
        bucket.give_back();
        assert_eq!((0..9).filter(|_| bucket.take(5 * SECOND).is_ok()).count(), 1);
    }

    #[test]
    fn a_debt_is_waited_for() {
        // Half a processor, for ten seconds.
        let bucket = Bucket::new(5.0, 0.5);
        bucket.debit(0, 5.0);
        assert_eq!(bucket.check(0), Ok(()));
        bucket.debit(0, 2.0);
        assert_eq!((bucket.check(0), bucket.used(0)), (Err(Duration::from_secs(4)), 7.0));
        assert_eq!(bucket.check(4 * SECOND), Ok(()));
        assert_eq!((bucket.used(14 * SECOND), bucket.used(99 * SECOND)), (0.0, 0.0));
    }

    #[test]
    fn what_does_not_divide_evenly_has_its_whole_burst() {
        for (rate, burst) in [(3.0, 7.0), (1e6, 1e6), (0.001, 1e6), (7e5, 3.0)] {
            let bucket = Bucket::new(burst, rate);
            assert_eq!(
                (0..2_000_000).take_while(|_| bucket.take(1).is_ok()).count(),
                burst as usize,
                "{rate}"
            );
        }
    }

    #[test]
    fn of_many_threads_as_many_as_there_is_room_for_get_some() {
        let bucket = Bucket::new(100.0, 1.0);
        let got: usize = std::thread::scope(|scope| {
            let taking: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..50).filter(|_| bucket.take(0).is_ok()).count())).collect();
            taking.into_iter().map(|taking| taking.join().unwrap()).sum()
        });
        assert_eq!(got, 100);
    }
}
