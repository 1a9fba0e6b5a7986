//! Pods and pools, as the gateway knows them.
//!
//! Contract: what is counted of a pod (its calls, its failures) stays with it while the table is rebuilt around it; one that
//! comes back with another address is another pod. Counts are this gateway's own: several gateways do not add theirs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::http::uri::Authority;
use tower::retry::budget::{Budget, TpsBudget};

use crate::eject::Health;

/// Which port of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// As a metric has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// A pod of a pool.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) http: Option<Authority>,
    pub(crate) grpc: Option<Authority>,
    pub(crate) health: Health,
    in_flight: AtomicUsize,
}

impl Pod {
    pub(crate) fn new(name: String, http: Option<Authority>, grpc: Option<Authority>) -> Self {
        Self { name, http, grpc, health: Health::default(), in_flight: AtomicUsize::new(0) }
    }

    pub(crate) fn authority(&self, protocol: Protocol) -> Option<&Authority> {
        match protocol {
            Protocol::Http => self.http.as_ref(),
            Protocol::Grpc => self.grpc.as_ref(),
        }
    }

    /// Calls that it is answering.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Counts a call until what is returned is dropped.
    pub(crate) fn take(self: &Arc<Self>) -> Taken {
        self.in_flight.fetch_add(1, Relaxed);
        Taken(Arc::clone(self))
    }
}

/// A call that a pod is answering.
#[derive(Debug)]
pub(crate) struct Taken(Arc<Pod>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A pod, and what its EndpointSlice says of it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) pod: Arc<Pod>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
}

impl Member {
    /// Whether it may get calls at all.
    pub(crate) fn is_open(&self) -> bool {
        self.ready && !self.terminating
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let flags = |member: &Self| (member.ready, member.serving, member.terminating);
        Arc::ptr_eq(&self.pod, &other.pod) && flags(self) == flags(other)
    }
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// Whether there is a `ModelPool` of this name.
    pub(crate) is_known: bool,
    /// Whether it may have no pods, and is woken.
    pub(crate) may_sleep: bool,
    pub(crate) members: Vec<Member>,
    pub(crate) shared: Arc<PoolState>,
}

impl Pool {
    /// The pods that may get calls.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.is_open())
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let pairs = || self.members.iter().zip(&other.members);
        self.is_known == other.is_known
            && self.may_sleep == other.may_sleep
            && self.members.len() == other.members.len()
            && pairs().all(|(one, other)| one.is_same(other))
    }

    /// Whether another pod may be ejected: half of them stay.
    pub(crate) fn has_room_to_eject(&self, now: u64) -> bool {
        let open = self.open().count();
        let ejected = self.open().filter(|member| member.pod.health.is_ejected(now)).count();
        (ejected + 1) * 2 <= open
    }
}

/// How many calls may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// Of how many of a hundred calls.
    pub percent: u32,
    /// And so many a second besides.
    pub minimum: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, minimum: 10 }
    }
}

/// Over which time the budget is counted.
const WINDOW: Duration = Duration::from_secs(10);

/// What stays with a pool while the table is rebuilt.
pub(crate) struct PoolState {
    budget: TpsBudget,
    /// When it was told that it is asked.
    pub(crate) asked: AtomicU64,
    /// When it was told to wake.
    pub(crate) woken: AtomicU64,
    /// Calls that wait for a pod of it.
    pub(crate) held: AtomicUsize,
}

impl std::fmt::Debug for PoolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolState").finish_non_exhaustive()
    }
}

impl PoolState {
    pub(crate) fn new(RetryBudget { percent, minimum }: RetryBudget) -> Self {
        // Beyond these the budget would panic.
        let ratio = percent.min(1000) as f32 / 100.0;
        let budget = TpsBudget::new(WINDOW, minimum.min(100_000), ratio);
        Self { budget, asked: AtomicU64::new(0), woken: AtomicU64::new(0), held: AtomicUsize::new(0) }
    }

    /// A call has come.
    pub(crate) fn called(&self) {
        self.budget.deposit();
    }

    /// Whether a call may be sent again.
    pub(crate) fn may_retry(&self) -> bool {
        self.budget.withdraw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_part_of_calls_and_a_minimum() {
        let retries = |state: &PoolState| (0..10_000).filter(|_| state.may_retry()).count();
        let few = PoolState::new(RetryBudget { percent: 20, minimum: 1 });
        assert_eq!(retries(&few), 10, "the minimum of the window");
        let many = PoolState::new(RetryBudget { percent: 20, minimum: 1 });
        (0..1000).for_each(|_| many.called());
        assert_eq!(retries(&many), 210);
        let none = PoolState::new(RetryBudget { percent: 0, minimum: 0 });
        (0..1000).for_each(|_| none.called());
        assert_eq!(retries(&none), 0);
    }

    #[test]
    fn a_call_is_counted_until_it_has_ended() {
        let pod = Arc::new(Pod::new("a".to_owned(), None, None));
        let (one, other) = (pod.take(), pod.take());
        assert_eq!(pod.in_flight(), 2);
        drop(one);
        assert_eq!(pod.in_flight(), 1);
        drop(other);
        assert_eq!(pod.in_flight(), 0);
    }
}
