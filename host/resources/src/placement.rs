//! Which pods of a pool keep a model: rendezvous hashing.
//!
//! Contract: everyone who knows the names of the pods comes to the same order of them for a model, without talking to anyone; a
//! pod that comes or goes changes the order only where it stands itself (Thaler and Ravishankar, *A Name-Based Mapping Scheme for
//! Rendezvous*, 1996). Cost: one hash for each pod.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A model's key in the order of pods: a hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Placement(u64);

impl Placement {
    /// The key of a model.
    #[must_use]
    pub fn of(model: &str) -> Self {
        Self(xxh3_64_with_seed(model.as_bytes(), 0))
    }

    /// How high a pod stands for this model: the highest comes first.
    #[must_use]
    pub fn score(self, pod: &str) -> u64 {
        xxh3_64_with_seed(pod.as_bytes(), self.0)
    }
}

/// The pods in the order in which they are to have a model.
#[must_use]
pub fn rank<'a>(model: &str, pods: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let placement = Placement::of(model);
    let mut ranked: Vec<_> = pods.into_iter().map(|pod| (placement.score(pod), pod)).collect();
    ranked.sort_unstable_by(|one, other| other.cmp(one));
    ranked.into_iter().map(|(_, pod)| pod).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: [&str; 5] = ["pool-a", "pool-b", "pool-c", "pool-d", "pool-e"];

    #[test]
    fn a_pod_that_goes_moves_only_its_own_models() {
        for model in (0..1000).map(|number| format!("model-{number}")) {
            let all = rank(&model, PODS);
            let fewer = rank(&model, PODS.into_iter().filter(|pod| *pod != "pool-c"));
            assert_eq!(fewer, all.into_iter().filter(|pod| *pod != "pool-c").collect::<Vec<_>>());
        }
    }

    #[test]
    fn models_are_spread_evenly() {
        let mut first = std::collections::BTreeMap::new();
        for model in (0..5000).map(|number| format!("model-{number}")) {
            *first.entry(rank(&model, PODS)[0].to_owned()).or_insert(0) += 1;
        }
        // 1000 each; the standard deviation is 28.
        assert!(first.values().all(|count| (850..=1150).contains(count)), "{first:?}");
    }

    #[test]
    fn the_order_is_the_same_in_every_release() {
        // Pods of two releases stand side by side while one is rolled out.
        assert_eq!(rank("iris", PODS), ["pool-a", "pool-b", "pool-c", "pool-e", "pool-d"]);
    }
}
