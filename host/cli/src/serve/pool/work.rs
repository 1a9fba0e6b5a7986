//! The one task that makes a pod serve what its cluster says.
//!
//! Contract: [`State`] says what is to be done, and this does it: what is short at once, in order; what is long beside it. Changes
//! that come together are taken up once. While the API server is away, the server goes on with what it knows. Cost: a look at the
//! index each second.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use vespid_limits::Limits;
use vespid_serving::{Predictor, Repository, State as Indexed};

use super::plan::{Identity, plan};
use super::present::Present;
use super::report::{Report, Reporter, report};
use super::state::{Key, Outcome, State, Step, Work};
use super::supply::Packages;
use super::watch::View;

/// How long a change waits for others.
const TOGETHER: Duration = Duration::from_millis(100);

/// How often the index is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What the task works with.
pub(super) struct Worker {
    pub(super) predictor: Predictor,
    pub(super) repository: Repository,
    pub(super) packages: Arc<Packages>,
    pub(super) limits: Limits,
    pub(super) view: Arc<View>,
    pub(super) me: Identity,
    /// The folder of the pool's Secrets.
    pub(super) secrets: PathBuf,
}

/// Works until the server is told to end, and takes back then what it has said of its models.
pub(super) async fn run(worker: Worker, reporter: Reporter, mut stopping: watch::Receiver<bool>) {
    let (reports, said) = watch::channel(None);
    let reporter = Arc::new(reporter);
    let reporting = {
        let reporter = Arc::clone(&reporter);
        tokio::spawn(async move { reporter.run(said).await })
    };
    let work = worker.follow(&reports);
    tokio::select! {
        () = work => {}
        // An error means that the server is gone.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    // A write that is on its way must not come after the last one.
    reporting.abort();
    let _ = reporting.await;
    let said = reports.borrow().clone();
    if let Some(said) = said {
        reporter.leave(&said).await;
    }
}

impl Worker {
    async fn follow(&self, reports: &watch::Sender<Option<Report>>) {
        self.view.complete().await;
        let mut changes = self.view.changes();
        changes.mark_changed();
        let (mut state, mut present) = (State::default(), Present::default());
        let mut tasks = JoinSet::new();
        let mut ticks = tokio::time::interval(LOOK);
        let mut is_first = true;
        loop {
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(TOGETHER).await;
                    changes.mark_unchanged();
                    let first = std::mem::take(&mut is_first);
                    self.adopt(&mut state, &mut present, &mut tasks, first).await;
                }
                Some(ended) = tasks.join_next() => if let Ok(Some((key, outcome))) = ended {
                    let steps = state.ended(&key, outcome, Instant::now());
                    self.take(steps, &mut tasks).await;
                },
                _ = ticks.tick(), if !is_first => if present.has_passed(Instant::now()) {
                    self.adopt(&mut state, &mut present, &mut tasks, false).await;
                },
            }
            if !is_first {
                self.go_on(&mut state, &mut tasks, reports).await;
            }
        }
    }

    /// Takes up what the cluster says now.
    async fn adopt(&self, state: &mut State, present: &mut Present, tasks: &mut Tasks, is_first: bool) {
        let models = self.view.models();
        let models = models.iter().map(|model| &**model);
        let pods = present.counted(self.view.pods(), Instant::now());
        let plan = plan(models, &pods, &self.me, &self.secrets);
        self.packages.adopt(&plan);
        let tenants = plan.iter().filter_map(|(name, wanted)| Some((name.clone(), wanted.tenant.clone()?)));
        self.limits.set_tenants(tenants);
        if is_first {
            self.packages.clear().await;
        }
        let steps = state.adopt(plan, |key| self.packages.digest(key));
        self.take(steps, tasks).await;
    }

    /// Begins what may begin, and tells of it.
    async fn go_on(&self, state: &mut State, tasks: &mut Tasks, reports: &watch::Sender<Option<Report>>) {
        let index = self.predictor.index();
        state.look(&index, Instant::now());
        let (steps, begun) = state.next(Instant::now());
        self.take(steps, tasks).await;
        for (key, work) in begun {
            let (repository, predictor) = (self.repository.clone(), self.predictor.clone());
            tasks.spawn(async move {
                let outcome = work_at(&repository, &predictor, &key, work).await;
                Some((key, outcome))
            });
        }
        if state.is_settled() {
            self.repository.set_loaded();
        }
        let report = report(state, &index, |key| self.packages.digest(key));
        reports.send_if_modified(|said| {
            let is_new = said.as_ref() != Some(&report);
            if is_new {
                *said = Some(report);
            }
            is_new
        });
    }

    /// Does what is short.
    async fn take(&self, steps: Vec<Step>, tasks: &mut Tasks) {
        for step in steps {
            let taken = match step {
                Step::List(name, versions) => self.repository.list(&name, versions).await,
                Step::Lead(name, traffic) => self.repository.lead(&name, traffic).await,
                Step::Remove(name, versions) => {
                    let forgotten = self.repository.forget(&name, versions.clone()).await;
                    let packages = Arc::clone(&self.packages);
                    tasks.spawn(async move {
                        for version in versions {
                            packages.remove(&(name.clone(), version)).await;
                        }
                        None
                    });
                    forgotten
                }
            };
            if let Err(error) = taken {
                tracing::warn!("what the cluster says is not taken up: {error}");
            }
        }
    }
}

/// What goes on: of a version, or a removal.
type Tasks = JoinSet<Option<(Key, Outcome)>>;

async fn work_at(repository: &Repository, predictor: &Predictor, key: &Key, work: Work) -> Outcome {
    let (name, version) = key;
    let done = match work {
        Work::Load => repository.wake(name, *version).await.map(drop),
        Work::Renew => repository.renew(name, *version).await,
    };
    let Err(error) = done else { return Outcome::Done };
    let why = super::report::told(error.message());
    let entry = predictor.index().into_iter().find(|entry| entry.name == *name && entry.version == *version);
    match entry.map(|entry| entry.state) {
        // The log has it.
        Some(Indexed::Unavailable) => Outcome::Definite(why),
        _ => {
            tracing::warn!(model = %name, %version, "it does not load for now: {why}");
            Outcome::Passing(why)
        }
    }
}
