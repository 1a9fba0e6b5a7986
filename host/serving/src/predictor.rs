//! The one way to predict, for every mode and protocol.
//!
//! Contract: a request is refused at the door where too many are in flight; it is answered by the version that was ready
//! when it came, even if that is removed meanwhile. Dropping the future ends the work that can still be ended.

use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vespid_engine::{Callers, Peers};
use vespid_limits::{self as limits, LimitReading, Limits, Origin};
use vespid_types::{Error, ErrorCode, ModelName, ModelRef, Request, Response, Result, Timeline, Version};

use crate::catalog::{Catalog, Entry, Found, IndexEntry, Model};
use crate::model::ReadyModel;
use crate::stats::Statistics;
use crate::traffic::ShadowCounts;

/// What a [`Predictor`] is made from.
#[derive(Clone, Copy, Debug)]
pub struct PredictorOptions {
    /// How many requests may be in flight, waiting ones included.
    pub max_in_flight: usize,
}

/// The responses to one request, in order; after a failure come no more.
pub type ResponseStream = Pin<Box<dyn Stream<Item = Result<Response>> + Send>>;

/// Answers requests. Clones share everything.
#[derive(Clone)]
pub struct Predictor(Arc<Inner>);

struct Inner {
    catalog: Catalog,
    in_flight: Arc<Semaphore>,
    max_in_flight: usize,
    loader: OnceLock<Box<dyn Loader>>,
    since: SystemTime,
}

/// What loads a version that is loaded when it is asked. It does not keep the predictor alive.
pub(crate) trait Loader: Send + Sync {
    /// Loads it, once for all who ask meanwhile.
    fn wake(&self, name: ModelName, version: Version) -> Waking;

    /// What loaded models take up.
    fn memory(&self) -> Memory;

    /// What models and tenants may use.
    fn limits(&self) -> Limits;
}

/// What loaded models take up, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of them together.
    pub used: u64,
    /// How much they may; none where nothing is said.
    pub budget: Option<u64>,
}

/// A load that others wait for too.
pub(crate) type Waking = Pin<Box<dyn Future<Output = Result<Arc<ReadyModel>>> + Send>>;

impl Predictor {
    /// A predictor without models.
    #[must_use]
    pub fn new(options: PredictorOptions) -> Self {
        let PredictorOptions { max_in_flight } = options;
        let max_in_flight = max_in_flight.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            catalog: Catalog::default(),
            in_flight: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            loader: OnceLock::new(),
            since: SystemTime::now(),
        }))
    }

    /// The model asked for, which is loaded first where it is not; without a version the one that the model's traffic is led
    /// to, or the greatest. Who waits for a load counts as a request in flight. Dropping the future does not end the load.
    ///
    /// # Errors
    /// `NOT_FOUND`; `UNAVAILABLE` where it is loading, does not load, or too many requests are in flight; `RESOURCE_EXHAUSTED` where
    /// it is to be loaded, and a limit forbids that, or the call.
    pub async fn resolve(&self, model: &ModelRef) -> Result<Arc<ReadyModel>> {
        loop {
            let version = match self.catalog().get(model)? {
                Found::Ready(ready) => return Ok(ready),
                Found::Idle(version) => version,
            };
            let _room = self.admit()?;
            self.check_limits(&model.name)?;
            match self.wake(model.name.clone(), version).await {
                // One that the caller did not name and that cannot be loaded is not in the way of those that can.
                Err(_) if model.version.is_none() && !self.can_be_asked(&model.name, version) => {}
                woken => return woken,
            }
        }
    }

    /// What would be refused once it is loaded is not worth loading it.
    fn check_limits(&self, name: &ModelName) -> Result<()> {
        let limits = self.0.loader.get().and_then(|loader| loader.limits().of(name));
        limits.map_or(Ok(()), |limits| limits.check(limits::now()))
    }

    /// Loads a version that is loaded when it is asked.
    async fn wake(&self, name: ModelName, version: Version) -> Result<Arc<ReadyModel>> {
        match self.0.loader.get() {
            Some(loader) => loader.wake(name, version).await,
            None => Err(Error::internal("a model is to be loaded, and nothing loads models")),
        }
    }

    fn can_be_asked(&self, name: &ModelName, version: Version) -> bool {
        self.catalog().entry(name, version).is_some_and(|entry| entry.can_be_asked())
    }

    /// Sees whether the model can be asked, without loading it.
    ///
    /// # Errors
    /// As [`Predictor::resolve`].
    pub fn check(&self, model: &ModelRef) -> Result<()> {
        self.catalog().get(model).map(drop)
    }

    /// The model asked for, if it is loaded.
    ///
    /// # Errors
    /// As [`Predictor::resolve`]; `UNAVAILABLE` where it is not loaded.
    pub fn model(&self, model: &ModelRef) -> Result<Arc<ReadyModel>> {
        match self.catalog().get(model)? {
            Found::Ready(ready) => Ok(ready),
            Found::Idle(_) => {
                let message = format!("model {model} is not loaded: it is when the first request comes");
                Err(Error::new(ErrorCode::Unavailable, message))
            }
        }
    }

    /// The versions of a model that can be asked, in order.
    #[must_use]
    pub fn ready_versions(&self, name: &ModelName) -> Vec<Version> {
        self.0.catalog.ready_versions(name)
    }

    /// Every version of every model, in order.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        self.0.catalog.index()
    }

    /// The versions that are loaded, in order.
    #[must_use]
    pub fn ready(&self) -> Vec<Arc<ReadyModel>> {
        self.0.catalog.ready()
    }

    /// What every version that can be asked has counted, in order, whether it is loaded or not.
    #[must_use]
    pub fn statistics(&self) -> Vec<(ModelName, Version, Statistics)> {
        let models = self.catalog().models();
        models.iter().flat_map(|(name, model)| counted(name, model)).collect()
    }

    /// The same of one model.
    #[must_use]
    pub fn statistics_of(&self, name: &ModelName) -> Vec<(ModelName, Version, Statistics)> {
        self.catalog().model(name).map(|model| counted(name, &model)).unwrap_or_default()
    }

    /// What loaded models take up together.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.0.loader.get().map(|loader| loader.memory()).unwrap_or_default()
    }

    /// The limits of models that there are, and of all tenants, and what is used of them.
    #[must_use]
    pub fn limits(&self) -> Vec<LimitReading> {
        let limits = self.0.loader.get().map(|loader| loader.limits()).unwrap_or_default();
        limits.read(self.catalog().models().keys().filter_map(|name| limits.of(name)))
    }

    /// What came of the copies of requests that shadow versions got.
    #[must_use]
    pub fn shadows(&self) -> Vec<ShadowCounts> {
        self.catalog().models().iter().filter_map(|(name, model)| model.route.counts(name)).collect()
    }

    /// When a model became ready, of the version that a request without one is led to.
    ///
    /// # Errors
    /// As [`Predictor::check`].
    pub fn since(&self, name: &ModelName) -> Result<SystemTime> {
        let model = ModelRef { name: name.clone(), version: None };
        let idle = |version| match self.catalog().entry(name, version) {
            Some(Entry::Idle(idle)) => idle.since,
            _ => None,
        };
        Ok(match self.catalog().get(&model)? {
            Found::Ready(model) => model.since(),
            Found::Idle(version) => idle(version).unwrap_or(self.0.since),
        })
    }

    /// Answers `request` with `model`, which [`Predictor::resolve`] gave. Who has a body to decode and one to encode begins with
    /// [`Predictor::begin`], so that this is counted with the request.
    ///
    /// # Errors
    /// What is wrong with the request, the limit that it met, or what went wrong in the model.
    pub async fn predict(&self, model: &Arc<ReadyModel>, request: Request) -> Result<Response> {
        self.begin(Arc::clone(model), Timeline::default()).predict(request).await
    }

    /// Answers `request` in as many responses as `model` has for it; as [`Inference::predict_stream`].
    ///
    /// # Errors
    /// As [`Predictor::predict`]; what goes wrong later comes as the last item of the stream.
    pub async fn predict_stream(&self, model: Arc<ReadyModel>, request: Request) -> Result<ResponseStream> {
        self.begin(model, Timeline::default()).predict_stream(request).await
    }

    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0.in_flight).try_acquire_owned().map_err(|_| {
            let message = format!(
                "the server is busy: {} requests are in flight; try again later",
                self.0.max_in_flight
            );
            Error::refused(message)
        })
    }

    /// Answers a request that nobody waits for, and that is not counted among those in flight.
    pub(crate) async fn ask(&self, request: Request) -> Result<Response> {
        let model = self.resolve(&request.model).await?;
        self.begin(model, Timeline::default()).nested(request, Callers::default(), Origin::Copy).await
    }

    /// Says what loads models that are not.
    pub(crate) fn load_with(&self, loader: Box<dyn Loader>) {
        // Once: a predictor has one repository.
        let _ = self.0.loader.set(loader);
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// For plugins that call other models. It does not keep the predictor alive, which keeps the plugins.
    pub(crate) fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(WeakPredictor(Arc::downgrade(&self.0)))
    }
}

fn counted(name: &ModelName, model: &Model) -> Vec<(ModelName, Version, Statistics)> {
    let read = |(version, entry): (Version, &Entry)| match entry {
        Entry::Ready(model) => Some((name.clone(), version, model.statistics())),
        Entry::Idle(idle) => Some((name.clone(), version, idle.counters.read(None, None))),
        _ => None,
    };
    model.askable().filter_map(read).collect()
}

struct WeakPredictor(Weak<Inner>);

impl Peers for WeakPredictor {
    fn infer(
        &self,
        request: Request,
        callers: Callers,
        cause: &Arc<Timeline>,
    ) -> Pin<Box<dyn Future<Output = Result<Response>> + Send + '_>> {
        let timeline = cause.child();
        Box::pin(async move {
            let inner = self.0.upgrade().ok_or_else(|| Error::refused("the server is shutting down"))?;
            // The call that leads here has been admitted, and so is this one with it.
            let predictor = Predictor(inner);
            let model = predictor.resolve(&request.model).await?;
            callers.check(model.name(), model.version())?;
            predictor.begin(model, timeline).nested(request, callers, Origin::Plugin).await
        })
    }
}
