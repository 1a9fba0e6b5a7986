//! The streams of a process.
//!
//! Contract: each runs by itself, over the same loaded models; one that fails does not end the others. They are told of, paused and resumed
//! by name. What they were told is not kept: after a restart all of them run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vespid_serving::Predictor;
use vespid_types::{Error, ErrorCode, ModelRef, Result};

use crate::metrics::Metrics;
use crate::run::{Stream, Wish};
use crate::spec::StreamSpec;
use crate::status::{Status, Told};
use crate::{State, StreamError};

/// What may be left when streams have to end: they drain by themselves within their own limits.
const MORE: Duration = Duration::from_secs(5);

/// The streams of a process. Clones are the same.
#[derive(Clone)]
pub struct Streams(Arc<BTreeMap<String, Running>>);

struct Running {
    told: Arc<Told>,
    wish: watch::Sender<Wish>,
    drain: Duration,
    task: tokio::sync::Mutex<Option<JoinHandle<std::result::Result<(), StreamError>>>>,
}

impl Streams {
    /// Starts streams, each with the model that it asks. Within a runtime.
    ///
    /// # Errors
    /// [`StreamError::Config`] where two have one name.
    pub fn start(
        specs: Vec<(StreamSpec, ModelRef)>,
        predictor: &Predictor,
        metrics: &Metrics,
    ) -> std::result::Result<Self, StreamError> {
        let mut streams = BTreeMap::new();
        for (spec, _) in &specs {
            let named = specs.iter().filter(|(other, _)| other.name == spec.name);
            if named.count() > 1 {
                return Err(StreamError::config("name", format!("two streams are called '{}'", spec.name)));
            }
        }
        for (spec, model) in specs {
            let told = Arc::new(Told::new(spec.name.clone(), model.name.to_string()));
            let counters = metrics.of(&told);
            let (wish, wished) = watch::channel(Wish::Run);
            let (name, drain) = (spec.name.clone(), spec.drain);
            let stream = Stream {
                spec: Arc::new(spec),
                predictor: predictor.clone(),
                model,
                counters,
                told: Arc::clone(&told),
            };
            let task = tokio::sync::Mutex::new(Some(tokio::spawn(told_of(stream, wished))));
            streams.insert(name, Running { told, wish, drain, task });
        }
        Ok(Self(Arc::new(streams)))
    }

    /// What is told of all of them, by their names.
    #[must_use]
    pub fn list(&self) -> Vec<Status> {
        self.0.values().map(|running| running.told.status()).collect()
    }

    /// Has a stream read no more, or go on. It stays a member of its group.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_ARGUMENT` where it has ended.
    pub fn pause(&self, name: &str, paused: bool) -> Result<Status> {
        let running = self.find(name)?;
        let status = running.told.status();
        if matches!(status.state, State::Ended | State::Failed) {
            return Err(Error::invalid(format!("stream '{name}' has ended: start the process again")));
        }
        running.told.pause(paused);
        running.wish.send_replace(if paused { Wish::Pause } else { Wish::Run });
        Ok(running.told.status())
    }

    fn find(&self, name: &str) -> Result<&Running> {
        self.0
            .get(name)
            .ok_or_else(|| Error::new(ErrorCode::NotFound, "there is no stream of that name here"))
    }

    /// Waits until all of them have ended by themselves.
    ///
    /// # Errors
    /// That of the first that failed.
    pub async fn ended(&self) -> std::result::Result<(), StreamError> {
        let ended = join_all(self.0.values().map(async |running| {
            let mut task = running.task.lock().await;
            match &mut *task {
                Some(running) => {
                    let ended = running.await;
                    *task = None;
                    ended.unwrap_or_else(|error| Err(StreamError::Internal(error.to_string())))
                }
                None => Ok(()),
            }
        }));
        ended.await.into_iter().collect()
    }

    /// Tells all of them to stop.
    pub fn stop(&self) {
        for running in self.0.values() {
            running.wish.send_replace(Wish::Stop);
        }
    }

    /// How long they may take to stop.
    #[must_use]
    pub fn drain(&self) -> Duration {
        // What is in hand, its commit, and what is handed back each have so long.
        let longest = self.0.values().map(|running| running.drain).max().unwrap_or_default();
        longest + MORE
    }
}

async fn told_of(stream: Stream, wish: watch::Receiver<Wish>) -> std::result::Result<(), StreamError> {
    let name = stream.spec.name.clone();
    tracing::info!(stream = %name, model = %stream.model, "starts");
    let ended = stream.run(wish).await;
    match &ended {
        Ok(()) => tracing::info!(stream = %name, "has ended"),
        Err(error) => tracing::error!(stream = %name, "has failed: {error}"),
    }
    ended
}
