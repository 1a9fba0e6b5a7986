//! A provider, and its keys as they are known.
//!
//! Contract: one task asks the provider (`run`): every ten minutes or as often as it says, between one minute and an hour; sooner where
//! it failed, after 1 s and growing to 60 s; and where a token names a key that is not known, at most once in 10 s, however many
//! such tokens come. Who needs the answer waits for that one attempt, for 5 s at most. Keys are used for a day after the last answer, for a
//! provider that is down is no reason to turn everybody away; after that, and where there never was an answer, its tokens cannot
//! be checked. Cost of a key that is known: two loads and a look-up.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::Timing;
use super::fetch::{Fetched, Fetcher};
use super::keyset::KeySet;
use crate::config::ProviderConfig;
use crate::count::{Count, Counts};
use crate::{AccessError, Denied};

/// A provider, and its keys as they are known.
pub(crate) struct Provider {
    config: ProviderConfig,
    fetcher: Fetcher,
    timing: Timing,
    counts: Arc<Counts>,
    known: ArcSwapOption<Known>,
    progress: watch::Sender<Progress>,
    wanted: Notify,
}

struct Known {
    keys: Arc<KeySet>,
    confirmed: Instant,
}

/// Of the attempts at the provider.
#[derive(Clone, Copy)]
struct Progress {
    is_running: bool,
    ended: Option<Instant>,
    attempts: u64,
    has_failed: bool,
}

/// A key that is known.
pub(super) struct Found {
    pub(super) key: DecodingKey,
    pub(super) generation: u64,
}

impl Provider {
    pub(super) fn new(
        config: ProviderConfig,
        timing: Timing,
        counts: Arc<Counts>,
    ) -> Result<Self, AccessError> {
        // The first attempt is about to be made: who comes before its end waits for it.
        let progress = Progress { is_running: true, ended: None, attempts: 0, has_failed: false };
        Ok(Self {
            fetcher: Fetcher::new(&config, &timing)?,
            config,
            timing,
            counts,
            known: ArcSwapOption::empty(),
            progress: watch::Sender::new(progress),
            wanted: Notify::new(),
        })
    }

    pub(super) fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Which keys are known; none where they are not, or are too old.
    pub(super) fn generation(&self) -> Option<u64> {
        let known = self.known.load();
        known.as_ref().filter(|known| self.is_fresh(known)).map(|known| known.keys.generation)
    }

    fn is_fresh(&self, known: &Known) -> bool {
        known.confirmed.elapsed() < self.timing.stale
    }

    /// The key of that name for that algorithm. One that is not known may be new: the provider is asked.
    pub(super) async fn key(&self, name: &str, algorithm: Algorithm) -> Result<Found, Denied> {
        if let Some(found) = self.look(name, algorithm) {
            return found;
        }
        self.ask().await;
        match self.look(name, algorithm) {
            Some(found) => found,
            None if self.generation().is_none() || self.progress.borrow().has_failed => {
                Err(Denied::ProviderUnavailable)
            }
            None => Err(Denied::UnknownKey),
        }
    }

    fn look(&self, name: &str, algorithm: Algorithm) -> Option<Result<Found, Denied>> {
        let known = self.known.load();
        let known = known.as_ref().filter(|known| self.is_fresh(known))?;
        let found = known.keys.find(name, algorithm)?;
        Some(found.map(|key| Found { key: key.clone(), generation: known.keys.generation }))
    }

    /// Waits for the attempt that is being made, or for a new one, where it is time for one.
    async fn ask(&self) {
        let mut progress = self.progress.subscribe();
        let before = *progress.borrow_and_update();
        if !before.is_running {
            if !self.is_time(&before) {
                return;
            }
            self.wanted.notify_one();
        }
        let ended = progress.wait_for(|now| now.attempts > before.attempts);
        // Who has waited for long enough goes on with what is known.
        let _ = timeout(self.timing.patience, ended).await;
    }

    fn is_time(&self, progress: &Progress) -> bool {
        progress.ended.is_none_or(|ended| ended.elapsed() >= self.timing.unknown_key)
    }

    /// Asks the provider again and again.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut retries = self.retries();
        loop {
            self.progress.send_modify(|progress| progress.is_running = true);
            let fetched = self.fetcher.fetch().await;
            let has_failed = fetched.is_err();
            let wait = match fetched {
                Ok(fetched) => {
                    retries = self.retries();
                    self.learn(&fetched)
                }
                Err(reason) => {
                    self.counts.add(Count::ProviderFailed);
                    let issuer = &self.config.issuer;
                    tracing::warn!(issuer, reason, "the keys of a provider cannot be fetched; trying again");
                    retries.next().unwrap_or(self.timing.longest_retry)
                }
            };
            self.progress.send_modify(|progress| {
                let (ended, attempts) = (Some(Instant::now()), progress.attempts + 1);
                *progress = Progress { is_running: false, ended, attempts, has_failed };
            });
            self.pause(wait).await;
        }
    }

    /// Until so much later, or until a token needs it, where it is time.
    async fn pause(&self, wait: Duration) {
        let due = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.wanted.notified() => {
                    if self.is_time(&self.progress.borrow()) {
                        return;
                    }
                }
            }
        }
    }

    /// Takes the keys, and says when to look again. Keys that are as they were stay the same set.
    fn learn(&self, fetched: &Fetched) -> Duration {
        let mut keys = KeySet::new(&fetched.keys);
        let before = self.known.load_full();
        let keys = match before {
            Some(known) if known.keys.fingerprint == keys.fingerprint => Arc::clone(&known.keys),
            before => {
                keys.generation = before.map_or(0, |known| known.keys.generation + 1);
                let (issuer, count) = (&self.config.issuer, keys.len());
                match count {
                    0 => tracing::warn!(
                        issuer,
                        "a provider has no key that can be used: none of its tokens is taken"
                    ),
                    _ => tracing::info!(issuer, count, "keys of a provider"),
                }
                Arc::new(keys)
            }
        };
        self.known.store(Some(Arc::new(Known { keys, confirmed: Instant::now() })));
        let Timing { refresh, refresh_least, refresh_most, .. } = self.timing;
        fetched.max_age.map_or(refresh, |age| age.clamp(refresh_least, refresh_most))
    }

    fn retries(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.timing.first_retry)
            .with_max_delay(self.timing.longest_retry)
            .with_jitter()
            .without_max_times()
            .build()
    }
}
