//! The model and version that a path names.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use vespid_types::{Error, InvalidId, ModelName, ModelRef, Version};

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
        let params =
            RawPathParams::from_request_parts(parts, state).await.map_err(|error| unreadable(&error))?;
        let name = find(&params, "model").unwrap_or_default().parse().map_err(|error| invalid(&error))?;
        let version =
            find(&params, "version").map(str::parse).transpose().map_err(|error| invalid(&error))?;
        Ok(Self(ModelRef { name, version }))
    }
}

/// `{model}` of version 1 of the protocol, where a verb may follow the name: `iris:predict`.
pub(super) struct Verbed {
    pub(super) name: ModelName,
    pub(super) verb: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Verbed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let params =
            RawPathParams::from_request_parts(parts, state).await.map_err(|error| unreadable(&error))?;
        let segment = find(&params, "model").unwrap_or_default();
        let (name, verb) = match segment.split_once(':') {
            Some((name, verb)) => (name, Some(verb.to_owned())),
            None => (segment, None),
        };
        Ok(Self { name: name.parse().map_err(|error| invalid(&error))?, verb })
    }
}

fn find<'a>(params: &'a RawPathParams, key: &str) -> Option<&'a str> {
    params.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn unreadable(error: &RawPathParamsRejection) -> Failure {
    Error::invalid(format!("the path cannot be read: {error}")).into()
}

fn invalid(error: &InvalidId) -> Failure {
    Error::invalid(error.to_string()).into()
}

impl<S: Send + Sync> FromRequestParts<S> for VersionedTarget {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Target(ModelRef { name, version }) = Target::from_request_parts(parts, state).await?;
        let version = version.ok_or_else(|| Error::invalid("the path names no version"))?;
        Ok(Self { name, version })
    }
}
