//! What a pod says of its models, in their statuses.
//!
//! Contract: each pod owns its own entry of `status.pods`, by server-side apply under a name of its own, and writes it when it is
//! otherwise than what the API server holds: never for a request. What changes within [`TOGETHER`] is written once. A version that
//! was never in memory here and is not to be is not told: there are as many entries as there are pods that have a model. On the way
//! out the entries go. Cost: a comparison with each change. Left out on purpose: what comes of all pods' entries together, which the
//! operator says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::watch;
use vespid_resources::{Model, PodModel, PodVersion, PodVersionState};
use vespid_serving::{IndexEntry, State as Indexed};
use vespid_types::Digest;

use super::plan::Identity;
use super::state::{Key, State};
use super::watch::View;

/// How long changes wait for others.
const TOGETHER: Duration = Duration::from_millis(200);

/// When what could not be written is written again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long a pod that goes takes back what it said.
const LEAVING: Duration = Duration::from_secs(5);

/// How long the API server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Statuses that are written at once.
const AT_ONCE: usize = 8;

/// How much of a message is told.
const MESSAGE: usize = 1024;

/// What is to be said, by model.
pub(super) type Report = BTreeMap<String, Vec<PodVersion>>;

/// What is to be said of each model.
pub(super) fn report(state: &State, index: &[IndexEntry], digest: impl Fn(&Key) -> Option<Digest>) -> Report {
    let indexed: BTreeMap<Key, &IndexEntry> =
        index.iter().map(|entry| ((entry.name.clone(), entry.version), entry)).collect();
    let mut report = Report::new();
    for (key, held) in state.held() {
        let entry = indexed.get(&key);
        let (state, message) = match entry.map(|entry| entry.state) {
            Some(Indexed::Ready) => (PodVersionState::Ready, None),
            _ if held.is_at_work() => (PodVersionState::Loading, held.why()),
            _ if held.has_failed() => (PodVersionState::Failed, held.why()),
            Some(Indexed::Idle) if held.was_loaded() => (PodVersionState::Listed, None),
            _ => continue,
        };
        let (name, version) = &key;
        let Ok(number) = version.to_string().parse() else { continue };
        report.entry(name.to_string()).or_default().push(PodVersion {
            version: number,
            state,
            digest: digest(&key).map(|digest| digest.to_string()),
            message: message.map(told),
        });
    }
    report
}

/// A message without what the state says already, as long as it may be.
pub(super) fn told(message: &str) -> String {
    let message = message.split_once("failed to load: ").map_or(message, |(_, why)| why);
    message.chars().take(MESSAGE).collect()
}

/// Writes what is to be said.
pub(super) struct Reporter {
    pub(super) api: Api<Model>,
    pub(super) me: Identity,
    pub(super) view: Arc<View>,
}

impl Reporter {
    /// Goes on until nobody says anything any more.
    pub(super) async fn run(&self, mut reports: watch::Receiver<Option<Report>>) {
        let mut changes = self.view.changes();
        loop {
            let report = reports.borrow_and_update().clone();
            changes.mark_unchanged();
            let written = match report {
                Some(report) => self.write(&report).await,
                None => true,
            };
            let again = async {
                match written {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(AGAIN).await,
                }
            };
            tokio::select! {
                said = reports.changed() => if said.is_err() { return },
                // It may be of an entry of this pod that somebody else has removed.
                seen = changes.changed() => if seen.is_err() { return },
                () = again => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Writes what is otherwise than the API server has it. False where some of it could not be written.
    async fn write(&self, report: &Report) -> bool {
        let models = self.view.models();
        let written = stream::iter(models).map(async |model| {
            let Some(name) = model.meta().name.as_deref() else { return true };
            let wanted = report.get(name).map(Vec::as_slice).unwrap_or_default();
            if self.held(&model) == wanted {
                return true;
            }
            self.apply(name, wanted).await
        });
        written.buffer_unordered(AT_ONCE).fold(true, async |all, one| all && one).await
    }

    /// What the API server holds of what this pod said of a model.
    fn held<'a>(&self, model: &'a Model) -> &'a [PodVersion] {
        let pods = model.status.as_ref().map(|status| status.pods.as_slice()).unwrap_or_default();
        let ours = pods.iter().find(|entry| entry.pod == self.me.pod);
        ours.map(|entry| entry.versions.as_slice()).unwrap_or_default()
    }

    async fn apply(&self, name: &str, versions: &[PodVersion]) -> bool {
        let entry = || vec![PodModel { pod: self.me.pod.clone(), versions: versions.to_vec() }];
        let entries = if versions.is_empty() { Vec::new() } else { entry() };
        let written = match self.put(name, &entries).await {
            // Older servers make of a list without its last entry one that is none, and refuse it.
            Err(kube::Error::Api(status)) if status.code == 422 && entries.is_empty() => {
                self.put(name, &entry()).await
            }
            written => written,
        };
        match written {
            Ok(()) => true,
            // It is gone, and what was said of it.
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(error) => {
                tracing::warn!(model = name, "what this pod says of it cannot be written: {error}");
                false
            }
        }
    }

    async fn put(&self, name: &str, entries: &[PodModel]) -> Result<(), kube::Error> {
        let status = json!({
            "apiVersion": Model::api_version(&()),
            "kind": Model::kind(&()),
            "metadata": {"name": name},
            "status": {"pods": entries},
        });
        let manager = PatchParams::apply(&format!("vespid-pod-{}", self.me.pod)).force();
        let status = Patch::Apply(status);
        match tokio::time::timeout(TIMEOUT, self.api.patch_status(name, &manager, &status)).await {
            Ok(written) => written.map(drop),
            Err(_) => Err(kube::Error::Service("it does not answer".into())),
        }
    }

    /// Takes back what this pod said, as far as there is time.
    pub(super) async fn leave(&self, said: &Report) {
        let told = |model: &Arc<Model>| {
            let name = model.meta().name.as_deref().unwrap_or_default();
            // What was written last may not have been seen yet.
            !self.held(model).is_empty() || said.contains_key(name)
        };
        let names = self.view.models().into_iter().filter(told);
        let names: Vec<String> = names.filter_map(|model| model.meta().name.clone()).collect();
        let leaving = stream::iter(names).map(async |name| self.apply(&name, &[]).await);
        let left = leaving.buffer_unordered(AT_ONCE).for_each(|_| std::future::ready(()));
        if tokio::time::timeout(LEAVING, left).await.is_err() {
            tracing::warn!(
                "what this pod said of its models is left in their statuses: the API server is slow"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::plan;
    use super::super::state::Outcome;
    use super::*;

    fn key() -> Key {
        ("iris".parse().unwrap(), "1".parse().unwrap())
    }

    /// A state with one model, which this pod is to load or not.
    fn state(replicas: i32) -> State {
        let json = json!({
            "metadata": {"name": "iris"},
            "spec": {"replicas": replicas, "versions": [{"version": 1, "package": {"oci": "oci://r/m:1"}}]},
        });
        let model: Model = serde_json::from_value(json).unwrap();
        let me = Identity { pool: "default".to_owned(), pod: "a".to_owned() };
        let plan = plan::plan([&model], &[].into(), &me, "/secrets".as_ref());
        let mut state = State::default();
        state.adopt(plan, |_| None);
        state
    }

    fn said(state: &State, indexed: Indexed) -> Option<(PodVersionState, Option<String>)> {
        let (name, version) = key();
        let index = [IndexEntry { name, version, state: indexed, reason: String::new() }];
        let digest = |_: &Key| Some(vespid_package::digest_of(b"x"));
        let report = report(state, &index, digest);
        let version = report.get("iris")?.first()?.clone();
        assert_eq!((version.version, version.digest.is_some()), (1, true));
        Some((version.state, version.message))
    }

    #[test]
    fn a_version_is_told_from_when_it_is_to_be_loaded() {
        let now = Instant::now();
        let mut state = state(1);
        assert_eq!(said(&state, Indexed::Idle), Some((PodVersionState::Loading, None)));
        state.next(now);
        state.ended(&key(), Outcome::Passing("failed to load: the registry is away".to_owned()), now);
        let why = Some("the registry is away".to_owned());
        assert_eq!(said(&state, Indexed::Idle), Some((PodVersionState::Loading, why)));
        state.next(now + Duration::from_secs(60));
        state.ended(&key(), Outcome::Definite("no model.toml".to_owned()), now);
        let why = Some("no model.toml".to_owned());
        assert_eq!(said(&state, Indexed::Unavailable), Some((PodVersionState::Failed, why)));
        // Whoever asked for it was luckier.
        assert_eq!(said(&state, Indexed::Ready), Some((PodVersionState::Ready, None)));
    }

    #[test]
    fn one_that_is_only_listed_is_told_where_it_has_been_in_memory() {
        let mut state = state(0);
        assert_eq!(said(&state, Indexed::Idle), None);
        let (name, version) = key();
        let ready = IndexEntry { name, version, state: Indexed::Ready, reason: String::new() };
        state.look(&[ready], Instant::now());
        assert_eq!(said(&state, Indexed::Ready), Some((PodVersionState::Ready, None)));
        assert_eq!(said(&state, Indexed::Idle), Some((PodVersionState::Listed, None)));
    }
}
