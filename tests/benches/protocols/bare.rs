//! Handlers that read a request as Vespid's do, do nothing with it, and answer with a few bytes.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http;
use axum::routing::post;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::clients::proto::{ModelInferRequest, ModelInferResponse};

const BARE: &str = "/v2/models/{model}/infer";

pub(crate) fn http() -> Router {
    Router::new().route(BARE, post(async |body: Bytes| if body.is_empty() { "empty" } else { "read" }))
}

pub(crate) fn grpc() -> Router {
    Router::new().route("/inference.GRPCInferenceService/ModelInfer", post(infer))
}

async fn infer(request: http::Request<Body>) -> http::Response<tonic::body::Body> {
    let answer = service_fn(async |request: tonic::Request<ModelInferRequest>| {
        let id = request.into_inner().id;
        Ok::<_, tonic::Status>(tonic::Response::new(ModelInferResponse { id, ..Default::default() }))
    });
    let codec = ProstCodec::<ModelInferResponse, ModelInferRequest>::default();
    Grpc::new(codec).unary(answer, request.map(tonic::body::Body::new)).await
}
