//! How requests that name no version are led to a model's versions, and copies of them to one that is tried.
//!
//! Contract: each such request is answered by one of the weighted versions that can be asked, in proportion to their
//! weights; where none of them can be, by the greatest that can. A copy goes to the shadow version when the request has
//! been answered, at the lowest priority, and nobody waits for it; its answer is compared with the one that was returned,
//! counted and dropped. At most [`COPIES`] of a model are under way: further ones are counted as left out. Cost: a random
//! number for each request of a model that has weights; for one that is copied a clone of its tensors' handles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
pub use vespid_package::{Shadow, Traffic};
use vespid_types::{ModelName, Priority, Request, Response, Result, Tensor, Version};

use crate::predictor::Predictor;

/// Copies of requests to one model that may be under way.
const COPIES: usize = 16;

/// A model's traffic, and what came of the copies.
pub(crate) struct Route {
    traffic: Traffic,
    total: u64,
    counts: [AtomicU64; Outcome::ALL.len()],
    copies: Arc<Semaphore>,
}

/// What came of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both versions answered alike.
    Equal,
    /// They answered otherwise, or one failed and the other did not.
    Different,
    /// The shadow version did not answer where the other did.
    Failed,
    /// There was no room for the copy.
    LeftOut,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Equal, Self::Different, Self::Failed, Self::LeftOut];

    /// As metrics label it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Failed => "failed",
            Self::LeftOut => "left_out",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Equal => 0,
            Self::Different => 1,
            Self::Failed => 2,
            Self::LeftOut => 3,
        }
    }
}

/// What came of a model's copies since its traffic was last set.
#[derive(Clone, Debug)]
pub struct ShadowCounts {
    /// The model.
    pub name: ModelName,
    /// The version that was tried.
    pub version: Version,
    /// How many, by outcome.
    pub counts: [(Outcome, u64); Outcome::ALL.len()],
}

impl Default for Route {
    fn default() -> Self {
        Self::new(Traffic::default())
    }
}

impl Route {
    pub(crate) fn new(traffic: Traffic) -> Self {
        let total = traffic.weights.values().map(|weight| u64::from(weight.get())).sum();
        Self { traffic, total, counts: Default::default(), copies: Arc::new(Semaphore::new(COPIES)) }
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// A weighted version that can be asked; none where there is none.
    pub(crate) fn choose(&self, can_be_asked: impl Fn(Version) -> bool) -> Option<Version> {
        if self.total == 0 {
            return None;
        }
        let weights = &self.traffic.weights;
        // Most often all can be asked, and the first choice is the last.
        pick(weights.iter().map(|(version, weight)| (*version, weight.get())), self.total)
            .filter(|version| can_be_asked(*version))
            .or_else(|| {
                let there = weights.iter().filter(|(version, _)| can_be_asked(**version));
                let there: Vec<(Version, u32)> =
                    there.map(|(version, weight)| (*version, weight.get())).collect();
                let total = there.iter().map(|(_, weight)| u64::from(*weight)).sum();
                pick(there.into_iter(), total)
            })
    }

    pub(crate) fn counts(&self, name: &ModelName) -> Option<ShadowCounts> {
        let version = self.traffic.shadow.as_ref()?.version;
        let read = |outcome: Outcome| {
            let count = self.counts.get(outcome.index()).map(|count| count.load(Ordering::Relaxed));
            (outcome, count.unwrap_or_default())
        };
        Some(ShadowCounts { name: name.clone(), version, counts: Outcome::ALL.map(read) })
    }

    fn count(&self, outcome: Outcome) {
        if let Some(count) = self.counts.get(outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A copy of a request that is about to be answered by `answering`, where one is due.
    pub(crate) fn copy(self: &Arc<Self>, request: &Request, answering: Version) -> Option<Copy> {
        let shadow = self.traffic.shadow.as_ref()?;
        // Requests that name a version are tests of that one; of a sequence, one alone means nothing.
        let eligible =
            request.model.version.is_none() && request.sequence.is_none() && answering != shadow.version;
        if !eligible || fastrand::f64() * 100.0 >= shadow.percent {
            return None;
        }
        let mut request = request.clone();
        request.model.version = Some(shadow.version);
        request.priority = Priority::BATCH;
        // Not the caller's, who does not wait.
        request.deadline = None;
        Some(Copy { route: Arc::clone(self), request })
    }
}

/// The one of these that a number below `total` falls to.
fn pick(mut weights: impl Iterator<Item = (Version, u32)>, total: u64) -> Option<Version> {
    if total == 0 {
        return None;
    }
    let mut left = fastrand::u64(..total);
    let chosen = weights.find(|(_, weight)| {
        let weight = u64::from(*weight);
        let falls = left < weight;
        left = left.saturating_sub(weight);
        falls
    });
    chosen.map(|(version, _)| version)
}

/// A request for the shadow version.
pub(crate) struct Copy {
    route: Arc<Route>,
    request: Request,
}

impl Copy {
    /// Has the shadow version answer, and compares with how the request was answered. Returns at once.
    pub(crate) fn send(self, predictor: &Predictor, answered: &Result<Response>) {
        let Self { route, request } = self;
        let Ok(room) = Arc::clone(&route.copies).try_acquire_owned() else {
            return route.count(Outcome::LeftOut);
        };
        // What was wrong with the request, or overload, says nothing about versions.
        let Ok(answer) = answered else { return };
        let (predictor, answer) = (predictor.clone(), answer.clone());
        tokio::spawn(async move {
            let _room = room;
            let (name, version) = (request.model.name.clone(), request.model.version);
            let outcome = match predictor.ask(request).await {
                Ok(theirs) => compare(&answer, &theirs, route.tolerance()),
                Err(error) => {
                    tracing::debug!(model = %name, version = version.map(tracing::field::display), "shadow: {error}");
                    Outcome::Failed
                }
            };
            route.count(outcome);
        });
    }
}

impl Route {
    fn tolerance(&self) -> f64 {
        self.traffic.shadow.as_ref().map_or(0.0, |shadow| shadow.tolerance)
    }
}

fn compare(ours: &Response, theirs: &Response, tolerance: f64) -> Outcome {
    let same = ours.outputs.len() == theirs.outputs.len()
        && ours.outputs.iter().all(|one| {
            let other = theirs.outputs.iter().find(|other| other.name == one.name);
            other.is_some_and(|other| alike(&one.tensor, &other.tensor, tolerance))
        });
    if same { Outcome::Equal } else { Outcome::Different }
}

/// Whether a tensor may stand for another.
fn alike(one: &Tensor, other: &Tensor, tolerance: f64) -> bool {
    one.datatype() == other.datatype()
        && one.shape() == other.shape()
        && one.values().zip(other.values()).all(|(one, other)| one.is_close_to(&other, tolerance))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn version(number: u64) -> Version {
        number.to_string().parse().unwrap()
    }

    fn route(json: &str) -> Route {
        Route::new(Traffic::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn requests_are_shared_out_by_weight_among_those_that_can_be_asked() {
        let route = route(r#"{"weights": {"1": 90, "2": 10, "3": 900}}"#);
        let mut chosen = BTreeMap::new();
        for _ in 0..10_000 {
            *chosen.entry(route.choose(|asked| asked != version(3)).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(chosen.len(), 2);
        assert!((800..1200).contains(&chosen[&version(2)]), "{chosen:?}");
        assert_eq!(route.choose(|_| false), None);
        assert_eq!(Route::default().choose(|_| true), None);
    }
}
