//! Which pod answers a call: rendezvous hashing with bounded load.
//!
//! Contract: pods stand in the model's order ([`vespid_resources::Placement`]); the first that has the version in memory and is below
//! its capacity answers, then the first of the others that is. The capacity is `ceil(c * (calls + 1) / pods)` (Mirrokni, Thorup and
//! Zadimoghaddam, *Consistent Hashing with Bounded Loads*, 2016), so that no pod has more than `c` times its share. Where that is
//! less than [`Bound::spill`], pods that have the model take as many before another pod has to load it: by the bound alone two calls
//! at once would make two pods load a model that one of them could serve. A key has its own order, and no bound: all of its calls go
//! to the first pod that is well. Cost: one pass over the pool's pods, up to four.

use std::sync::Arc;

use vespid_resources::Placement;

use crate::pods::{Member, Pod, Pool, Protocol};

/// How calls are bounded.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// How many times its share a pod may have.
    pub factor: f64,
    /// Calls at once that a pod takes before one without the model has to load it.
    pub spill: usize,
}

impl Default for Bound {
    fn default() -> Self {
        Self { factor: 1.25, spill: 4 }
    }
}

impl Bound {
    /// The most calls that a pod may have, of `calls` that `pods` have together.
    fn capacity(self, calls: usize, pods: usize) -> usize {
        let share = self.factor * (calls as f64 + 1.0) / pods.max(1) as f64;
        // A factor below 1 would leave nobody with room; what is lost by the cast is the sign of a number above 0.
        (share.ceil() as usize).max(1)
    }
}

/// What is looked for.
pub(crate) struct Wanted<'a> {
    pub(crate) pool: &'a Pool,
    /// The positions of the pool's pods in the model's order.
    pub(crate) order: &'a [usize],
    /// Which pods have the version in memory, by their positions.
    pub(crate) warm: &'a [bool],
    pub(crate) protocol: Protocol,
    /// Those that were tried already.
    pub(crate) tried: &'a [Arc<Pod>],
    pub(crate) bound: Bound,
    /// The time of [`crate::clock`].
    pub(crate) now: u64,
}

/// The pod that is to answer.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) pod: Arc<Pod>,
    pub(crate) is_warm: bool,
}

impl Wanted<'_> {
    /// The pod that answers; none where there is none.
    pub(crate) fn pick(&self) -> Option<Picked> {
        // Where all that are left are ejected, one of them may have come to itself.
        self.among(|member| !member.pod.health.is_ejected(self.now)).or_else(|| self.among(|_| true))
    }

    fn among(&self, admit: impl Fn(&Member) -> bool + Copy) -> Option<Picked> {
        let (mut calls, mut pods) = (0, 0);
        for member in self.pool.members.iter().filter(|member| self.serves(member) && admit(member)) {
            calls += member.pod.in_flight();
            pods += 1;
        }
        let capacity = self.bound.capacity(calls, pods);
        let below = |capacity: usize| move |pod: &Pod| pod.in_flight() < capacity;
        let first = |warm: bool| self.candidates(warm, admit).find(|pod| below(capacity)(pod));
        let spared = || {
            let least = self.candidates(true, admit).min_by_key(|pod| pod.in_flight());
            least.filter(|pod| below(capacity.max(self.bound.spill))(pod))
        };
        let least = |warm: bool| self.candidates(warm, admit).min_by_key(|pod| pod.in_flight());
        let picked = |pod: Option<&Arc<Pod>>, is_warm| Some(Picked { pod: Arc::clone(pod?), is_warm });
        picked(first(true), true)
            .or_else(|| picked(spared(), true))
            .or_else(|| picked(first(false), false))
            // Those that have been tried take up the room that is left.
            .or_else(|| picked(least(true), true))
            .or_else(|| picked(least(false), false))
    }

    /// The pod of a key.
    pub(crate) fn pick_for(&self, model: &str, key: &str) -> Option<Picked> {
        let placement = Placement::of(&format!("{model}/{key}"));
        let best = |admit: &dyn Fn(&Pod) -> bool| {
            let members = self.pool.members.iter().enumerate();
            let members = members.filter(|(_, member)| self.is_candidate(member) && admit(&member.pod));
            members.max_by_key(|(_, member)| placement.score(&member.pod.name))
        };
        let (position, member) = best(&|pod| !pod.health.is_ejected(self.now)).or_else(|| best(&|_| true))?;
        Some(Picked { pod: Arc::clone(&member.pod), is_warm: self.is_warm(position) })
    }

    fn candidates(&self, warm: bool, admit: impl Fn(&Member) -> bool) -> impl Iterator<Item = &Arc<Pod>> {
        let positions = self.order.iter().copied().filter(move |position| self.is_warm(*position) == warm);
        let members = positions.filter_map(|position| self.pool.members.get(position));
        members.filter(move |member| self.is_candidate(member) && admit(member)).map(|member| &member.pod)
    }

    fn is_warm(&self, position: usize) -> bool {
        self.warm.get(position).copied().unwrap_or_default()
    }

    fn serves(&self, member: &Member) -> bool {
        member.is_open() && member.pod.authority(self.protocol).is_some()
    }

    fn is_candidate(&self, member: &Member) -> bool {
        self.serves(member) && !self.tried.iter().any(|tried| Arc::ptr_eq(tried, &member.pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eject::FAILURES;
    use crate::pods::{PoolState, RetryBudget, Taken};

    fn pool(pods: usize) -> Pool {
        let member = |number: usize| Member {
            pod: Arc::new(Pod::new(format!("pod-{number}"), Some("127.0.0.1:1".parse().unwrap()), None)),
            ready: true,
            serving: true,
            terminating: false,
        };
        Pool {
            name: "default".to_owned(),
            is_known: true,
            may_sleep: false,
            members: (0..pods).map(member).collect(),
            shared: Arc::new(PoolState::new(RetryBudget::default())),
        }
    }

    fn wanted<'a>(pool: &'a Pool, order: &'a [usize], warm: &'a [bool]) -> Wanted<'a> {
        let bound = Bound::default();
        Wanted { pool, order, warm, protocol: Protocol::Http, tried: &[], bound, now: 1 }
    }

    /// Sends so many calls that do not end; pods that are asked have the model from then on. Says how many each has.
    fn send(pool: &Pool, order: &[usize], warm: &mut [bool], calls: usize) -> (Vec<usize>, Vec<Taken>) {
        let taken = (0..calls)
            .map(|_| {
                let picked = wanted(pool, order, warm).pick().unwrap();
                let position = pool.members.iter().position(|m| Arc::ptr_eq(&m.pod, &picked.pod)).unwrap();
                warm[position] = true;
                picked.pod.take()
            })
            .collect();
        (pool.members.iter().map(|member| member.pod.in_flight()).collect(), taken)
    }

    #[test]
    fn a_model_that_is_asked_little_stays_on_its_pod_and_a_hot_one_spreads() {
        let pool = pool(4);
        let order = [2, 0, 3, 1];
        let mut warm = [false, false, true, false];
        let (calls, taken) = send(&pool, &order, &mut warm, 4);
        assert_eq!(calls, [0, 0, 4, 0], "as many as a pod takes before another has to load the model");
        drop(taken);
        warm = [false, false, true, false];
        let (calls, _taken) = send(&pool, &order, &mut warm, 400);
        assert!(warm.iter().all(|warm| *warm));
        // No pod has more than 1.25 times its share, and the last in order has what is left.
        assert_eq!(calls, [125, 25, 125, 125]);
    }

    #[test]
    fn other_models_calls_leave_less_room() {
        let pool = pool(4);
        let _others: Vec<_> = (0..20).map(|_| pool.members[2].pod.take()).collect();
        // ceil(1.25 * 21 / 4) = 7, which the first pod has already.
        let picked = wanted(&pool, &[2, 0, 3, 1], &[false, false, true, false]).pick().unwrap();
        assert_eq!((picked.pod.name.as_str(), picked.is_warm), ("pod-0", false));
        let picked = wanted(&pool, &[2, 0, 3, 1], &[false, true, true, false]).pick().unwrap();
        assert_eq!((picked.pod.name.as_str(), picked.is_warm), ("pod-1", true), "a warm one goes before");
    }

    #[test]
    fn pods_that_are_tried_ejected_or_ending_are_left_out() {
        let mut pool = pool(4);
        pool.members[0].ready = false;
        pool.members[1].terminating = true;
        let order = [0, 1, 2, 3];
        let first = |pool: &Pool, tried: &[Arc<Pod>]| {
            let picked = Wanted { tried, ..wanted(pool, &order, &[true; 4]) }.pick();
            picked.map(|picked| picked.pod.name.clone())
        };
        assert_eq!(first(&pool, &[]).as_deref(), Some("pod-2"));
        let tried = [Arc::clone(&pool.members[2].pod)];
        assert_eq!(first(&pool, &tried).as_deref(), Some("pod-3"));
        for _ in 0..FAILURES {
            pool.members[2].pod.health.failed(1, || pool.has_room_to_eject(1));
        }
        assert_eq!(first(&pool, &[]).as_deref(), Some("pod-3"));
        assert!(!pool.has_room_to_eject(1), "half of those that are ready are ejected");
        let tried = [Arc::clone(&pool.members[3].pod)];
        assert_eq!(first(&pool, &tried).as_deref(), Some("pod-2"), "rather than nobody");
        pool.members[2].ready = false;
        pool.members[3].ready = false;
        assert_eq!(first(&pool, &[]), None);
    }

    #[test]
    fn a_key_has_one_pod_however_loaded_it_is() {
        let pool = pool(5);
        let of = |key: &str, tried: &[Arc<Pod>]| {
            let wanted = Wanted { tried, ..wanted(&pool, &[0, 1, 2, 3, 4], &[false; 5]) };
            wanted.pick_for("iris", key).unwrap().pod
        };
        let pod = of("a", &[]);
        let _busy: Vec<_> = (0..1000).map(|_| pod.take()).collect();
        assert!(Arc::ptr_eq(&pod, &of("a", &[])));
        let next = of("a", &[Arc::clone(&pod)]);
        assert!(!Arc::ptr_eq(&pod, &next));
        let pods: std::collections::BTreeSet<_> =
            (0..100).map(|key| of(&key.to_string(), &[]).name.clone()).collect();
        assert_eq!(pods.len(), 5);
    }
}
