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
use vespid_types::{Error, ErrorCode};

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
        .route("/v2/repository/index", post(repository::index))
        .route(
            "/v2/repository/models/{model}/versions/{version}",
            put(repository::upload).delete(repository::remove),
        );
    for path in [&model, &version] as [&dyn Fn(&str) -> String; 2] {
        routes = routes
            .route(&path(""), get(metadata::model))
            .route(&path("/ready"), get(metadata::model_ready))
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

/// Reads a whole body. Frames are joined in one buffer, so that tensors can be slices of it: the one copy on the way in.
async fn read_body(mut body: Body, limit: ByteSize) -> Result<Bytes, Failure> {
    let limit_bytes = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
    let too_large =
        || Error::new(ErrorCode::TooLarge, format!("the request body is larger than the limit of {limit}"));
    if axum::body::HttpBody::size_hint(&body).lower() > limit.as_u64() {
        drain(body).await;
        return Err(too_large().into());
    }
    match Limited::new(&mut body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(body).await;
            Err(too_large().into())
        }
        Err(error) => Err(Error::invalid("the request body ended early").with_source(error).into()),
    }
}
