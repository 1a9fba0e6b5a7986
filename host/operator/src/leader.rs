//! Which of several operators leads: a Lease of `coordination.k8s.io`, as Kubernetes' own controllers have it.
//!
//! Contract: whoever leads renews the lease, and stops leading when it could not for so long that another may have taken it: it
//! gives up before the lease runs out. Clocks of machines are not compared: who stands by counts from when it saw the last
//! change. Each write names the version that it changes, so that of two that take the lease one is refused.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Error};
use tokio::time::{Instant, sleep, timeout};

use crate::OperatorError;
use crate::error::code;

/// What the lease is called.
pub(crate) const LEASE: &str = "vespid-operator";

/// How long a lease holds that is not renewed.
const DURATION: Duration = Duration::from_secs(15);

/// After how long without a renewal its holder gives up.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often it is renewed, and how long one try may take.
const RENEW: Duration = Duration::from_secs(3);

/// Who wants to lead.
pub(crate) struct Candidate {
    api: Api<Lease>,
    identity: String,
}

/// Who leads.
pub(crate) struct Held {
    api: Api<Lease>,
    identity: String,
    lease: Lease,
}

impl Candidate {
    pub(crate) fn new(client: &Client, namespace: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), identity: identity.to_owned() }
    }

    /// Waits until it leads.
    pub(crate) async fn lead(self) -> Held {
        let mut changes = pin!(watch_object(self.api.clone(), LEASE).default_backoff());
        let mut seen: Option<Option<Lease>> = None;
        let mut since = Instant::now();
        loop {
            let free = seen.as_ref().map(|lease| free_after(lease.as_ref(), &self.identity));
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(lease)) => (seen, since) = (Some(lease), Instant::now()),
                    Some(Err(error)) => tracing::warn!("the watch of the lease failed and is begun anew: {error}"),
                    None => sleep(RENEW).await,
                },
                () = tokio::time::sleep_until(since + free.unwrap_or_default()), if free.is_some() => {
                    match self.take(seen.clone().flatten()).await {
                        Ok(lease) => return Held { api: self.api, identity: self.identity, lease },
                        Err(error) => tracing::info!("the lease was not taken: {error}"),
                    }
                    // Somebody else has it, which the watch tells, or the server is away.
                    since = Instant::now() + RENEW;
                }
            }
        }
    }

    async fn take(&self, before: Option<Lease>) -> Result<Lease, Error> {
        let taken = taken(before.clone(), &self.identity);
        match before {
            Some(_) => self.api.replace(LEASE, &PostParams::default(), &taken).await,
            None => self.api.create(&PostParams::default(), &taken).await,
        }
    }
}

/// How long after its last change a lease is free.
fn free_after(lease: Option<&Lease>, identity: &str) -> Duration {
    let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else { return Duration::ZERO };
    match spec.holder_identity.as_deref() {
        // It was given back, or is this one's from before it was started again.
        None | Some("") => Duration::ZERO,
        Some(holder) if holder == identity => Duration::ZERO,
        Some(_) => {
            let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            seconds.map_or(DURATION, Duration::from_secs)
        }
    }
}

/// The lease, when it is taken.
fn taken(before: Option<Lease>, identity: &str) -> Lease {
    let now = MicroTime(Timestamp::now());
    let named = ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() };
    let Lease { metadata, spec } = before.unwrap_or(Lease { metadata: named, spec: None });
    let spec = spec.unwrap_or_default();
    let again = spec.holder_identity.as_deref() == Some(identity);
    let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(!again);
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(identity.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..spec
        }),
    }
}

impl Held {
    /// Renews the lease until that fails; why.
    pub(crate) async fn hold(&mut self) -> OperatorError {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEW).await;
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            let reason = match timeout(left.min(RENEW), self.renew()).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    continue;
                }
                Ok(Ok(false)) => return lost("another operator has taken it"),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server does not answer".to_owned(),
            };
            tracing::warn!("the lease was not renewed: {reason}");
            if renewed.elapsed() >= DEADLINE {
                return lost(reason);
            }
        }
    }

    /// Renews it once; whether it is still this one's.
    async fn renew(&mut self) -> Result<bool, Error> {
        let mut lease = self.lease.clone();
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        match self.api.replace(LEASE, &PostParams::default(), &lease).await {
            Ok(lease) => self.lease = lease,
            // An earlier try of ours may have come through without its answer.
            Err(error) if matches!(code(&error), Some(404 | 409)) => match self.api.get_opt(LEASE).await? {
                Some(lease) if holder(&lease) == Some(self.identity.as_str()) => self.lease = lease,
                _ => return Ok(false),
            },
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Gives the lease back, so that another need not wait until it runs out.
    pub(crate) async fn release(mut self) {
        self.lease.spec.get_or_insert_default().holder_identity = Some(String::new());
        let params = PostParams::default();
        let given_back = self.api.replace(LEASE, &params, &self.lease);
        if let Ok(Err(error)) = timeout(RENEW, given_back).await.map_err(drop) {
            tracing::warn!("the lease was not given back, and runs out: {error}");
        }
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

fn lost(reason: impl Into<String>) -> OperatorError {
    OperatorError::Lease { lease: LEASE.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
