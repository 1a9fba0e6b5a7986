//! Which version answers a request that names none.
//!
//! Contract: where versions have weights, each that can answer gets its share of their sum; otherwise the greatest that can answer
//! gets all. One can answer that a pod has in memory, or that pods load when they are asked: one that is still being loaded, or
//! that does not load, takes no share, so that a shift to a new version begins when it is ready. Where none can, all that may be
//! asked are taken for able. Cost: a binary search.

/// A version as far as the choice is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) weight: Option<u32>,
    /// Pods that have it in memory, of those that may get calls; and so on.
    pub(crate) ready: usize,
    pub(crate) listed: usize,
    pub(crate) loading: usize,
    pub(crate) failed: usize,
}

impl Standing {
    /// Whether it answers. `lazy` is a model that no pod loads before it is asked.
    fn can_answer(&self, lazy: bool) -> bool {
        self.ready > 0 || (self.loading == 0 && self.failed == 0 && (self.listed > 0 || lazy))
    }
}

/// How requests are divided among versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    /// Versions, each with the sum of the weights up to it.
    sums: Vec<(u64, u64)>,
    total: u64,
}

impl Split {
    /// The division among these, which are in order.
    pub(crate) fn new(versions: &[(u64, Standing)], lazy: bool) -> Self {
        let weighted = versions.iter().any(|(_, standing)| standing.weight.is_some());
        let weight = |standing: &Standing| u64::from(standing.weight.unwrap_or_default());
        if weighted {
            let able = |only: bool| {
                let able = versions.iter().filter(move |(_, standing)| !only || standing.can_answer(lazy));
                able.map(|(version, standing)| (*version, weight(standing))).filter(|(_, weight)| *weight > 0)
            };
            let only = able(true).next().is_some();
            return Self::of(able(only));
        }
        let able = versions.iter().rfind(|(_, standing)| standing.can_answer(lazy));
        Self::of(able.or(versions.last()).map(|(version, _)| (*version, 1)))
    }

    fn of(weights: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut split = Self::default();
        for (version, weight) in weights {
            split.total += weight;
            split.sums.push((version, split.total));
        }
        split
    }

    /// The version of a request; `draw` is any number, each as likely as another.
    pub(crate) fn choose(&self, draw: u64) -> Option<u64> {
        let at = u64::try_from((u128::from(draw) * u128::from(self.total)) >> 64).unwrap_or_default();
        let position = self.sums.partition_point(|(_, sum)| *sum <= at);
        self.sums.get(position).map(|(version, _)| *version)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ready(weight: Option<u32>) -> Standing {
        Standing { weight, ready: 1, ..Standing::default() }
    }

    fn count(split: &Split, draws: u32) -> BTreeMap<u64, u32> {
        let mut random = fastrand::Rng::with_seed(8);
        let mut counts = BTreeMap::new();
        (0..draws).for_each(|_| *counts.entry(split.choose(random.u64(..)).unwrap()).or_default() += 1);
        counts
    }

    #[test]
    fn versions_get_their_shares() {
        for (weights, draws) in [(vec![90, 10], 20_000), (vec![1, 1, 2], 20_000), (vec![999, 1], 50_000)] {
            let total: u32 = weights.iter().sum();
            let versions: Vec<_> = (1..).zip(weights.iter().map(|weight| ready(Some(*weight)))).collect();
            let counts = count(&Split::new(&versions, false), draws);
            for (version, weight) in (1..).zip(&weights) {
                let share = f64::from(*weight) / f64::from(total);
                let expected = share * f64::from(draws);
                // Four standard deviations of a binomial distribution.
                let tolerance = 4.0 * (expected * (1.0 - share)).sqrt();
                let counted = f64::from(counts[&version]);
                assert!((counted - expected).abs() <= tolerance, "{version}: {counted} for {expected}");
            }
        }
    }

    #[test]
    fn a_version_that_is_not_ready_gets_nothing() {
        let loading = Standing { weight: Some(50), loading: 1, listed: 2, ..Standing::default() };
        let failed = Standing { weight: Some(50), failed: 1, listed: 2, ..Standing::default() };
        let listed = Standing { weight: Some(50), listed: 1, ..Standing::default() };
        let unseen = Standing { weight: Some(50), ..Standing::default() };
        let one = ready(Some(1));
        for (other, lazy, gets) in [
            (loading, false, false),
            (failed, false, false),
            (unseen, false, false),
            (unseen, true, true),
            (loading, true, false),
            (listed, false, true),
            (ready(Some(50)), false, true),
            (ready(Some(0)), false, false),
            (ready(None), false, false),
        ] {
            let counts = count(&Split::new(&[(1, one), (2, other)], lazy), 1000);
            assert_eq!(counts.contains_key(&2), gets, "{other:?}");
        }
        // Where none is, their pods are asked all the same, and say what is wrong.
        let counts = count(&Split::new(&[(1, failed), (2, loading)], false), 1000);
        assert_eq!(counts.len(), 2);
    }

    #[test]
    fn without_weights_the_greatest_that_is_ready_answers() {
        let unseen = Standing::default();
        let choose = |versions: &[(u64, Standing)]| Split::new(versions, false).choose(u64::MAX / 3);
        assert_eq!(choose(&[(1, ready(None)), (2, ready(None)), (3, unseen)]), Some(2));
        assert_eq!(choose(&[(1, unseen), (3, unseen)]), Some(3));
        assert_eq!(choose(&[]), None);
    }
}
