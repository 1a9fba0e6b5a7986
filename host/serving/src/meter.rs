//! The time for which a call held a thread, without that of the calls that it led to.
//!
//! Contract: as the engine counts it for a plugin, but for one call, and each moment once: a call that a plugin makes of another
//! model is polled within that plugin's own, and is the other model's to pay. Cost: two readings of the clock a poll.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Instant;

use pin_project_lite::pin_project;

thread_local! {
    /// Nanoseconds of the calls within the one that is polled on this thread.
    static WITHIN: Cell<u64> = const { Cell::new(0) };
}

pin_project! {
    /// A part of a call, which adds the nanoseconds for which it is polled. A type and not an `async fn`: futures of calls lie deep
    /// in each other, and each more costs the compiler.
    pub(crate) struct Metered<'a, F> {
        spent: Option<&'a AtomicU64>,
        #[pin]
        work: F,
    }
}

/// Does `work`, and adds to `spent`, where there is one, the nanoseconds for which it was polled.
pub(crate) fn metered<F: Future>(spent: Option<&AtomicU64>, work: F) -> Metered<'_, F> {
    Metered { spent, work }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(spent) = this.spent else { return this.work.poll(context) };
        let before = WITHIN.replace(0);
        let began = Instant::now();
        let poll = this.work.poll(context);
        let whole = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        spent.fetch_add(whole.saturating_sub(WITHIN.get()), Relaxed);
        WITHIN.set(before.saturating_add(whole));
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn busy(millis: u64) {
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn each_moment_is_counted_once_and_waiting_is_not() {
        let [outer, inner] = [(); 2].map(|()| AtomicU64::new(0));
        let call = async {
            busy(20);
            tokio::time::sleep(Duration::from_millis(300)).await;
            metered(Some(&inner), async { busy(60) }).await;
            busy(20);
        };
        metered(Some(&outer), call).await;
        let millis = |spent: &AtomicU64| spent.load(Relaxed) / 1_000_000;
        assert!((60..200).contains(&millis(&inner)), "{inner:?}");
        assert!((40..200).contains(&millis(&outer)), "{outer:?}");
        assert!(millis(&outer) + millis(&inner) < 300);
    }
}
