//! The closed loop: each connection sends its next request as soon as its last is answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Connection, Limit, Measured, Stop, on_each};
use crate::bench::record::Cause;
use crate::failure::Failure;

/// How long a connection rests that could not reach the server: it is not asked as fast as the machine can.
const REST: Duration = Duration::from_millis(50);

pub(super) fn run(connections: &mut [Connection], limit: Limit, stop: &Stop) -> Result<Measured, Failure> {
    let begin = || {
        let started = Instant::now();
        (started, Budget::new(limit, started))
    };
    let ((started, _), record) = on_each(connections, begin, |(_, budget), connection, record| {
        while !stop.is_set() && budget.take() {
            let exchange = connection.exchange(None);
            let unreached =
                exchange.outcome.as_ref().is_err_and(|error| Cause::of(error) == Cause::Connection);
            record.add(exchange);
            if unreached {
                stop.wait_until(Instant::now() + REST);
            }
        }
    })?;
    Ok(Measured { record, elapsed: started.elapsed(), interrupted: stop.is_set(), schedule: None })
}

/// What is left to send.
enum Budget {
    /// Anything, until then.
    Until(Option<Instant>),
    /// So many.
    Number(AtomicU64),
}

impl Budget {
    fn new(limit: Limit, started: Instant) -> Self {
        match limit {
            // A duration too long for the clock never ends.
            Limit::Duration(duration) => Self::Until(started.checked_add(duration)),
            Limit::Requests(number) => Self::Number(AtomicU64::new(number)),
        }
    }

    /// Whether one more is to be sent.
    fn take(&self) -> bool {
        match self {
            Self::Until(end) => end.is_none_or(|end| Instant::now() < end),
            Self::Number(left) => {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_requests_is_shared() {
        let budget = Budget::new(Limit::Requests(100), Instant::now());
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while budget.take() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 100);
    }

    #[test]
    fn a_time_ends() {
        assert!(Budget::new(Limit::Duration(Duration::MAX), Instant::now()).take());
        let past = Instant::now();
        assert!(!Budget::Until(Some(past)).take());
    }
}
