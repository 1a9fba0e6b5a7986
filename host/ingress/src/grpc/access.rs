//! What a method asks for, and whether it may be.
//!
//! Contract: [`identify`] sees who calls before a service does, and leaves their [`Rights`] with the call; methods about a model ask
//! them when they know which it is. A method that is not known here is the server's own, as is its description.

use axum::extract::Request;
use vespid_auth::Action;
use vespid_types::Error;

use super::proto::grpc_inference_service_server::SERVICE_NAME;
use crate::Api;
use crate::access::{Purpose, Rights};

/// The status of HTTP that goes with success, for the audit.
pub(super) const OK: u16 = 200;

/// What a method asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Whether the server is up; of a model's health the service asks.
    Probe,
    /// Something of a model that its message names, or of those that may be seen.
    Later(Action),
    /// Something of the server.
    Server(Action),
}

fn asked(path: &str) -> Asked {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    match (service, method) {
        (SERVICE_NAME, "ServerLive" | "ServerReady") | ("grpc.health.v1.Health", _) => Asked::Probe,
        (SERVICE_NAME, "ModelInfer" | "ModelStreamInfer") => Asked::Later(Action::Predict),
        (
            SERVICE_NAME,
            "ModelReady" | "ModelMetadata" | "ModelConfig" | "ModelStatistics" | "RepositoryIndex",
        ) => Asked::Later(Action::ReadMetadata),
        (SERVICE_NAME, "RepositoryModelLoad" | "RepositoryModelUnload" | "TraceSetting" | "LogSettings") => {
            Asked::Later(Action::Admin)
        }
        _ => Asked::Server(Action::ReadMetadata),
    }
}

/// Sees who calls.
///
/// # Errors
/// As [`Rights::of`] and [`Rights::permit`].
pub(super) async fn identify(api: &Api, request: &mut Request) -> Result<(), Error> {
    if api.access.is_none() {
        return Ok(());
    }
    let asked = asked(request.uri().path());
    let purpose = match asked {
        Asked::Probe => return Ok(()),
        Asked::Later(action) | Asked::Server(action) => Purpose::server(action),
    };
    let rights = Rights::of(api, request.headers(), request.extensions(), &purpose).await?;
    if let Asked::Server(_) = asked {
        rights.permit(&purpose).await?;
    }
    request.extensions_mut().insert(rights);
    Ok(())
}

/// The rights that the door left with a call.
///
/// # Errors
/// As [`Rights::left_in`].
pub(super) fn rights<T>(api: &Api, request: &tonic::Request<T>) -> Result<Rights, Error> {
    Rights::left_in(api, request.extensions())
}

/// Sees whether the caller may know of a model's health; of the server's everybody may.
///
/// # Errors
/// As [`Rights::of`] and [`Rights::permit`].
pub(super) async fn permit_health<T>(
    api: &Api,
    request: &tonic::Request<T>,
    service: &str,
) -> Result<(), Error> {
    if matches!(service, "" | SERVICE_NAME) {
        return Ok(());
    }
    let purpose = Purpose::model(Action::ReadMetadata, service);
    let rights = Rights::of(api, request.metadata().as_ref(), request.extensions(), &purpose).await?;
    rights.permit(&purpose).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_says_what_it_asks() {
        for (path, expected) in [
            ("/inference.GRPCInferenceService/ServerLive", Asked::Probe),
            ("/inference.GRPCInferenceService/ModelInfer", Asked::Later(Action::Predict)),
            ("/inference.GRPCInferenceService/RepositoryModelLoad", Asked::Later(Action::Admin)),
            ("/inference.GRPCInferenceService/ServerMetadata", Asked::Server(Action::ReadMetadata)),
            ("/inference.GRPCInferenceService/Another", Asked::Server(Action::ReadMetadata)),
            ("/grpc.health.v1.Health/Watch", Asked::Probe),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                Asked::Server(Action::ReadMetadata),
            ),
            ("/", Asked::Server(Action::ReadMetadata)),
        ] {
            assert_eq!(asked(path), expected, "{path}");
        }
    }
}
