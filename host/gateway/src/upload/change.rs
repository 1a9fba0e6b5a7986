//! What an upload or a removal changes in a Model, which others change at the same time.

use std::collections::BTreeMap;

use serde_json::json;
use vespid_package::PackageError;
use vespid_resources::{Model, ModelSpec, ModelVersion, PackageSource, names};
use vespid_types::{Error, ErrorCode, ModelName, Version};

use super::Uploads;
use super::request::How;

/// How often a Model is read again that others change at the same time.
const ATTEMPTS: usize = 8;

impl Uploads {
    /// Names a version in its Model.
    pub(super) async fn add(
        &self,
        name: &ModelName,
        version: ModelVersion,
        how: &How,
        may_change: impl Fn(&Model) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let cluster = self.cluster()?;
        for _ in 0..ATTEMPTS {
            let changed = match cluster.model(name.as_str()).await? {
                None => cluster.create(&made(name, version.clone(), how)).await?,
                Some(model) => {
                    may_change(&model)?;
                    let number = number(&version)?;
                    if position(&model, number).is_some() {
                        return Err(PackageError::Exists { name: name.clone(), version: number }.into());
                    }
                    if let Some(pool) = how.pool.as_ref().filter(|pool| **pool != model.spec.pool) {
                        let message = format!(
                            "pool: the Model is of pool '{}' and not of '{pool}': change it there",
                            model.spec.pool
                        );
                        return Err(Error::invalid(message));
                    }
                    cluster
                        .change(&model, &[json!({"op": "add", "path": "/spec/versions/-", "value": version})])
                        .await?
                }
            };
            if changed.is_some() {
                return Ok(());
            }
        }
        Err(too_busy(name))
    }

    /// Takes a version out of its Model, and the Model away with its last. Says where its package was; none where it was not there.
    pub(super) async fn take_out(
        &self,
        name: &ModelName,
        version: Version,
    ) -> Result<Option<PackageSource>, Error> {
        let cluster = self.cluster()?;
        for _ in 0..ATTEMPTS {
            let Some(model) = cluster.model(name.as_str()).await? else { return Ok(None) };
            let Some((at, found)) = position(&model, version) else { return Ok(None) };
            let package = found.package.clone();
            let done = if model.spec.versions.len() == 1 {
                cluster.delete(&model).await?
            } else {
                let path = format!("/spec/versions/{at}");
                cluster.change(&model, &[json!({"op": "remove", "path": path})]).await?.is_some()
            };
            if done {
                return Ok(Some(package));
            }
        }
        Err(too_busy(name))
    }
}

fn too_busy(name: &ModelName) -> Error {
    Error::new(
        ErrorCode::Unavailable,
        format!("the Model '{name}' is being changed by others all the time: try again"),
    )
}

fn made(name: &ModelName, version: ModelVersion, how: &How) -> Model {
    let pool = how.pool.clone().unwrap_or_else(|| DEFAULT_POOL.to_owned());
    let spec = ModelSpec { pool, versions: vec![version], shadow: None, replicas: 1, grants: None };
    let mut model = Model::new(name.as_str(), spec);
    let label = |tenant: &String| BTreeMap::from([(names::TENANT_LABEL.to_owned(), tenant.clone())]);
    model.metadata.labels = how.tenant.as_ref().map(label);
    model
}

/// The pool of a Model that names none.
const DEFAULT_POOL: &str = "default";

pub(super) fn position(model: &Model, version: Version) -> Option<(usize, &ModelVersion)> {
    let mut versions = model.spec.versions.iter().enumerate();
    versions.find(|(_, found)| u64::try_from(found.version) == Ok(version.number()))
}

fn number(version: &ModelVersion) -> Result<Version, Error> {
    version.version.to_string().parse().map_err(|error| Error::internal(format!("{error}")))
}
