//! Jobs of a server: taken, run one after the other beside what is asked online, and gone on with after a restart.
//!
//! Contract: a job that was taken is a document in the server's folder of jobs before its client hears of it, and runs until it has ended or
//! is cancelled, over as many restarts as there are; what it had done stays done ([`crate::run`]). Files are read and written below
//! the places that the server allows and nowhere else. One task has the queue, and another thread pool than the server's does
//! the work of files, so that it does not stand in the way of requests. Cost: a small object for each change of a job's state.
//! Left out on purpose: jobs that several servers share; they each have a folder of jobs of their own.

mod document;
mod queue;
mod roots;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use vespid_dataset::Place;
use vespid_serving::Predictor;
use vespid_types::{Error, ErrorCode, Result};

use crate::{BatchError, Counts, JobSpec, Progress, places};

pub use document::{Batch, BatchId, Problem, Problems, RequestCounts, Status, Told};
pub use roots::Roots;

/// Jobs that wait, at most.
const MAX_WAITING: usize = 1024;

/// What a [`Jobs`] is made from.
pub struct JobsOptions {
    /// The folder of the documents, as a path or URL; this server's alone.
    pub folder: String,
    /// Where files may be read and written.
    pub roots: Roots,
    /// What answers.
    pub predictor: Predictor,
    /// Calls of a model at once.
    pub calls: usize,
    /// How long parts in hand may take once the server stops.
    pub grace: Duration,
    /// What does the work of files.
    pub runtime: Handle,
    /// Told when the server stops.
    pub stopping: watch::Receiver<bool>,
}

/// The jobs of a server. Clones share them.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
    /// Whether the queue's task has ended.
    is_over: watch::Receiver<bool>,
}

struct Inner {
    folder: Place,
    roots: Roots,
    known: Mutex<BTreeMap<BatchId, Known>>,
    /// Held while a document is written, so that no change is lost.
    changing: tokio::sync::Mutex<()>,
    waiting: mpsc::Sender<BatchId>,
}

/// A job, and what is known of it while it runs.
struct Known {
    batch: Batch,
    progress: Option<Arc<Progress>>,
    /// Tells it to stop for good.
    cancel: watch::Sender<bool>,
}

impl Jobs {
    /// Reads the documents, and goes on with the jobs that have not ended.
    ///
    /// # Errors
    /// Where the folder cannot be read, or holds a document that is none.
    pub async fn start(options: JobsOptions) -> std::result::Result<Self, BatchError> {
        let folder = places::place(&options.folder)?;
        let mut known = BTreeMap::new();
        for (name, _) in folder.list().await? {
            let Some(id) = name.strip_suffix(".json").and_then(|id| id.parse::<BatchId>().ok()) else {
                continue;
            };
            let Some(text) = folder.child(&name).get().await? else { continue };
            let batch = serde_json::from_slice(&text).map_err(|error| BatchError::File {
                file: folder.child(&name).shown.to_string(),
                reason: error.to_string(),
            })?;
            known.insert(id, Known { batch, progress: None, cancel: watch::Sender::new(false) });
        }
        let (waiting, queue) = mpsc::channel(MAX_WAITING.max(known.len()));
        let open: Vec<_> = known.values().filter(|known| !known.batch.status.has_ended()).collect();
        // Their ids are in the order in which they were taken, and so is the map.
        for known in open {
            // There is room for all of them.
            let _ = waiting.try_send(known.batch.id.clone());
        }
        let inner = Arc::new(Inner {
            folder,
            roots: options.roots.clone(),
            known: Mutex::new(known),
            changing: Default::default(),
            waiting,
        });
        let runtime = options.runtime.clone();
        let (over, is_over) = watch::channel(false);
        let work = queue::work(Arc::downgrade(&inner), queue, options);
        runtime.spawn(async move {
            work.await;
            over.send_replace(true);
        });
        Ok(Self { inner, is_over })
    }

    /// Takes a job.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` where it reads or writes elsewhere than it may, `UNAVAILABLE` where too many wait.
    pub async fn create(&self, spec: JobSpec, told: Told) -> Result<Batch> {
        let urls = spec.input.url.as_slice().iter().map(|url| ("input.url", url));
        for (field, url) in urls.chain([("output.url", &spec.output.url)]) {
            self.inner.roots.allow(field, url)?;
        }
        let full = || Error::new(ErrorCode::Unavailable, "too many jobs wait: try again later");
        let place = self.inner.waiting.try_reserve().map_err(|_| full())?;
        let batch = Batch::new(spec, told);
        self.inner.store(&batch).await?;
        let known = Known { batch: batch.clone(), progress: None, cancel: watch::Sender::new(false) };
        self.inner.known().insert(batch.id.clone(), known);
        place.send(batch.id.clone());
        Ok(batch)
    }

    /// Those of the jobs that `is_shown`, the newest first: at most `limit`, those behind `after` where it is said.
    ///
    /// # Errors
    /// `NOT_FOUND` where there is no job `after` among them.
    pub fn list(
        &self,
        after: Option<&BatchId>,
        limit: usize,
        is_shown: impl Fn(&Batch) -> bool,
    ) -> Result<(Vec<Batch>, bool)> {
        let mut batches: Vec<Batch> = self.inner.known().values().map(Known::told).collect();
        batches.retain(is_shown);
        batches.reverse();
        let from = match after {
            None => 0,
            Some(after) => {
                let found = batches.iter().position(|batch| batch.id == *after);
                found.ok_or_else(|| Self::not_found(after))? + 1
            }
        };
        let rest = batches.len().saturating_sub(from);
        Ok((batches.into_iter().skip(from).take(limit).collect(), rest > limit))
    }

    /// A job.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn get(&self, id: &BatchId) -> Result<Batch> {
        self.inner.known().get(id).map(Known::told).ok_or_else(|| Self::not_found(id))
    }

    /// Cancels a job that has not ended, and forgets one that has. What it has written stays.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE` where its document cannot be written.
    pub async fn delete(&self, id: &BatchId) -> Result<Batch> {
        let batch = self.get(id)?;
        if batch.status.has_ended() {
            self.inner.folder.child(&id.file()).delete().await.map_err(BatchError::from)?;
            self.inner.known().remove(id);
            return Ok(batch);
        }
        let batch = self.inner.change(id, Batch::cancelling).await?;
        if let Some(known) = self.inner.known().get(id) {
            known.cancel.send_replace(true);
        }
        Ok(batch)
    }

    /// What is said of a job that is not there.
    #[must_use]
    pub fn not_found(id: &BatchId) -> Error {
        Error::new(ErrorCode::NotFound, format!("there is no job '{id}'"))
    }

    /// Waits until the job that runs has come to a stop, for so long at most: once the server stops.
    pub async fn stopped(&self, patience: Duration) {
        let mut is_over = self.is_over.clone();
        let _ = tokio::time::timeout(patience, is_over.wait_for(|over| *over)).await;
    }

    /// How far the jobs that run are, for metrics.
    #[must_use]
    pub fn running(&self) -> Vec<(String, Counts)> {
        let known = self.inner.known();
        known
            .values()
            .filter_map(|known| Some((known.batch.id.to_string(), known.progress.as_ref()?.counts())))
            .collect()
    }
}

impl Known {
    /// As it is told, with how far it is.
    fn told(&self) -> Batch {
        match &self.progress {
            Some(progress) => self.batch.clone().with(&progress.counts()),
            None => self.batch.clone(),
        }
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, BTreeMap<BatchId, Known>> {
        // What is in it is whole between any two lines that have it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what tells how far a job is, while it runs.
    fn set_progress(&self, id: &BatchId, progress: Option<Arc<Progress>>) {
        if let Some(known) = self.known().get_mut(id) {
            known.progress = progress;
        }
    }

    async fn store(&self, batch: &Batch) -> std::result::Result<(), BatchError> {
        let text = serde_json::to_vec(batch).map_err(|error| BatchError::Internal(error.to_string()))?;
        Ok(self.folder.child(&batch.id.file()).put(text.into()).await?)
    }

    /// Changes a job, in the folder first.
    async fn change(&self, id: &BatchId, change: impl FnOnce(&mut Batch)) -> Result<Batch> {
        let _changing = self.changing.lock().await;
        let mut batch =
            self.known().get(id).map(|known| known.batch.clone()).ok_or_else(|| Jobs::not_found(id))?;
        change(&mut batch);
        self.store(&batch).await?;
        if let Some(known) = self.known().get_mut(id) {
            known.batch = batch.clone();
        }
        Ok(batch)
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        Self::new(error.code(), error.to_string()).with_source(error)
    }
}
