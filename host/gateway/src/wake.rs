//! Pools without a pod: woken, and their calls held for a bounded time.
//!
//! Contract: a call for which no pod is ready waits for the pool to change; of a pool that may have no pods, which is woken by its
//! status ([`Stamp::Wake`]), as long as `wake`; of any other, whose pods are being replaced, as long as `hold`. So many of a pool wait
//! at most, and so many in all; further ones are refused at once. A pool that may sleep is told once a minute that it is asked
//! ([`Stamp::Asked`]), or still answers, from which the operator knows when it is idle. Cost: a call that is held costs its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, interval, timeout_at};
use vespid_types::{Error, ErrorCode};

use crate::clock;
use crate::cluster::{Cluster, Stamp};
use crate::metrics::Metrics;
use crate::pods::{Pool, PoolState};
use crate::table::Routes;

/// How often a pool is told that it is asked, in milliseconds.
const ASKED_EVERY: u64 = 60_000;

/// How often it is seen whether its pods have calls, which it is told as well.
const LOOK: Duration = Duration::from_secs(10);

/// How often it is told to wake while calls wait, in milliseconds.
const WAKE_EVERY: u64 = 10_000;

/// When what could not be written is tried again, in milliseconds.
const AGAIN: u64 = 2_000;

/// Of how many pools there may be as many calls as may be of one.
const POOLS: usize = 4;

/// How long calls are held.
#[derive(Clone, Copy, Debug)]
pub struct HoldOptions {
    /// For a pool that is woken.
    pub wake: Duration,
    /// For a pool whose pods are being replaced.
    pub hold: Duration,
    /// How many of a pool at once; four times as many of all pools.
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
    _places: (Place, OwnedSemaphorePermit),
}

/// A place among those of a pool.
struct Place(Arc<PoolState>);

impl Place {
    fn take(pool: &Pool, max: usize) -> Option<Self> {
        let place = Self(Arc::clone(&pool.shared));
        (place.0.held.fetch_add(1, Relaxed) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.held.with_label_values(&[&self.pool]).dec();
        self.metrics.hold_ended(&self.pool, self.outcome);
    }
}

impl Holds {
    pub(crate) fn new(options: HoldOptions, cluster: Option<Cluster>, metrics: Metrics) -> Self {
        let places = options.max.saturating_mul(POOLS).min(Semaphore::MAX_PERMITS);
        Self { options, places: Arc::new(Semaphore::new(places)), cluster, metrics }
    }

    /// A call of this pool has come.
    pub(crate) fn asked(&self, pool: &Pool) {
        if pool.may_sleep && is_due(&pool.shared.asked, ASKED_EVERY) {
            self.stamp(pool, Stamp::Asked);
        }
    }

    /// Pools are asked as long as their pods have calls, however long ago these came. For ever.
    pub(crate) async fn keep_awake(&self, routes: &Routes) {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let table = routes.load();
            let busy = |pool: &&Arc<Pool>| pool.members.iter().any(|member| member.pod.in_flight() > 0);
            table.pools.values().filter(busy).for_each(|pool| self.asked(pool));
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
        let place = Place::take(pool, self.options.max);
        let places = place.zip(Arc::clone(&self.places).try_acquire_owned().ok());
        let full = || {
            Error::refused(format!(
                "pool '{name}' has no pod that is ready, and as many calls wait for pods as may"
            ))
        };
        let places = places.ok_or_else(full)?;
        let time = if self.is_asleep(pool) { self.options.wake } else { self.options.hold };
        self.metrics.held.with_label_values(&[name]).inc();
        let metrics = self.metrics.clone();
        Ok(Held {
            until: Instant::now() + time,
            pool: name.clone(),
            metrics,
            outcome: "left",
            _places: places,
        })
    }

    fn is_asleep(&self, pool: &Pool) -> bool {
        pool.may_sleep && self.cluster.is_some() && pool.open().next().is_none()
    }

    /// Waits until there is a reason to look again: the pool has `changed`, or a while has passed.
    ///
    /// # Errors
    /// Where the call's time is up.
    pub(crate) async fn wait(
        &self,
        held: &mut Held,
        pool: &Pool,
        changed: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let asleep = self.is_asleep(pool);
        if asleep && is_due(&pool.shared.woken, WAKE_EVERY) {
            self.metrics.woken(&pool.name);
            self.stamp(pool, Stamp::Wake);
        }
        if Instant::now() >= held.until {
            held.outcome = "given_up";
            return Err(no_pod(&pool.name, asleep));
        }
        // Looked at from time to time as well: its status may have to be written again, and an ejected pod may be back.
        let soon = Instant::now() + Duration::from_millis(AGAIN);
        let _ = timeout_at(soon.min(held.until), changed).await;
        Ok(())
    }

    /// Writes it, beside the call.
    fn stamp(&self, pool: &Pool, stamp: Stamp) {
        let Some(cluster) = self.cluster.clone() else { return };
        let (name, shared) = (pool.name.clone(), Arc::clone(&pool.shared));
        tokio::spawn(async move {
            if let Err(error) = cluster.stamp(&name, stamp).await {
                tracing::warn!(pool = %name, "status.{} cannot be written: {error}", stamp.field());
                let (last, every) = match stamp {
                    Stamp::Asked => (&shared.asked, ASKED_EVERY),
                    Stamp::Wake => (&shared.woken, WAKE_EVERY),
                };
                last.store((clock::now() + AGAIN).saturating_sub(every), Relaxed);
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
