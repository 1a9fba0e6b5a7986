//! The gRPC front: the Open Inference Protocol's service with Triton's additions, over the serving core.
//!
//! Contract: it answers from what the HTTP front answers from, refuses in the same words, and each failure has the code of
//! `ErrorCode::grpc_status`. `grpc-timeout` is the request's deadline; a client that cancels or leaves ends its call. Cost: a
//! message is put together once from its frames, and its tensors are slices of it. An answer is compressed where its
//! request was, and as that was. Left out on purpose: shared memory, which is refused, and an answer's typed contents.

mod access;
mod codec;
mod contents;
mod decode;
mod describe;
mod door;
mod encode;
pub(crate) mod fuzzing;
mod health;
mod infer;
mod observe;
mod parameters;
pub(crate) mod proto;
mod repository;
mod service;
mod settings;
mod status;
mod stream;

use axum::Router;
use axum::middleware;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use self::health::Health;
use self::proto::grpc_inference_service_server::GrpcInferenceServiceServer;
use self::service::Service;
use crate::Api;

/// The services: inference, health, and reflection. They are for HTTP/2; when the server stops, streams end by themselves.
///
/// # Errors
/// Where the descriptions of the services do not fit together, which a test rules out.
pub fn router(api: Api) -> Result<Router, tonic_reflection::server::Error> {
    let limit = usize::try_from(api.max_body.as_u64()).unwrap_or(usize::MAX);
    let mut inference =
        GrpcInferenceServiceServer::new(Service { api: api.clone() }).max_decoding_message_size(limit);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        inference = inference.accept_compressed(encoding).send_compressed(encoding);
    }
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let services = Routes::new(inference)
        .add_service(HealthServer::new(Health { api: api.clone() }))
        .add_service(described().build_v1()?)
        // What grpcurl and others asked before it had a version.
        .add_service(described().build_v1alpha()?);
    Ok(services.into_axum_router().layer(middleware::from_fn_with_state(api, door::pass)))
}

/// Waits until the server is told to end.
async fn until_stopping(api: &Api) {
    // An error means that the sender is gone, and with it the server.
    let _ = api.stopping.clone().wait_for(|stopping| *stopping).await;
}
