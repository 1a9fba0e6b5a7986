//! How many pods a pool is to have, as far as that is the operator's to say.
//!
//! Contract: without autoscaling the operator says it; with it the autoscaler does, which however never begins with none and never
//! ends with none. So the operator takes the last pods away where nothing was asked for long enough, and puts the first one there.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use vespid_resources::ModelPool;

/// How much later than its status says a pool may have been asked: the gateway writes no more often.
const ASKED_EVERY: Duration = Duration::from_secs(60);

/// How many pods there are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// How many; none where that is an autoscaler's to say.
    pub(crate) replicas: Option<i32>,
    /// Whether there are to be none until somebody asks.
    pub(crate) asleep: bool,
    /// When to look again, where nothing changes.
    pub(crate) again: Option<Duration>,
}

/// How many there are to be of a pool whose Deployment says `current`.
pub(crate) fn wanted(pool: &ModelPool, current: Option<i32>, now: Timestamp) -> Wanted {
    let Some(scaling) = &pool.spec.autoscaling else {
        return Wanted { replicas: Some(pool.spec.replicas.unwrap_or(1)), ..Wanted::default() };
    };
    let none = current == Some(0);
    if scaling.min_replicas > 0 {
        return Wanted { replicas: none.then_some(scaling.min_replicas), ..Wanted::default() };
    }
    let idle = Duration::from_secs(scaling.idle_seconds.max(0).unsigned_abs().into()) + ASKED_EVERY;
    let quiet =
        now.duration_since(last_asked(pool)).max(k8s_openapi::jiff::SignedDuration::ZERO).unsigned_abs();
    match idle.checked_sub(quiet).filter(|left| !left.is_zero()) {
        Some(left) => Wanted { replicas: none.then_some(1), asleep: false, again: Some(left) },
        None => Wanted { replicas: Some(0), asleep: true, again: None },
    }
}

/// When the pool was last asked, as far as is known: at the latest when it was made, so that it has a pod to begin with.
fn last_asked(pool: &ModelPool) -> Timestamp {
    let said = pool.status.iter().flat_map(|status| [&status.wake, &status.asked]);
    let known = said.chain([&pool.metadata.creation_timestamp]).flatten();
    known.map(|time| time.0).max().unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MADE: &str = "2026-01-01T00:00:00Z";

    fn pool(spec: &Value, status: &Value) -> ModelPool {
        serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool",
            "metadata": {"name": "default", "creationTimestamp": MADE},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        MADE.parse::<Timestamp>().unwrap() + Duration::from_secs(seconds.unsigned_abs())
    }

    #[test]
    fn without_autoscaling_the_pool_says_it() {
        let nothing = wanted(&pool(&json!({}), &json!({})), Some(7), at(0));
        assert_eq!(nothing, Wanted { replicas: Some(1), ..Wanted::default() });
        assert_eq!(wanted(&pool(&json!({"replicas": 0}), &json!({})), None, at(0)).replicas, Some(0));
    }

    #[test]
    fn an_autoscaler_is_left_alone_but_for_the_first_pod() {
        let pool = pool(&json!({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}}), &json!({}));
        assert_eq!(wanted(&pool, None, at(0)), Wanted::default());
        assert_eq!(wanted(&pool, Some(4), at(0)), Wanted::default());
        assert_eq!(wanted(&pool, Some(0), at(0)).replicas, Some(2));
    }

    #[test]
    fn the_last_pod_goes_when_nothing_was_asked_and_comes_when_something_is() {
        let scaling = json!({"autoscaling": {"minReplicas": 0, "maxReplicas": 5, "idleSeconds": 600}});
        let new = pool(&scaling, &json!({}));
        assert_eq!(wanted(&new, Some(1), at(0)).again, Some(Duration::from_secs(660)));
        assert_eq!(wanted(&new, Some(3), at(659)).replicas, None, "it is the autoscaler's");
        let asleep = Wanted { replicas: Some(0), asleep: true, again: None };
        assert_eq!(wanted(&new, Some(1), at(660)), asleep);
        let asked = pool(&scaling, &json!({"asked": "2026-01-01T00:10:00Z"}));
        assert!(!wanted(&asked, Some(1), at(660)).asleep);
        assert_eq!(wanted(&asked, Some(1), at(1260)), asleep);
        let woken =
            pool(&scaling, &json!({"wake": "2026-01-01T01:00:00.9Z", "asked": "2026-01-01T00:10:00Z"}));
        let wanted = wanted(&woken, Some(0), at(3601));
        assert_eq!((wanted.replicas, wanted.again), (Some(1), Some(Duration::from_millis(659_900))));
    }
}
