//! One request on its way through a model, from the first look at its body to the last byte of its answer.
//!
//! Contract: it begins when it is made, and is counted once, when its last clone is dropped: as answered where its work was
//! done, as failed with the last failure, and as canceled where it was dropped on its way. Who turns a body into a request,
//! and an answer into a body, does so within [`Inference::decode`] and [`Inference::encode`], so that the time is counted
//! where it belongs. Where the model is [limited](vespid_limits::Limits), it is admitted before anything is decoded, and in flight until its
//! work is done. Cost: two allocations; a few readings of the clock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use vespid_engine::Callers;
use vespid_limits::{self as limits, Origin, Place};
use vespid_types::{Deadline, End, Error, ErrorCode, Request, Response, Result, Stage, Timeline};

use crate::meter::{Metered, metered};
use crate::model::{Pieces, ReadyModel, rows};
use crate::predictor::{Predictor, ResponseStream};

/// A request on its way. Clones are the same.
#[derive(Clone)]
pub struct Inference(Arc<Ongoing>);

struct Ongoing {
    predictor: Predictor,
    model: Arc<ReadyModel>,
    timeline: Arc<Timeline>,
    /// Nanoseconds for which it held a thread, where somebody's are limited.
    cpu: AtomicU64,
    state: Mutex<State>,
}

struct State {
    rows: u64,
    end: End,
    /// Where it is limited and has been admitted, until its work begins.
    place: Option<Place>,
}

impl Predictor {
    /// Begins a request to `model`, which [`Predictor::resolve`] gave.
    #[must_use]
    pub fn begin(&self, model: Arc<ReadyModel>, timeline: Timeline) -> Inference {
        model.touch();
        let state = Mutex::new(State { rows: 0, end: End::Left, place: None });
        let (timeline, cpu) = (Arc::new(timeline), AtomicU64::new(0));
        Inference(Arc::new(Ongoing { predictor: self.clone(), model, timeline, cpu, state }))
    }
}

impl Inference {
    /// The model that is asked.
    #[must_use]
    pub fn model(&self) -> &Arc<ReadyModel> {
        &self.0.model
    }

    /// What names it in the log: the caller's id, once the request is decoded, else its trace's, else a made one.
    pub fn name(&self) -> impl fmt::Display + '_ {
        self.0.timeline.name()
    }

    /// Turns what came into a request.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`; those of `work`.
    pub fn decode<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.0.timeline.enter(Stage::Input);
        let admitted = self.0.admit();
        admitted.and_then(|()| work()).inspect_err(|error| self.0.fail(error))
    }

    /// Turns a response into what goes.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn encode<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.0.timeline.enter(Stage::Output);
        let encoded = work().inspect_err(|error| self.0.fail(error));
        // A stream's caller may take its time.
        self.0.timeline.enter(Stage::Between);
        encoded
    }

    /// Says that it failed, where it did so outside of decoding, encoding and the model.
    pub fn fail(&self, error: &Error) {
        self.0.fail(error);
    }

    /// Waits for what must come before it.
    pub async fn waits_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.0.timeline.enter(Stage::Queue);
        let came = what.await;
        self.0.timeline.enter(Stage::Input);
        came
    }

    /// Has the model answer.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub async fn predict(&self, request: Request) -> Result<Response> {
        self.0.asked(&request);
        let answered = match self.0.begin() {
            Ok(_room) => self.0.measure(self.admitted(request)).await,
            Err(error) => Err(error),
        };
        self.0.ended(answered)
    }

    async fn admitted(&self, request: Request) -> Result<Response> {
        let Ongoing { predictor, model, timeline, .. } = &*self.0;
        let route = predictor.catalog().route(model.name());
        let copy = route.as_ref().and_then(|route| route.copy(&request, model.version()));
        let answered = match self.keeper(&request) {
            Some(keeper) => keeper.predict(request, Callers::default(), timeline).await,
            None => model.predict(request, Callers::default(), timeline).await,
        };
        if let Some(copy) = copy {
            copy.send(predictor, &answered);
        }
        answered
    }

    /// The version that keeps the request's sequence, where the caller names none and it is not the one that was chosen for
    /// this request. It is counted with the latter.
    fn keeper(&self, request: &Request) -> Option<Arc<ReadyModel>> {
        let sequence = request.sequence.as_ref().filter(|sequence| !sequence.start)?;
        let Ongoing { predictor, model, .. } = &*self.0;
        if request.model.version.is_some() || model.keeps(&sequence.id) {
            return None;
        }
        predictor.catalog().keeper(model.name(), &sequence.id)
    }

    /// The same for a request that a plugin makes, or a copy. The call that led to it has been admitted, and so is this one with it,
    /// as far as its own limits go.
    pub(crate) async fn nested(&self, request: Request, callers: Callers, from: Origin) -> Result<Response> {
        self.0.asked(&request);
        let answered = match self.0.model.limits().map(|limits| limits.admit(from, limits::now())).transpose()
        {
            Ok(_place) => self.0.measure(self.0.model.predict(request, callers, &self.0.timeline)).await,
            Err(error) => Err(error),
        };
        self.0.ended(answered)
    }

    /// Has the model answer in as many responses as it has: one, unless it is [decoupled](ReadyModel::is_decoupled). Each is
    /// made when it is asked for; dropping the stream ends the call.
    ///
    /// # Errors
    /// As [`Predictor::predict`]; what goes wrong later comes as the last item of the stream.
    pub async fn predict_stream(&self, request: Request) -> Result<ResponseStream> {
        if !self.0.model.is_decoupled() {
            let response = self.predict(request).await?;
            return Ok(Box::pin(stream::iter([Ok(response)])));
        }
        self.0.asked(&request);
        let begun = match self.0.begin() {
            Ok(room) => {
                let model = Arc::clone(&self.0.model);
                let begun = self.0.measure(model.stream(request, &self.0.timeline)).await;
                begun.map(|pieces| (pieces, room))
            }
            Err(error) => Err(error),
        };
        let (pieces, room) = begun.inspect_err(|error| self.0.fail(error))?;
        let open = Open::new(self.clone(), pieces, room);
        Ok(Box::pin(stream::try_unfold(open, async |mut open| {
            Ok(open.next().await?.map(|response| (response, open)))
        })))
    }

    async fn next(&self, pieces: &mut Pieces) -> Result<Option<Response>> {
        let next = self.0.measure(pieces.next()).await;
        match &next {
            // Until it is encoded, and the next one asked for.
            Ok(Some(_)) => self.0.timeline.enter(Stage::Between),
            Ok(None) => self.0.answered(),
            Err(error) => self.0.fail(error),
        }
        next
    }
}

/// An answer in pieces that has more to come. Where the caller has not asked for the next piece by the deadline, what the
/// answer takes up is given back: a caller that does not read must not hold an instance.
struct Open {
    inference: Inference,
    rest: Arc<Mutex<Option<Rest>>>,
    deadline: Deadline,
    at_the_deadline: AbortHandle,
}

/// The pieces to come, and their room.
type Rest = (Pieces, Room);

/// Its place among all requests in flight, and among those of its limits.
type Room = (OwnedSemaphorePermit, Option<Place>);

impl Open {
    fn new(inference: Inference, pieces: Pieces, room: Room) -> Self {
        let deadline = pieces.deadline();
        let rest = Arc::new(Mutex::new(Some((pieces, room))));
        let idle = Arc::clone(&rest);
        let at_the_deadline = tokio::spawn(async move {
            tokio::time::sleep_until(deadline.instant().into()).await;
            drop(take(&idle));
        });
        Self { inference, rest, deadline, at_the_deadline: at_the_deadline.abort_handle() }
    }

    async fn next(&mut self) -> Result<Option<Response>> {
        let Some((mut pieces, room)) = take(&self.rest) else { return self.late() };
        let next = self.inference.next(&mut pieces).await?;
        if next.is_some() {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some((pieces, room));
            // It may have passed while the piece was made: nobody else looks then.
            if self.deadline.remaining().is_zero() {
                drop(take(&self.rest));
            }
        }
        Ok(next)
    }

    fn late(&self) -> Result<Option<Response>> {
        let message = "the rest of the answer was not asked for before the deadline";
        let error = Error::new(ErrorCode::DeadlineExceeded, message);
        self.inference.fail(&error);
        Err(error)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.at_the_deadline.abort();
        // The task has it too, until it is dropped at some later time.
        drop(take(&self.rest));
    }
}

/// Nothing panics under the lock, so that a poisoned one is as good as any.
fn take(rest: &Mutex<Option<Rest>>) -> Option<Rest> {
    rest.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Ongoing {
    fn asked(&self, request: &Request) {
        if let Some(id) = &request.id {
            self.timeline.set_id(id);
        }
        self.lock().rows = rows(request);
    }

    /// Admits it as far as the limits of its model go; once.
    fn admit(&self) -> Result<()> {
        let Some(limits) = self.model.limits() else { return Ok(()) };
        let mut state = self.lock();
        if state.place.is_none() {
            state.place = Some(limits.admit(Origin::Caller, limits::now())?);
        }
        Ok(())
    }

    /// Its work begins: gives out the places that it has until it ends.
    fn begin(&self) -> Result<Room> {
        self.admit()?;
        let place = self.model.limits().and_then(|_| self.lock().place.take());
        Ok((self.predictor.admit()?, place))
    }

    /// Does a part of its work.
    fn measure<F: Future>(&self, work: F) -> Metered<'_, F> {
        let is_metered = self.model.limits().is_some_and(|limits| limits.is_metered());
        metered(is_metered.then_some(&self.cpu), work)
    }

    fn ended(&self, answered: Result<Response>) -> Result<Response> {
        match &answered {
            Ok(_) => self.answered(),
            Err(error) => self.fail(error),
        }
        answered
    }

    /// Its work is done. What failed on the way remains a failure.
    fn answered(&self) {
        let end = &mut self.lock().end;
        if *end == End::Left {
            *end = End::Answered;
        }
    }

    fn fail(&self, error: &Error) {
        self.lock().end = End::Failed { code: error.code(), message: error.message().to_owned() };
    }

    /// Nothing panics under the lock, so that a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let State { rows, end, .. } = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let spent = self.timeline.end(self.model.name(), self.model.version(), end);
        self.model.count(*rows, &spent, end);
        if let Some(limits) = self.model.limits().filter(|limits| limits.is_metered()) {
            let polled = Duration::from_nanos(self.cpu.load(Ordering::Relaxed));
            limits.debit(polled.saturating_add(spent.graph_cpu()), limits::now());
        }
    }
}
