//! A call's way to a pod: which version, which pod, and another where the first does not answer.
//!
//! Contract: a call is sent again where no pod has answered it (its connection was not made, or broke before the head of an answer)
//! or a pod refused it at its door, as hosts say by a header when they are full or end, or does not know the model yet, to a pod that
//! has not had it, as long as all of its body is still there and the pool's budget lasts. Predictions may be repeated: a plugin sees
//! nothing but its input. Those of a key (sequences) may not, and are only sent again where the pod has not heard of them. Where no
//! pod is left but full ones, the call is held (`wake`). The last refusal of a pod goes to the client as the pod said it.

use std::mem;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::sync::watch;
use vespid_types::{Error, ErrorCode};

use crate::balance::{Picked, Wanted};
use crate::clock;
use crate::error::{GRPC_STATUS, REFUSED};
use crate::gateway::Shared;
use crate::headers;
use crate::pods::{Pod, Pool, Protocol, Taken};
use crate::replay::Source;
use crate::table::{Route, Table};
use crate::upstream::{Head, Unanswered};
use crate::wake::Held;

/// Pods that have a call at most, before it waits and each time that it has waited.
const ATTEMPTS: usize = 5;

/// Why it is sent again where a pod has not heard of the model.
const UNKNOWN: &str = "unknown";

/// Whom a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A pod that serves this model.
    Model { name: String, version: Option<u64> },
    /// Any pod.
    Any,
}

/// A call.
pub(crate) struct Call {
    pub(crate) protocol: Protocol,
    pub(crate) destination: Destination,
    /// What leads all calls that have it to one pod.
    pub(crate) key: Option<String>,
    pub(crate) head: Head,
    pub(crate) source: Source,
    /// What decides about the version.
    pub(crate) draw: u64,
}

/// A pod's answer.
pub(crate) struct Answered {
    pub(crate) response: Response<Body>,
    pub(crate) taken: Taken,
    pub(crate) pool: String,
}

/// Where the table leads a call.
struct Way {
    pool: Arc<Pool>,
    route: Option<Arc<Route>>,
    version: Option<u64>,
}

/// What has come of a call so far.
#[derive(Default)]
struct Progress {
    /// Since it waited last.
    tried: Vec<Arc<Pod>>,
    is_counted: bool,
    /// The last refusal.
    refused: Option<Answered>,
    /// Whether that was of a pod that has not heard of the model.
    is_unknown: bool,
    failed: Option<Unanswered>,
    held: Option<Held>,
}

/// What came of an attempt.
enum Outcome {
    Answered(Answered),
    /// The pod has refused it, and why.
    Refused(Answered, &'static str),
    Failed(Unanswered),
}

impl Shared {
    /// Has a call answered.
    ///
    /// # Errors
    /// Where no pod answers it, or what is wrong with its body.
    pub(crate) async fn dispatch(&self, call: &Call) -> Result<Answered, Error> {
        let mut progress = Progress::default();
        // Before the table is looked at, so that no change is missed.
        let mut changes = self.routes.changes();
        loop {
            let table = self.routes.load();
            let way = Way::find(&table, call)?;
            drop(table);
            if !mem::replace(&mut progress.is_counted, true) {
                self.holds.asked(&way.pool);
                way.pool.shared.called();
            }
            let Some(picked) = way.pick(self, call, &progress.tried) else {
                // Where pods are full it does not wait, for there are pods; one that has not heard of the model yet will.
                if let Some(refused) = progress.refused.take_if(|_| !progress.is_unknown) {
                    return Ok(refused);
                }
                if let Err(error) = self.wait(call, &way.pool, &mut progress, &mut changes).await {
                    return progress.refused.take().ok_or(error);
                }
                continue;
            };
            let pod = Arc::clone(&picked.pod);
            progress.tried.push(Arc::clone(&pod));
            match self.attempt(call, &way, picked).await {
                Outcome::Answered(answered) => {
                    if let Some(held) = &mut progress.held {
                        held.served();
                    }
                    call.source.forget();
                    return Ok(answered);
                }
                Outcome::Refused(answered, why) => {
                    if !self.may_repeat(call, &way.pool, &progress, call.key.is_none(), why) {
                        return Ok(answered);
                    }
                    (progress.refused, progress.is_unknown) = (Some(answered), why == UNKNOWN);
                }
                Outcome::Failed(failed) => {
                    if let Some(fault) = call.source.fault() {
                        return Err(fault);
                    }
                    let is_safe = failed.is_unheard || call.key.is_none();
                    if !self.may_repeat(call, &way.pool, &progress, is_safe, "connection") {
                        return Err(unanswered(&pod, &failed));
                    }
                    progress.failed = Some(failed);
                }
            }
        }
    }

    fn may_repeat(&self, call: &Call, pool: &Pool, progress: &Progress, is_safe: bool, after: &str) -> bool {
        if !is_safe || progress.tried.len() >= ATTEMPTS || !call.source.can_be_sent_again() {
            return false;
        }
        if !pool.shared.may_retry() {
            self.metrics.refused_retry(&pool.name);
            return false;
        }
        self.metrics.retried(&pool.name, after);
        true
    }

    /// No pod is left: waits for one.
    async fn wait(
        &self,
        call: &Call,
        pool: &Arc<Pool>,
        progress: &mut Progress,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<(), Error> {
        let held = match &mut progress.held {
            Some(held) => held,
            held => held.insert(self.holds.begin(pool)?),
        };
        let changed = async {
            // What changes elsewhere is no reason to ask the same pods again.
            while changes.changed().await.is_ok() {
                let way = Way::find(&self.routes.load(), call);
                if !way.is_ok_and(|way| Arc::ptr_eq(&way.pool, pool)) {
                    return;
                }
            }
        };
        let waited = self.holds.wait(held, pool, changed).await;
        waited.map_err(|error| match (&progress.failed, progress.tried.last()) {
            (Some(failed), Some(pod)) => unanswered(pod, failed),
            _ => error,
        })?;
        if let Some(fault) = call.source.fault() {
            return Err(fault);
        }
        // Those that did not answer may do so now.
        progress.tried.clear();
        Ok(())
    }

    async fn attempt(&self, call: &Call, way: &Way, picked: Picked) -> Outcome {
        let Picked { pod, is_warm } = picked;
        let taken = pod.take();
        if way.version.is_some() {
            self.metrics.called(&way.pool.name, is_warm);
        }
        let Some(authority) = pod.authority(call.protocol) else {
            return Outcome::Failed(Unanswered {
                is_unheard: true,
                reason: "it has no such port".to_owned(),
            });
        };
        let mut sent = call.head.headers.clone();
        if let (Some(version), Destination::Model { version: None, .. }) = (way.version, &call.destination) {
            sent.insert(headers::VERSION, HeaderValue::from(version));
        }
        let answer =
            self.upstream.send(call.protocol, authority, &call.head, sent, call.source.attempt()).await;
        let response = match answer {
            Ok(response) => response,
            Err(failed) => {
                if call.source.fault().is_none() {
                    tracing::debug!(pod = %pod.name, "no answer: {}", failed.reason);
                    self.pod_failed(&way.pool, &pod);
                }
                return Outcome::Failed(failed);
            }
        };
        let verdict = Verdict::of(call.protocol, response.status(), response.headers());
        if verdict == Verdict::Broken {
            self.pod_failed(&way.pool, &pod);
        } else {
            pod.health.succeeded(clock::now());
        }
        let mut response = response.map(Body::new);
        headers::end_hop(response.headers_mut());
        let answered = Answered { response, taken, pool: way.pool.name.clone() };
        match verdict {
            // It may have heard less from the API server than the gateway has.
            Verdict::Unknown if way.route.is_some() && !is_warm => Outcome::Refused(answered, UNKNOWN),
            Verdict::Good | Verdict::Unknown => Outcome::Answered(answered),
            Verdict::Refused | Verdict::Broken => Outcome::Refused(answered, "refused"),
        }
    }

    fn pod_failed(&self, pool: &Pool, pod: &Pod) {
        let now = clock::now();
        if let Some(time) = pod.health.failed(now, || pool.has_room_to_eject(now)) {
            self.metrics.ejected(&pool.name);
            tracing::warn!(pool = %pool.name, pod = %pod.name, "it does not answer, and gets no calls for {time:?}");
        }
    }
}

/// What an answer says of its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It is well, and has no room, or is about to end.
    Refused,
    /// It does not know the model.
    Unknown,
    /// Something between here and the host answered in its place.
    Broken,
}

impl Verdict {
    fn of(protocol: Protocol, status: StatusCode, headers: &HeaderMap) -> Self {
        let (mark, elsewhere) = REFUSED;
        // An answer over gRPC that is nothing but a status has it in its headers.
        let not_found = HeaderValue::from(u16::from(ErrorCode::NotFound.grpc_status()));
        match (protocol, status) {
            _ if headers.get(mark) == Some(&elsewhere) => Self::Refused,
            // The host itself, or the plugin, cannot do it now.
            (Protocol::Http, StatusCode::SERVICE_UNAVAILABLE)
                if headers.contains_key(header::RETRY_AFTER) =>
            {
                Self::Good
            }
            (_, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE) => Self::Broken,
            (Protocol::Http, StatusCode::NOT_FOUND) => Self::Unknown,
            (Protocol::Grpc, _) if headers.get(GRPC_STATUS) == Some(&not_found) => Self::Unknown,
            _ => Self::Good,
        }
    }
}

fn unanswered(pod: &Pod, Unanswered { reason, .. }: &Unanswered) -> Error {
    Error::new(ErrorCode::Unavailable, format!("pod '{}' does not answer: {reason}", pod.name))
}

impl Way {
    fn find(table: &Table, call: &Call) -> Result<Self, Error> {
        let (name, asked) = match &call.destination {
            Destination::Any => return Self::anywhere(table, call.protocol),
            Destination::Model { name, version } => (name, *version),
        };
        let route = table.route(name)?;
        if let Some(version) = asked {
            route.version(version)?;
        }
        let version = asked.or_else(|| route.split.choose(call.draw));
        Ok(Self { pool: Arc::clone(&route.pool), route: Some(Arc::clone(route)), version })
    }

    /// The first pool that has a pod.
    fn anywhere(table: &Table, protocol: Protocol) -> Result<Self, Error> {
        let serves = |pool: &&Arc<Pool>| pool.open().any(|member| member.pod.authority(protocol).is_some());
        let pool = table.pools.values().find(serves).or_else(|| table.pools.values().next());
        let none = || Error::new(ErrorCode::Unavailable, "there is no pool: create a ModelPool");
        Ok(Self { pool: Arc::clone(pool.ok_or_else(none)?), route: None, version: None })
    }

    fn pick(&self, shared: &Shared, call: &Call, tried: &[Arc<Pod>]) -> Option<Picked> {
        let any: Vec<usize>;
        let (order, warm) = match &self.route {
            Some(route) => {
                let version = self.version.and_then(|version| route.versions.get(&version));
                (route.order.as_slice(), version.map(|version| version.warm.as_slice()).unwrap_or_default())
            }
            None => {
                any = (0..self.pool.members.len()).collect();
                (any.as_slice(), [].as_slice())
            }
        };
        let (pool, protocol, bound, now) = (&*self.pool, call.protocol, shared.options.bound, clock::now());
        let wanted = Wanted { pool, order, warm, protocol, tried, bound, now };
        match (&call.key, &self.route) {
            (Some(key), Some(route)) => wanted.pick_for(route.name(), key),
            _ => wanted.pick(),
        }
    }
}

impl Table {
    /// The way to a model.
    ///
    /// # Errors
    /// `NOT_FOUND`, in the words that Triton's clients look for.
    pub(crate) fn route(&self, name: &str) -> Result<&Arc<Route>, Error> {
        let unknown = || {
            // What a client sent, as long as a name may be.
            let name: String = name.chars().take(128).collect();
            Error::new(ErrorCode::NotFound, format!("Request for unknown model: '{name}' is not found"))
        };
        self.routes.get(name).ok_or_else(unknown)
    }
}

impl Route {
    /// Checks that the model has a version.
    ///
    /// # Errors
    /// `NOT_FOUND`, with those that it has.
    pub(crate) fn version(&self, version: u64) -> Result<&crate::table::VersionRoute, Error> {
        let unknown = || {
            let known: Vec<_> = self.versions.keys().map(u64::to_string).collect();
            let (name, known) = (self.name(), known.join(", "));
            let message = format!(
                "Request for unknown model: '{name}' version {version} is not found; its versions are {known}"
            );
            Error::new(ErrorCode::NotFound, message)
        };
        self.versions.get(&version).ok_or_else(unknown)
    }
}
