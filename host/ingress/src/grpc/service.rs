//! The methods of the inference service, each a line or two over what answers it.

use tonic::{Request, Response, Status, Streaming};
use vespid_auth::Action;
use vespid_types::{Error, ErrorCode};

use super::infer::Caller;
use super::proto::grpc_inference_service_server::GrpcInferenceService;
use super::proto::*;
use super::status::status;
use super::{access, describe, infer, repository, settings, stream};
use crate::Api;
use crate::access::{Purpose, Rights};

pub(super) struct Service {
    pub(super) api: Api,
}

impl Service {
    fn rights<T>(&self, request: &Request<T>) -> Result<Rights, Status> {
        access::rights(&self.api, request).map_err(|error| status(&error))
    }

    /// Sees whether the caller may read of a model.
    async fn permit<T: Sync>(&self, request: &Request<T>, model: &str) -> Result<(), Status> {
        let purpose = Purpose::model(Action::ReadMetadata, model);
        self.rights(request)?.permit(&purpose).await.map_err(|denied| status(&denied))
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, Error>) -> Answer<T> {
    result.map(Response::new).map_err(|error| status(&error))
}

/// The answer to all that is about shared memory.
fn no_shared_memory<T>() -> Answer<T> {
    answer(Err(Error::new(
        ErrorCode::Unsupported,
        "shared memory is not supported: who may name a region would read and write it. Send tensors in the message; \
         raw_input_contents are not copied",
    )))
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.api.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        self.permit(&request, &request.get_ref().name).await?;
        let (metadata, _, ModelReadyRequest { name, version }) = request.into_parts();
        answer(
            describe::is_ready(&self.api, &name, &version, metadata.as_ref())
                .map(|ready| ModelReadyResponse { ready }),
        )
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answer<ServerMetadataResponse> {
        Ok(Response::new(describe::server()))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Answer<ModelMetadataResponse> {
        self.permit(&request, &request.get_ref().name).await?;
        let (metadata, _, ModelMetadataRequest { name, version }) = request.into_parts();
        answer(describe::model(&self.api, &name, &version, metadata.as_ref()).await)
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let caller = Caller::of(&self.api, &request).map_err(|error| status(&error))?;
        let about = request.extensions().get().cloned();
        infer::infer(&self.api, request.into_inner(), &caller, about.as_ref()).await.map(Response::new)
    }

    type ModelStreamInferStream = stream::Responses;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<stream::Responses> {
        let caller = Caller::of(&self.api, &request).map_err(|error| status(&error))?;
        Ok(Response::new(stream::answer(&self.api, caller, request)))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        self.permit(&request, &request.get_ref().name).await?;
        let (metadata, _, ModelConfigRequest { name, version }) = request.into_parts();
        answer(describe::config(&self.api, &name, &version, metadata.as_ref()).await)
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let rights = self.rights(&request)?;
        let ModelStatisticsRequest { name, version } = request.into_inner();
        answer(describe::statistics(&self.api, &name, &version, &rights).await)
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let rights = self.rights(&request)?;
        answer(repository::index(&self.api, &request.into_inner(), &rights))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let rights = self.rights(&request)?;
        answer(repository::load(&self.api, request.into_inner(), &rights).await)
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let rights = self.rights(&request)?;
        answer(repository::unload(&self.api, request.into_inner(), &rights).await)
    }

    async fn trace_setting(&self, request: Request<TraceSettingRequest>) -> Answer<TraceSettingResponse> {
        let rights = self.rights(&request)?;
        answer(settings::trace(&self.api, request.into_inner(), &rights).await)
    }

    async fn log_settings(&self, request: Request<LogSettingsRequest>) -> Answer<LogSettingsResponse> {
        let rights = self.rights(&request)?;
        answer(settings::log(&self.api, request.into_inner(), &rights).await)
    }

    async fn system_shared_memory_status(
        &self,
        _: Request<SystemSharedMemoryStatusRequest>,
    ) -> Answer<SystemSharedMemoryStatusResponse> {
        no_shared_memory()
    }

    async fn system_shared_memory_register(
        &self,
        _: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Answer<SystemSharedMemoryRegisterResponse> {
        no_shared_memory()
    }

    async fn system_shared_memory_unregister(
        &self,
        _: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Answer<SystemSharedMemoryUnregisterResponse> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_status(
        &self,
        _: Request<CudaSharedMemoryStatusRequest>,
    ) -> Answer<CudaSharedMemoryStatusResponse> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_register(
        &self,
        _: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Answer<CudaSharedMemoryRegisterResponse> {
        no_shared_memory()
    }

    async fn cuda_shared_memory_unregister(
        &self,
        _: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Answer<CudaSharedMemoryUnregisterResponse> {
        no_shared_memory()
    }
}
