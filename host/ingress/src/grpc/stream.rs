//! `ModelStreamInfer`: requests and responses over one stream.
//!
//! Contract: requests are answered at once, [`AT_ONCE`] of them at most; those of a sequence one after another. Models with
//! one response to a request answer in the order of the requests, as Triton does, decoupled ones as they have responses. A
//! request that fails is answered with its error and the stream goes on, unless the client has asked for a status instead
//! (Triton's `triton_grpc_error`). When the server is told to end, what has begun is answered first. Cost: a task for each
//! request; a client that does not read stops the server reading. Dropping the stream ends its calls.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;

use futures_util::stream::{self, SelectAll};
use futures_util::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use vespid_serving::ReadyModel;
use vespid_telemetry::Subject;
use vespid_types::{Error, ModelName, Parameter, SequenceId};

use super::infer::{Asked, Caller, prepare, to_wire};
use super::proto::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::status::{status, unlogged};
use super::{door, parameters, until_stopping};
use crate::Api;
use crate::observe::fault;

/// Requests of one stream that are answered at once.
const AT_ONCE: usize = 64;

/// Responses to one request that wait for the client.
const RESPONSES_WAITING: usize = 4;

/// The parameter of a response that says whether it is its request's last.
const FINAL: &str = "triton_final_response";

pub(super) type Responses = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

/// A response, or the failure of the request with that id, which has been logged.
type Part = Result<ModelInferResponse, (String, Error)>;

/// Answers a stream of requests. Its deadline is that of each.
pub(super) fn answer(api: &Api, caller: Caller, request: Request<Streaming<ModelInferRequest>>) -> Responses {
    let fails_by_status = request.metadata().get("triton_grpc_error").is_some_and(|value| value == "true");
    let exchange = Exchange {
        api: api.clone(),
        caller,
        fails_by_status,
        requests: Some(request.into_inner()),
        end: None,
        in_order: VecDeque::new(),
        as_made: SelectAll::new(),
        turns: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let next =
        |mut exchange: Exchange| async move { exchange.next().await.map(|response| (response, exchange)) };
    Box::pin(stream::unfold(exchange, next))
}

struct Exchange {
    api: Api,
    caller: Caller,
    fails_by_status: bool,
    /// None once no more are taken.
    requests: Option<Streaming<ModelInferRequest>>,
    /// What the stream ends with.
    end: Option<Status>,
    /// The responses to requests of models that have one for each.
    in_order: VecDeque<mpsc::Receiver<Part>>,
    /// Those of decoupled models.
    as_made: SelectAll<ReceiverStream<Part>>,
    /// What ends with the last request of each sequence so far.
    turns: HashMap<(ModelName, SequenceId), oneshot::Receiver<()>>,
    /// What answers. Dropped with the stream, which ends the calls.
    tasks: JoinSet<()>,
}

impl Exchange {
    async fn next(&mut self) -> Option<Result<ModelStreamInferResponse, Status>> {
        loop {
            let room = self.in_order.len() + self.as_made.len() < AT_ONCE;
            let open = self.requests.is_some();
            tokio::select! {
                Some(part) = next_in_order(&mut self.in_order) => return Some(self.to_wire(part)),
                Some(part) = self.as_made.next() => return Some(self.to_wire(part)),
                request = next_request(&mut self.requests), if open && room => self.take(request).await,
                () = until_stopping(&self.api), if open => {
                    let error = Error::refused("the server is shutting down: open another stream");
                    self.close(Some(status(&error)));
                }
                else => return self.end.take().map(Err),
            }
        }
    }

    fn to_wire(&self, part: Part) -> Result<ModelStreamInferResponse, Status> {
        match part {
            Ok(response) => {
                Ok(ModelStreamInferResponse { infer_response: Some(response), error_message: String::new() })
            }
            Err((_, error)) if self.fails_by_status => Err(unlogged(&error)),
            Err((id, error)) => {
                let response = ModelInferResponse { id, ..ModelInferResponse::default() };
                Ok(ModelStreamInferResponse {
                    infer_response: Some(response),
                    error_message: error.message().to_owned(),
                })
            }
        }
    }

    /// The responses on their way wait for a model that has to be loaded first.
    async fn take(&mut self, request: Option<Result<ModelInferRequest, Status>>) {
        match request {
            Some(Ok(request)) => self.begin(request).await,
            // The transport's, after which it reads no further.
            Some(Err(status)) if status.code() == Code::OutOfRange => {
                self.close(Some(door::too_large(self.api.max_body)));
            }
            Some(Err(status)) => self.close(Some(status)),
            None => self.close(None),
        }
    }

    fn close(&mut self, end: Option<Status>) {
        self.requests = None;
        self.end = end;
    }

    async fn begin(&mut self, message: ModelInferRequest) {
        // Those that have ended are forgotten.
        while self.tasks.try_join_next().is_some() {}
        let id = message.id.clone();
        let (sender, receiver) = mpsc::channel(RESPONSES_WAITING);
        match prepare(&self.api, message, &self.caller).await {
            Ok(asked) => {
                if asked.inference.model().is_decoupled() {
                    self.as_made.push(ReceiverStream::new(receiver));
                } else {
                    self.in_order.push_back(receiver);
                }
                let turn = self.turn(&asked);
                self.tasks.spawn(run(self.api.clone(), asked, id, turn, sender));
            }
            Err(error) => {
                // There is room for it.
                let _ = sender.try_send(Err((id, error)));
                self.in_order.push_back(receiver);
            }
        }
    }

    /// A request's turn in its sequence, if it belongs to one.
    fn turn(&mut self, asked: &Asked) -> Option<Turn> {
        let sequence = asked.request.sequence.as_ref()?;
        if self.turns.len() > AT_ONCE {
            self.turns.retain(|_, turn| turn.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        }
        let (ended, next) = oneshot::channel();
        let earlier = self.turns.insert((asked.inference.model().name().clone(), sequence.id.clone()), next);
        Some(Turn { earlier, _ended: ended })
    }
}

/// Of a request in a sequence: what it waits for, and what waits for it.
struct Turn {
    earlier: Option<oneshot::Receiver<()>>,
    _ended: oneshot::Sender<()>,
}

async fn next_request(
    requests: &mut Option<Streaming<ModelInferRequest>>,
) -> Option<Result<ModelInferRequest, Status>> {
    requests.as_mut()?.next().await
}

async fn next_in_order(receivers: &mut VecDeque<mpsc::Receiver<Part>>) -> Option<Part> {
    loop {
        match receivers.front_mut()?.recv().await {
            Some(part) => return Some(part),
            None => receivers.pop_front(),
        };
    }
}

/// Answers one request. Nobody listens any more where sending fails.
async fn run(api: Api, asked: Asked, id: String, mut turn: Option<Turn>, out: mpsc::Sender<Part>) {
    if let Some(earlier) = turn.as_mut().and_then(|turn| turn.earlier.take()) {
        // An error, too, means that it has ended.
        let _ = asked.inference.waits_for(earlier).await;
    }
    let inference = asked.inference.clone();
    if let Err(error) = respond(&api, asked, &id, &out).await {
        fault(&error, Some(&Subject::of(&inference)), None);
        let _ = out.send(Err((id, error))).await;
    }
}

async fn respond(api: &Api, asked: Asked, id: &str, out: &mpsc::Sender<Part>) -> Result<(), Error> {
    let Asked { inference, request, tells_end, format } = asked;
    let model = inference.model();
    let decoupled = model.is_decoupled();
    let mut responses = inference.predict_stream(request).await?;
    while let Some(mut response) = responses.next().await.transpose()? {
        // Whether a decoupled model's is the last is known when there comes no other.
        response.parameters.insert(FINAL.to_owned(), Parameter::Bool(!decoupled));
        let message = inference.encode(|| to_wire(api, model, &format, response))?;
        if out.send(Ok(message)).await.is_err() {
            return Ok(());
        }
    }
    if decoupled && tells_end {
        let _ = out.send(Ok(end(model, id))).await;
    }
    Ok(())
}

/// The response without outputs that comes after a decoupled model's last, where the client wants it.
fn end(model: &ReadyModel, id: &str) -> ModelInferResponse {
    ModelInferResponse {
        model_name: model.name().to_string(),
        model_version: model.version().to_string(),
        id: id.to_owned(),
        parameters: [(FINAL.to_owned(), parameters::one(Parameter::Bool(true)))].into(),
        ..ModelInferResponse::default()
    }
}
