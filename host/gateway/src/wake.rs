//! Pools without a pod: woken, and their calls held for a bounded time.
//!
//! Contract: a call for which no pod is ready waits for the table to change; of a pool that may have no pods, which is woken by the
//! annotation [`names::WAKE_ANNOTATION`], as long as `wake`; of any other, whose pods are being replaced, as long as `hold`. So many
//! wait at most; further ones are refused at once. A pool that may sleep is told once a minute that it is asked
//! ([`names::ASKED_ANNOTATION`]), from which the operator knows when it is idle. Cost: a call that is held costs its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use vespid_resources::names;
use vespid_types::{Error, ErrorCode};

use crate::clock;
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::pods::Pool;

/// How often a pool is told that it is asked, in milliseconds.
const ASKED_EVERY: u64 = 60_000;

/// How often it is told to wake while calls wait, in milliseconds.
const WAKE_EVERY: u64 = 10_000;

/// When an annotation that could not be written is tried again, in milliseconds.
const AGAIN: u64 = 2_000;

/// How long calls are held.
#[derive(Clone, Copy, Debug)]
pub struct HoldOptions {
    /// For a pool that is woken.
    pub wake: Duration,
    /// For a pool whose pods are being replaced.
    pub hold: Duration,
    /// How many at once.
    pub max: usize,
}

impl Default for HoldOptions {
    fn default() -> Self {
        Self { wake: Duration::from_secs(60), hold: Duration::from_secs(5), max: 256 }
    }
}

/// Where calls wait.
pub(crate) struct Holds {
    options: HoldOptions,
    places: Arc<Semaphore>,
    cluster: Option<Cluster>,
    metrics: Metrics,
}

/// A call that waits.
pub(crate) struct Held {
    until: Instant,
    pool: String,
    metrics: Metrics,
    outcome: &'static str,
    _place: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.held.with_label_values(&[&self.pool]).dec();
        self.metrics.hold_ended(&self.pool, self.outcome);
    }
}

impl Holds {
    pub(crate) fn new(options: HoldOptions, cluster: Option<Cluster>, metrics: Metrics) -> Self {
        Self { options, places: Arc::new(Semaphore::new(options.max)), cluster, metrics }
    }

    /// A call of this pool has come.
    pub(crate) fn asked(&self, pool: &Pool) {
        if pool.may_sleep && is_due(&pool.shared.asked, ASKED_EVERY) {
            self.stamp(pool, names::ASKED_ANNOTATION, |shared| &shared.asked, ASKED_EVERY);
        }
    }

    /// Begins to hold a call for which the pool has no pod.
    ///
    /// # Errors
    /// Where waiting is of no use, or as many wait as may.
    pub(crate) fn begin(&self, pool: &Pool) -> Result<Held, Error> {
        let unavailable = |message: String| Error::new(ErrorCode::Unavailable, message);
        let name = &pool.name;
        if !pool.is_known && pool.members.is_empty() {
            return Err(unavailable(format!(
                "the model's pool '{name}' does not exist: create a ModelPool of that name, or name another in the Model"
            )));
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message =
                format!("pool '{name}' has no pod that is ready, and as many calls wait for pods as may");
            unavailable(message)
        })?;
        let time = if self.is_asleep(pool) { self.options.wake } else { self.options.hold };
        self.metrics.held.with_label_values(&[name]).inc();
        let metrics = self.metrics.clone();
        Ok(Held { until: Instant::now() + time, pool: name.clone(), metrics, outcome: "left", _place: place })
    }

    fn is_asleep(&self, pool: &Pool) -> bool {
        pool.may_sleep && self.cluster.is_some() && pool.open().next().is_none()
    }

    /// Waits until there is a reason to look again.
    ///
    /// # Errors
    /// Where the call's time is up.
    pub(crate) async fn wait(
        &self,
        held: &mut Held,
        pool: &Pool,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<(), Error> {
        let asleep = self.is_asleep(pool);
        if asleep && is_due(&pool.shared.woken, WAKE_EVERY) {
            self.metrics.woken(&pool.name);
            self.stamp(pool, names::WAKE_ANNOTATION, |shared| &shared.woken, WAKE_EVERY);
        }
        if Instant::now() >= held.until {
            held.outcome = "given_up";
            return Err(no_pod(&pool.name, asleep));
        }
        // Looked at from time to time as well: an annotation may have to be written again, and an ejected pod may be back.
        let soon = Instant::now() + Duration::from_millis(AGAIN);
        let _ = timeout_at(soon.min(held.until), changes.changed()).await;
        Ok(())
    }

    /// Writes an annotation, beside the call.
    fn stamp(
        &self,
        pool: &Pool,
        annotation: &'static str,
        last: impl Fn(&crate::pods::PoolState) -> &AtomicU64 + Send + 'static,
        every: u64,
    ) {
        let Some(cluster) = self.cluster.clone() else { return };
        let (name, shared) = (pool.name.clone(), Arc::clone(&pool.shared));
        tokio::spawn(async move {
            if let Err(error) = cluster.stamp(&name, annotation).await {
                tracing::warn!(pool = %name, "the annotation {annotation} cannot be written: {error}");
                last(&shared).store((clock::now() + AGAIN).saturating_sub(every), Relaxed);
            }
        });
    }
}

impl Held {
    /// A pod answers it.
    pub(crate) fn served(&mut self) {
        self.outcome = "served";
    }
}

/// Whether it is time again, which one caller is told.
fn is_due(last: &AtomicU64, every: u64) -> bool {
    let (now, before) = (clock::now(), last.load(Relaxed));
    let due = before == 0 || now >= before.saturating_add(every);
    due && last.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
}

fn no_pod(pool: &str, asleep: bool) -> Error {
    let message = if asleep {
        format!("pool '{pool}' has no pods and was not up in time: see its status, and the operator's log")
    } else {
        format!("pool '{pool}' has no pod that is ready: see `kubectl get modelpool {pool}`")
    };
    Error::new(ErrorCode::Unavailable, message)
}
