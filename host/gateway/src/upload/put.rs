//! An upload from its request to its answer.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytesize::ByteSize;
use vespid_auth::Asker;
use vespid_limits::{Coming, Upload};
use vespid_package::Verified;
use vespid_resources::{ModelVersion, PackageSource};
use vespid_types::{Error, ErrorCode, ModelName, Version};

use super::request::{How, check_name, is_json, source};
use super::wait::{self, Loaded};
use super::{Begun, receive};
use crate::authorize::{Action, done};
use crate::body;
use crate::error::Failure;
use crate::gateway::Shared;
use crate::index;

/// More than where a package is takes.
const MAX_SOURCE: ByteSize = ByteSize::kib(64);

/// `PUT` of a version.
pub(crate) async fn put(
    shared: &Arc<Shared>,
    parts: &Parts,
    asker: Asker,
    body: Body,
    name: ModelName,
    version: Version,
) -> Result<Response, Failure> {
    let is_source = is_json(&parts.headers);
    let ready = async {
        let mut how = How::read(parts.uri.query(), shared.uploads.load_timeout)?;
        how.tenant = asker.tenant().map(str::to_owned);
        check_name(&name)?;
        if !is_source {
            shared.uploads.store()?;
        }
        shared.uploads.begin(&name, version, how).await
    };
    let begun = match ready.await {
        Ok(begun) => begun,
        Err(error) => {
            body::drain(body).await;
            return Err(error.into());
        }
    };
    let arrived = if is_source {
        Arrived::Named(source(&body::read(body, MAX_SOURCE).await?)?)
    } else {
        let limits = shared.uploads.limits;
        Arrived::Package(Box::new(
            receive::package(shared.uploads.store()?, body, limits, &name, version).await?,
        ))
    };
    let shared = Arc::clone(shared);
    // It goes on where the client leaves.
    let taken = tokio::spawn(async move {
        let mut digest = None;
        let taken = take(&shared, (&name, version), arrived, begun, &asker, &mut digest).await;
        let (action, status) = (Action::Upload, StatusCode::CREATED.as_u16());
        shared.tell(asker, done(action, (&name, version), digest.as_deref(), &taken, status)).await;
        taken
    });
    let answer =
        taken.await.unwrap_or_else(|error| Err(Error::internal("a task failed").with_source(error)))?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// What an upload has brought.
enum Arrived {
    Package(Box<Verified>),
    Named(PackageSource),
}

/// Puts the package into the store and the version into its Model, and waits for a pod. `digest` is set as soon as it is known.
async fn take(
    shared: &Arc<Shared>,
    (name, version): (&ModelName, Version),
    arrived: Arrived,
    begun: Begun,
    asker: &Asker,
    digest: &mut Option<String>,
) -> Result<index::Entry, Error> {
    let time = begun.how.wait;
    let counted = add(shared, (name, version), arrived, begun, asker, digest).await?;
    tracing::info!(model = %name, %version, "a version has been added");
    let Some(time) = time else {
        counted.done();
        return Ok(entry(name, version, "LOADING", ""));
    };
    match wait::until_loaded(shared, name, version, digest.as_deref(), time).await {
        Ok(Loaded::Failed(why)) => {
            // Why it does not load is what the client has to know.
            if let Err(error) = shared.uploads.remove(name, version).await {
                tracing::warn!(model = %name, %version, "it does not load, and is left in its Model: {error}");
                counted.done();
            }
            Err(Error::invalid(format!("model '{name}' version {version} failed to load: {why}")))
        }
        // Else it stays, whatever is known of it by now.
        Ok(Loaded::Ready) => {
            counted.done();
            Ok(entry(name, version, "READY", ""))
        }
        Ok(Loaded::Later(why)) => {
            counted.done();
            Ok(entry(name, version, "LOADING", &why))
        }
        Err(error) => {
            counted.done();
            Err(error)
        }
    }
}

/// Puts the package into the store and the version into its Model, in its turn. What it counts for is given back unless it is there.
async fn add(
    shared: &Arc<Shared>,
    (name, version): (&ModelName, Version),
    arrived: Arrived,
    Begun { how, owner, counted }: Begun,
    asker: &Asker,
    digest: &mut Option<String>,
) -> Result<Upload, Error> {
    let uploads = &shared.uploads;
    let _turn = uploads.turn(name).await;
    uploads.check_absent(name, version).await?;
    let (package, coming) = match arrived {
        Arrived::Package(package) => uploads.keep(*package, owner.as_deref()).await?,
        Arrived::Named(source) => (source, Coming::default()),
    };
    let is_kept = package.upload.is_some();
    let pinned = package.oci.as_ref().and_then(|oci| Some(oci.rsplit_once('@')?.1.to_owned()));
    *digest = package.upload.clone().or(pinned);
    let number = i64::try_from(version.number())
        .map_err(|error| Error::internal("a version is too large").with_source(error))?;
    let version_of = ModelVersion { version: number, package, weight: None };
    let added = uploads.add(name, version_of, &how, |model| shared.admit_change(asker, model)).await;
    // Where it is not sure that nothing was written, the Model may name it by now.
    let is_there = added.as_ref().err().is_none_or(|error| !is_definite(error.code()));
    if let Some(owner) = owner.filter(|_| is_there) {
        uploads.quotas.set_tenant(name, &owner);
    }
    if is_kept && !is_there {
        uploads.forget(name, version).await;
    }
    if is_kept {
        uploads.look(coming).await;
    }
    match added {
        Ok(()) => Ok(counted),
        Err(error) => {
            if is_there {
                counted.done();
            }
            Err(error)
        }
    }
}

fn entry(name: &ModelName, version: Version, state: &'static str, reason: &str) -> index::Entry {
    index::Entry { name: name.to_string(), version: version.to_string(), state, reason: reason.to_owned() }
}

/// Whether what was asked has certainly not been done.
fn is_definite(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidArgument | ErrorCode::AlreadyExists | ErrorCode::PermissionDenied)
}
