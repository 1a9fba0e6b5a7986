//! The HTTP front: routes of the Open Inference Protocol v2 over the serving core.
//!
//! Contract: every failure is a JSON body `{"error": message}` with the status of its [`ErrorCode`]; request bodies are
//! limited before they are read. A client that goes away ends its call. Cost: an inference body is read into one buffer,
//! of which the tensors are slices. Left out so far: compressed bodies, gRPC, authentication.

mod error;
mod infer;
mod metadata;
mod repository;
mod target;

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post, put};
use bytesize::ByteSize;
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use vespid_serving::{Predictor, Repository};
use vespid_types::{Error, ErrorCode, note_copy};

use error::Failure;
pub use error::status;

/// What the routes answer from.
#[derive(Clone)]
pub struct Api {
    /// Answers predictions.
    pub predictor: Predictor,
    /// Takes packages in.
    pub repository: Repository,
    /// How large the body of an inference request may be.
    pub max_body: ByteSize,
}

/// The routes that clients use.
pub fn router(api: Api) -> Router {
    let model = |path: &str| format!("/v2/models/{{model}}{path}");
    let version = |path: &str| format!("/v2/models/{{model}}/versions/{{version}}{path}");
    let mut routes = health()
        .route("/v2", get(metadata::server))
        .route("/v2/", get(metadata::server))
        .route("/v2/models", get(metadata::models))
        .route("/v2/models/stats", get(metadata::all_statistics))
        .route("/v2/repository/index", post(repository::index))
        .route(
            "/v2/repository/models/{model}/versions/{version}",
            put(repository::upload).delete(repository::remove),
        );
    for path in [&model, &version] as [&dyn Fn(&str) -> String; 2] {
        routes = routes
            .route(&path(""), get(metadata::model))
            .route(&path("/ready"), get(metadata::model_ready))
            .route(&path("/stats"), get(metadata::statistics))
            .route(&path("/infer"), post(infer::infer));
    }
    finish(routes, api)
}

/// The routes of the admin port, for probes.
pub fn admin_router(api: Api) -> Router {
    finish(health(), api)
}

fn health() -> Router<Api> {
    Router::new()
        .route("/v2/health/live", get(metadata::live))
        .route("/v2/health/ready", get(metadata::ready))
}

fn finish(routes: Router<Api>, api: Api) -> Router {
    routes
        .fallback(async || {
            Failure::from(Error::new(ErrorCode::NotFound, "no such path: the API is below /v2"))
        })
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .with_state(api)
}

/// How much of an unwanted body is read so that the client, which may still be sending, gets to see the answer.
const DRAIN_BYTES: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Reads and forgets the rest of a body, within limits.
async fn drain(body: Body) {
    let mut body = body.into_data_stream();
    let mut left = DRAIN_BYTES;
    let reading = async {
        while let Some(Ok(chunk)) = body.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, reading).await;
}

/// Reads a whole body. Frames are joined in one buffer, so that tensors can be slices of it: the one copy on the way in,
/// of bodies that do not come in one frame. `head` bytes of JSON come before the tensors, which then lie where any backend
/// can take them as they are.
async fn read_body(mut body: Body, limit: ByteSize, head: usize) -> Result<Bytes, Failure> {
    let limit_bytes = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
    let expected = axum::body::HttpBody::size_hint(&body);
    if expected.lower() > limit.as_u64() {
        drain(body).await;
        return Err(too_large(limit));
    }
    let mut limited = Limited::new(&mut body, limit_bytes);
    let mut frames = Frames::new(usize::try_from(expected.lower()).unwrap_or_default(), head);
    while let Some(frame) = limited.frame().await {
        match frame {
            Ok(frame) => {
                // Trailers are not data.
                if let Ok(data) = frame.into_data() {
                    frames.push(data);
                }
            }
            Err(error) if error.is::<LengthLimitError>() => {
                drain(body).await;
                return Err(too_large(limit));
            }
            Err(error) => {
                return Err(Error::invalid("the request body ended early").with_source(error).into());
            }
        }
    }
    Ok(frames.join())
}

fn too_large(limit: ByteSize) -> Failure {
    Error::new(ErrorCode::TooLarge, format!("the request body is larger than the limit of {limit}")).into()
}

/// The frames of a body as they come.
struct Frames {
    first: Bytes,
    /// Begins with `padding` bytes that are nobody's.
    joined: Vec<u8>,
    padding: usize,
    expected: usize,
}

/// How much is set aside for a body before it has come: a header alone must not take more.
const RESERVED: usize = 64 << 20;

/// What the elements of every datatype can be aligned to.
const ALIGNMENT: usize = 16;

impl Frames {
    fn new(expected: usize, head: usize) -> Self {
        let padding = (ALIGNMENT - head % ALIGNMENT) % ALIGNMENT;
        Self { first: Bytes::new(), joined: Vec::new(), padding, expected }
    }

    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return;
        }
        if self.joined.is_empty() {
            let there = self.first.len() + data.len();
            self.joined.reserve_exact(self.padding + self.expected.min(RESERVED).max(there));
            self.joined.resize(self.padding, 0);
            let first = std::mem::take(&mut self.first);
            self.extend(&first);
        }
        self.extend(&data);
    }

    fn extend(&mut self, data: &[u8]) {
        note_copy(data.len());
        self.joined.extend_from_slice(data);
    }

    fn join(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { Bytes::from(self.joined).slice(self.padding..) }
    }
}
