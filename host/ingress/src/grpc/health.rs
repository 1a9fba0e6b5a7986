//! gRPC's own health service.
//!
//! Contract: the server as a whole (the empty name) and the inference service are healthy when the server is ready, a model
//! by its name when it can be called. Cost: a look at the catalog; who watches is told within [`EVERY`].

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};
use vespid_types::{Error, ErrorCode};

use super::access;
use super::decode::target;
use super::proto::grpc_inference_service_server::SERVICE_NAME;
use super::status::status;
use super::until_stopping;
use crate::Api;

/// How often a watched state is looked at.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Health {
    pub(super) api: Api,
}

impl Health {
    /// The state of what is called `service`; none where nothing is.
    fn state(&self, service: &str) -> Option<ServingStatus> {
        let healthy = if matches!(service, "" | SERVICE_NAME) {
            self.api.is_ready()
        } else {
            match self.api.predictor.check(&target(service, "").ok()?) {
                Ok(()) => true,
                Err(error) if error.code() == ErrorCode::NotFound => return None,
                Err(_) => false,
            }
        };
        let healthy = healthy && !*self.api.stopping.borrow();
        Some(if healthy { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

impl Health {
    /// What is asked about, where the caller may know of it.
    async fn permit(&self, request: Request<HealthCheckRequest>) -> Result<String, Status> {
        let service = &request.get_ref().service;
        access::permit_health(&self.api, &request, service).await.map_err(|denied| status(&denied))?;
        Ok(request.into_inner().service)
    }
}

type Watched = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = self.permit(request).await?;
        match self.state(&service) {
            Some(state) => Ok(Response::new(response(state))),
            None => {
                let message = format!(
                    "'{}' is neither the inference service nor a model",
                    crate::wire::fault::name(&service)
                );
                Err(status(&Error::new(ErrorCode::NotFound, message)))
            }
        }
    }

    type WatchStream = Watched;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Watched>, Status> {
        let service = self.permit(request).await?;
        let seen = (self.clone(), None);
        let states = stream::unfold(seen, move |(health, seen)| {
            let service = service.clone();
            async move {
                loop {
                    let stopping = *health.api.stopping.borrow();
                    let state = health.state(&service).unwrap_or(ServingStatus::ServiceUnknown);
                    if seen != Some(state) {
                        return Some((Ok(response(state)), (health, Some(state))));
                    }
                    if stopping {
                        return None;
                    }
                    let _ = tokio::time::timeout(EVERY, until_stopping(&health.api)).await;
                }
            }
        });
        Ok(Response::new(Box::pin(states)))
    }
}

fn response(state: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: state.into() }
}
