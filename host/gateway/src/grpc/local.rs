//! What the gateway answers over gRPC by itself: whether it lives, what there is, and what it does not do.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use bytesize::ByteSize;
use flate2::write::{GzDecoder, ZlibDecoder};
use futures_util::{Stream, StreamExt, stream};
use hyper::body::Frame;
use prost::Message;
use std::io::Write;
use tokio::sync::watch;
use vespid_types::{Error, ErrorCode};

use super::scan::Encoding;
use crate::error::{GRPC_STATUS, GRPC_TYPE};
use crate::gateway::Shared;
use crate::index::Readiness;
use crate::table::Table;
use crate::{body, index};

/// More than a message takes that is answered here.
const MAX_MESSAGE: ByteSize = ByteSize::kib(64);

/// Answers that are one boolean, as those about health are; field 1.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Flag {
    #[prost(bool, tag = "1")]
    pub(crate) is: bool,
}

/// A name and a version: what most requests are.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NameAndVersion {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ServerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, repeated, tag = "3")]
    extensions: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IndexRequest {
    #[prost(string, tag = "1")]
    repository_name: String,
    #[prost(bool, tag = "2")]
    ready: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Index {
    #[prost(message, repeated, tag = "1")]
    pub(crate) models: Vec<IndexEntry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct IndexEntry {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// gRPC's own answer about health.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Health {
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;

/// The service that inference is.
pub(crate) const SERVICE: &str = "inference.GRPCInferenceService";

pub(crate) fn server() -> ServerMetadata {
    let extensions = index::EXTENSIONS.map(str::to_owned).to_vec();
    ServerMetadata { name: index::NAME.to_owned(), version: index::VERSION.to_owned(), extensions }
}

/// The one message of a call, which is small.
///
/// # Errors
/// Where it is not one.
pub(crate) async fn read<M: Message + Default>(body: Body, encoding: Encoding) -> Result<M, Error> {
    let bytes = body::read(body, MAX_MESSAGE).await?;
    let wrong = || Error::invalid("the message is not the one that this method takes");
    let (compressed, message) = match bytes.split_first_chunk::<5>() {
        Some(([compressed, length @ ..], message)) => {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            (*compressed, message.get(..length).ok_or_else(wrong)?)
        }
        // Some clients leave out a message that is empty.
        None if bytes.is_empty() => (0, &[][..]),
        None => return Err(wrong()),
    };
    if compressed == 0 {
        return M::decode(message).map_err(|error| wrong().with_source(error));
    }
    // The limit of what comes is small enough for what comes of it.
    let inflated = match encoding {
        Encoding::Identity => return Err(wrong()),
        Encoding::Gzip => {
            let mut decoder = GzDecoder::new(Vec::new());
            decoder.write_all(message).and_then(|()| decoder.finish())
        }
        Encoding::Deflate => {
            let mut decoder = ZlibDecoder::new(Vec::new());
            decoder.write_all(message).and_then(|()| decoder.finish())
        }
    };
    let inflated = inflated.map_err(|error| wrong().with_source(error))?;
    M::decode(&inflated[..]).map_err(|error| wrong().with_source(error))
}

/// A message in its frame.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// An answer of one message.
pub(crate) fn answer(message: &impl Message) -> Response {
    respond(stream::iter([frame(message)]))
}

/// An answer of these messages.
fn respond(messages: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::new(Messages { messages: Some(messages.boxed()) }));
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC_TYPE);
    response
}

/// Messages, and a status that all is well.
struct Messages {
    messages: Option<stream::BoxStream<'static, Bytes>>,
}

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(messages) = &mut this.messages else { return Poll::Ready(None) };
        messages.as_mut().poll_next(context).map(|message| {
            let frame = message.map(Frame::data).unwrap_or_else(|| {
                this.messages = None;
                let ok = (GRPC_STATUS, HeaderValue::from_static("0"));
                Frame::trailers(HeaderMap::from_iter([ok]))
            });
            Some(Ok(frame))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_none()
    }
}

/// The index over gRPC.
pub(super) fn index(table: &Table, request: &IndexRequest) -> Result<Index, Error> {
    if !request.repository_name.is_empty() {
        return Err(Error::invalid(
            "repository_name: this server has one repository, which has no name: leave it out",
        ));
    }
    let entries = index::index(table, request.ready);
    let to_wire = |index::Entry { name, version, state, reason }| IndexEntry {
        name,
        version,
        state: state.to_owned(),
        reason,
    };
    Ok(Index { models: entries.into_iter().map(to_wire).collect() })
}

/// The model that a question about health is about; none where it is about the server.
pub(super) fn model_of(service: &str) -> Option<&str> {
    Some(service).filter(|service| !matches!(*service, "" | SERVICE))
}

impl Shared {
    /// Whether a model can be asked; none where a pod has to say so. One that is not there is not ready, as the host has it.
    pub(super) fn grpc_model_ready(&self, name: &str, version: Option<u64>) -> Result<Option<Flag>, Error> {
        match index::readiness(&self.routes.load(), name, version) {
            Ok(Readiness::Unsaid) => Ok(None),
            Ok(readiness) => Ok(Some(Flag { is: readiness == Readiness::Ready })),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(Some(Flag { is: false })),
            Err(error) => Err(error),
        }
    }

    fn health(&self, service: &str) -> i32 {
        let healthy = match model_of(service) {
            None => true,
            Some(model) => match index::readiness(&self.routes.load(), model, None) {
                Ok(readiness) => readiness == Readiness::Ready,
                Err(_) => return SERVICE_UNKNOWN,
            },
        };
        if healthy && self.is_ready() { SERVING } else { NOT_SERVING }
    }

    /// gRPC's own service.
    pub(super) fn grpc_health(&self, service: &str) -> Result<Health, Error> {
        let status = self.health(service);
        if status == SERVICE_UNKNOWN {
            let service: String = service.chars().take(60).collect();
            let message = format!("'{service}' is neither the inference service nor a model");
            return Err(Error::new(ErrorCode::NotFound, message));
        }
        Ok(Health { status })
    }

    /// The same, each time that it changes.
    pub(super) fn grpc_watch(self: Arc<Self>, service: String) -> Response {
        let watched = (self.routes.changes(), self.stopping.clone(), None);
        let states = stream::unfold(watched, move |(mut changes, mut stopping, seen)| {
            let (shared, service) = (Arc::clone(&self), service.clone());
            async move {
                let status = next(&shared, &service, seen, &mut changes, &mut stopping).await?;
                Some((frame(&Health { status }), (changes, stopping, Some(status))))
            }
        });
        respond(states)
    }
}

/// The next state that is another than `seen`; none when the gateway ends and that was told.
async fn next(
    shared: &Shared,
    service: &str,
    seen: Option<i32>,
    changes: &mut watch::Receiver<u64>,
    stopping: &mut watch::Receiver<bool>,
) -> Option<i32> {
    loop {
        let status = shared.health(service);
        if seen != Some(status) {
            return Some(status);
        }
        if *stopping.borrow() {
            return None;
        }
        tokio::select! {
            changed = changes.changed() => changed.ok()?,
            changed = stopping.changed() => changed.ok()?,
        }
    }
}
