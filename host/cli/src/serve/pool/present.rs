//! Which pods of the pool are counted on.
//!
//! Contract: pure; the time is told. A pod counts while it is ready, and for [`PATIENCE`] from when it was first seen not to be: one
//! that starts is there to stay, and one that does not get ready must not keep a model from being loaded by anybody. Cost: an entry
//! for each pod that is not ready.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a pod that is not ready is waited for. Others load what it has to load from then on, until it is.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pods of the pool, and whether each is ready.
pub(super) type Pods = BTreeMap<String, bool>;

/// Since when pods are not ready.
#[derive(Default)]
pub(super) struct Present {
    unready: BTreeMap<String, Instant>,
    /// When a pod stops to count.
    next: Option<Instant>,
}

impl Present {
    /// The pods that count now.
    pub(super) fn counted(&mut self, pods: Pods, now: Instant) -> BTreeSet<String> {
        self.unready.retain(|pod, _| pods.get(pod) == Some(&false));
        let until = |unready: &mut BTreeMap<String, Instant>, pod: &str| {
            *unready.entry(pod.to_owned()).or_insert(now) + PATIENCE
        };
        self.next = None;
        let mut counted = BTreeSet::new();
        for (pod, ready) in pods {
            if !ready {
                let until = until(&mut self.unready, &pod);
                if until <= now {
                    continue;
                }
                self.next = Some(self.next.map_or(until, |next| next.min(until)));
            }
            counted.insert(pod);
        }
        counted
    }

    /// Whether other pods count than did, though none has changed.
    pub(super) fn has_passed(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_does_not_get_ready_counts_for_a_while() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let pods = |b| Pods::from([("a".to_owned(), true), ("b".to_owned(), b)]);
        let mut present = Present::default();
        let mut counted = |b, seconds| {
            let names = present.counted(pods(b), at(seconds)).into_iter().collect::<Vec<_>>().join(" ");
            (names, present.has_passed(at(59)), present.has_passed(at(60)))
        };
        assert_eq!(counted(false, 0), ("a b".to_owned(), false, true));
        assert_eq!(counted(false, 59), ("a b".to_owned(), false, true));
        assert_eq!(counted(false, 60), ("a".to_owned(), false, false));
        assert_eq!(counted(true, 61), ("a b".to_owned(), false, false));
        // Its time begins anew.
        assert_eq!(counted(false, 100), ("a b".to_owned(), false, false));
    }
}
