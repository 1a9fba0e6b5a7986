//! The one way to predict, for every mode and protocol.
//!
//! Contract: a request is refused at the door where too many are in flight; it is answered by the version that was ready
//! when it came, even if that is removed meanwhile. Dropping the future ends the work that can still be ended.

use std::pin::Pin;
use std::sync::{Arc, Weak};

use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vespid_engine::{Callers, Peers};
use vespid_types::{Error, ErrorCode, ModelName, ModelRef, Request, Response, Result, Timeline, Version};

use crate::catalog::{Catalog, IndexEntry};
use crate::model::ReadyModel;

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
}

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
        }))
    }

    /// The model asked for; without a version the greatest that is ready.
    ///
    /// # Errors
    /// `NOT_FOUND`, or `UNAVAILABLE` where it is loading or did not load.
    pub fn model(&self, model: &ModelRef) -> Result<Arc<ReadyModel>> {
        self.0.catalog.get(model)
    }

    /// The versions of a model that are ready, in order.
    #[must_use]
    pub fn ready_versions(&self, name: &ModelName) -> Vec<Version> {
        self.0.catalog.ready_versions(name)
    }

    /// Every version of every model, in order.
    #[must_use]
    pub fn index(&self) -> Vec<IndexEntry> {
        self.0.catalog.index()
    }

    /// The versions that are ready, in order.
    #[must_use]
    pub fn ready(&self) -> Vec<Arc<ReadyModel>> {
        self.0.catalog.ready()
    }

    /// Answers `request` with `model`, which [`Predictor::model`] gave. Who has a body to decode and one to encode begins with
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
            Error::new(ErrorCode::Unavailable, message)
        })
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// For plugins that call other models. It does not keep the predictor alive, which keeps the plugins.
    pub(crate) fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(WeakPredictor(Arc::downgrade(&self.0)))
    }
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
            let inner = self
                .0
                .upgrade()
                .ok_or_else(|| Error::new(ErrorCode::Unavailable, "the server is shutting down"))?;
            // The call that leads here has been admitted, and so is this one with it.
            let model = inner.catalog.get(&request.model)?;
            callers.check(model.name(), model.version())?;
            Predictor(inner).begin(model, timeline).nested(request, callers).await
        })
    }
}
