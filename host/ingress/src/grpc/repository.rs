//! The model repository: its index, and models that are loaded and unloaded.

use std::collections::HashMap;

use vespid_auth::Action;
use vespid_serving::LoadOptions;
use vespid_types::{Error, ModelName};

use super::access::OK;
use super::describe;
use super::proto::model_repository_parameter::ParameterChoice;
use super::proto::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
};
use crate::Api;
use crate::access::{Purpose, Rights};
use crate::wire::repository::LoadParameters;
use crate::wire::{fault, repository};

pub(super) fn index(
    api: &Api,
    request: &RepositoryIndexRequest,
    rights: &Rights,
) -> Result<RepositoryIndexResponse, Error> {
    if !request.repository_name.is_empty() {
        return Err(Error::invalid(
            "repository_name: this server has one repository, which has no name: leave it out",
        ));
    }
    Ok(describe::index(api, request.ready, rights))
}

pub(super) async fn load(
    api: &Api,
    request: RepositoryModelLoadRequest,
    rights: &Rights,
) -> Result<RepositoryModelLoadResponse, Error> {
    let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request;
    let model = model(repository_name, model_name)?;
    let load = async {
        let options = options(&model, parameters).map_err(|error| repository::refused(&model, error))?;
        if !options.files.is_empty() {
            rights.permit(&Purpose::model(Action::Upload, model.as_str())).await?;
            api.sources.allow_upload().map_err(|error| repository::refused(&model, error))?;
        }
        api.repository.load(model.clone(), options).await
    };
    rights.change(&Purpose::model(Action::Admin, model.as_str()), OK, load).await?;
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
    rights: &Rights,
) -> Result<RepositoryModelUnloadResponse, Error> {
    // `unload_dependents` has nothing to act on: no model here is loaded along with another.
    let RepositoryModelUnloadRequest { repository_name, model_name, parameters: _ } = request;
    let model = model(repository_name, model_name)?;
    let unload = api.repository.unload(model.clone());
    rights.change(&Purpose::model(Action::Admin, model.as_str()), OK, unload).await?;
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
