//! The model and version that a path names.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use vespid_types::{Error, ModelName, ModelRef, Version};

use super::error::Failure;

/// `{model}`, and `{version}` where the path has it.
pub(super) struct Target(pub(super) ModelRef);

/// `{model}` and `{version}`.
pub(super) struct VersionedTarget {
    pub(super) name: ModelName,
    pub(super) version: Version,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let unreadable = |error| Failure::from(Error::invalid(format!("the path cannot be read: {error}")));
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(unreadable)?;
        let find = |key: &str| params.iter().find(|(name, _)| *name == key).map(|(_, value)| value);
        let invalid = |error| Failure::from(Error::invalid(format!("{error}")));
        let name = find("model").unwrap_or_default().parse().map_err(invalid)?;
        let version = find("version").map(str::parse).transpose().map_err(invalid)?;
        Ok(Self(ModelRef { name, version }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for VersionedTarget {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Target(ModelRef { name, version }) = Target::from_request_parts(parts, state).await?;
        let version = version.ok_or_else(|| Error::invalid("the path names no version"))?;
        Ok(Self { name, version })
    }
}
