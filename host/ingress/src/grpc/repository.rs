//! The model repository: its index, and models that are loaded and unloaded.

use std::collections::HashMap;

use vespid_serving::LoadOptions;
use vespid_types::{Error, ModelName};

use super::describe;
use super::proto::model_repository_parameter::ParameterChoice;
use super::proto::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
};
use crate::Api;
use crate::wire::repository::LoadParameters;
use crate::wire::{fault, repository};

pub(super) fn index(api: &Api, request: &RepositoryIndexRequest) -> Result<RepositoryIndexResponse, Error> {
    if !request.repository_name.is_empty() {
        return Err(Error::invalid(
            "repository_name: this server has one repository, which has no name: leave it out",
        ));
    }
    Ok(describe::index(api, request.ready))
}

pub(super) async fn load(
    api: &Api,
    request: RepositoryModelLoadRequest,
) -> Result<RepositoryModelLoadResponse, Error> {
    let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request;
    let model = model(repository_name, model_name)?;
    let options = options(&model, parameters).map_err(|error| repository::refused(&model, error))?;
    if !options.files.is_empty() {
        api.sources.allow_upload().map_err(|error| repository::refused(&model, error))?;
    }
    api.repository.load(model.clone(), options).await?;
    Ok(RepositoryModelLoadResponse { model_name: model.into(), is_loaded: true })
}

fn options(
    model: &ModelName,
    parameters: HashMap<String, ModelRepositoryParameter>,
) -> Result<LoadOptions, Error> {
    let mut given = LoadParameters::default();
    for (name, ModelRepositoryParameter { parameter_choice }) in parameters {
        let not =
            |what: &str| Error::invalid(format!("parameters: '{}' is not a {what}", fault::name(&name)));
        match (name.as_str(), parameter_choice) {
            ("config", Some(ParameterChoice::StringParam(text))) => given.config = Some(text),
            ("config", _) => return Err(not("string_param")),
            (file, Some(ParameterChoice::BytesParam(content))) => given.file(file, || Ok(content))?,
            (file, _) => given.file(file, || Err(not("bytes_param")))?,
        }
    }
    given.into_options(model)
}

pub(super) async fn unload(
    api: &Api,
    request: RepositoryModelUnloadRequest,
) -> Result<RepositoryModelUnloadResponse, Error> {
    // `unload_dependents` has nothing to act on: no model here is loaded along with another.
    let RepositoryModelUnloadRequest { repository_name, model_name, parameters: _ } = request;
    let model = model(repository_name, model_name)?;
    api.repository.unload(model.clone()).await?;
    Ok(RepositoryModelUnloadResponse { model_name: model.into(), is_unloaded: true })
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
