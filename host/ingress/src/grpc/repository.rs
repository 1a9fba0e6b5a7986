//! The model repository: its index, and models that are loaded and unloaded.

use vespid_types::{Error, ErrorCode, ModelName};

use super::describe;
use super::proto::{
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest, RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
};
use crate::Api;

pub(super) fn index(api: &Api, request: &RepositoryIndexRequest) -> Result<RepositoryIndexResponse, Error> {
    if !request.repository_name.is_empty() {
        return Err(Error::invalid(
            "repository_name: this server has one repository, which has no name: leave it out",
        ));
    }
    Ok(describe::index(api, request.ready))
}

pub(super) async fn load(
    _api: &Api,
    request: RepositoryModelLoadRequest,
) -> Result<RepositoryModelLoadResponse, Error> {
    let model = model(request.repository_name, request.model_name)?;
    Err(Error::new(ErrorCode::Unsupported, format!("loading '{model}' is not supported yet")))
}

pub(super) async fn unload(
    _api: &Api,
    request: RepositoryModelUnloadRequest,
) -> Result<RepositoryModelUnloadResponse, Error> {
    let model = model(request.repository_name, request.model_name)?;
    Err(Error::new(ErrorCode::Unsupported, format!("unloading '{model}' is not supported yet")))
}

/// The model that is meant. KServe's service has its name where Triton's has the repository's.
fn model(repository: String, model: String) -> Result<ModelName, Error> {
    let name = match (repository.is_empty(), model.is_empty()) {
        (_, true) => repository,
        (true, false) => model,
        (false, false) => {
            return Err(Error::invalid(
                "repository_name: this server has one repository, which has no name: leave it out",
            ));
        }
    };
    name.parse().map_err(|error| Error::invalid(format!("{error}")))
}
