//! The API server, as far as the gateway changes what is there: pools are woken, and uploads become Models.
//!
//! Contract: a Model is changed by a patch that tests the revision that was read, so that whatever somebody else changed in between
//! is looked at first; what the API server's rules refuse is the client's to read, word for word.

use k8s_openapi::jiff::{Timestamp, Unit};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;
use vespid_resources::{Model, ModelPool};
use vespid_types::{Error, ErrorCode};

/// Who owns the fields that the gateway writes.
const MANAGER: &str = "vespid-gateway";

/// What a pool's status is told the time of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp {
    /// It is asked.
    Asked,
    /// It is to wake.
    Wake,
}

impl Stamp {
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Wake => "wake",
        }
    }
}

/// The resources of the namespace.
#[derive(Clone)]
pub(crate) struct Cluster {
    models: Api<Model>,
    pools: Api<ModelPool>,
}

impl Cluster {
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let models = Api::namespaced(client.clone(), namespace);
        Self { models, pools: Api::namespaced(client, namespace) }
    }

    /// Writes the time into a pool's status.
    pub(crate) async fn stamp(&self, pool: &str, stamp: Stamp) -> Result<(), kube::Error> {
        let now = Timestamp::now().round(Unit::Second);
        let now = now.unwrap_or_else(|_| Timestamp::now()).to_string();
        let patch = json!({"status": {stamp.field(): now}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.pools.patch_status(pool, &params, &Patch::Merge(patch)).await.map(drop)
    }

    /// The Model of this name, as it is now.
    pub(crate) async fn model(&self, name: &str) -> Result<Option<Model>, Error> {
        self.models.get_opt(name).await.map_err(|error| into_error(&error))
    }

    /// Makes a Model. None where there is one.
    pub(crate) async fn create(&self, model: &Model) -> Result<Option<Model>, Error> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.models.create(&params, model).await {
            Ok(model) => Ok(Some(model)),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(error) => Err(into_error(&error)),
        }
    }

    /// Changes a Model by these operations of a JSON patch. None where it is not any more as it was read.
    pub(crate) async fn change(
        &self,
        model: &Model,
        operations: &[serde_json::Value],
    ) -> Result<Option<Model>, Error> {
        let revision = json!({
            "op": "test", "path": "/metadata/resourceVersion", "value": model.metadata.resource_version,
        });
        let operations: Vec<_> = std::iter::once(&revision).chain(operations).collect();
        let patch = serde_json::from_value(json!(operations))
            .map_err(|error| Error::internal("a patch cannot be written").with_source(error))?;
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let name = model.metadata.name.as_deref().unwrap_or_default();
        match self.models.patch(name, &params, &Patch::Json::<()>(patch)).await {
            Ok(model) => Ok(Some(model)),
            Err(kube::Error::Api(status)) if is_outdated(&status) => Ok(None),
            Err(error) => Err(into_error(&error)),
        }
    }

    /// Deletes a Model. Says whether it was as it was read.
    pub(crate) async fn delete(&self, model: &Model) -> Result<bool, Error> {
        let preconditions = Preconditions {
            uid: model.metadata.uid.clone(),
            resource_version: model.metadata.resource_version.clone(),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.models.delete(model.metadata.name.as_deref().unwrap_or_default(), &params).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(into_error(&error)),
        }
    }
}

/// Whether a patch did not find what it tests for, or nothing at all. Of a test that fails servers say no more than that there is
/// an error in the request; an object that their rules refuse they name.
fn is_outdated(status: &kube::core::Status) -> bool {
    let names_nothing = || status.details.as_ref().is_none_or(|details| details.name.is_empty());
    status.is_conflict() || status.is_not_found() || (status.code == 422 && names_nothing())
}

fn into_error(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let code = match status.code {
                400 | 422 => ErrorCode::InvalidArgument,
                404 => ErrorCode::NotFound,
                401 | 403 => {
                    tracing::warn!("the API server refuses the gateway: {}", status.message);
                    ErrorCode::Internal
                }
                _ => ErrorCode::Unavailable,
            };
            Error::new(code, format!("the API server refuses it: {}", status.message))
        }
        error => {
            let error = format!("the API server cannot be reached: {error}");
            tracing::warn!("{error}");
            Error::new(ErrorCode::Unavailable, error)
        }
    }
}
