//! Uploads: a package becomes a version of a Model.
//!
//! Contract: as of a host's. A package is received, checked and put into the gateway's store, and then named in the Model, which is
//! made where there is none; a version that exists is a conflict. The answer comes when a pod has loaded it, or cannot: then it is
//! taken out again, and the pod's reason is the answer. `?wait=false` answers at once, `?wait=30s` waits no longer; `?pool=` names
//! the pool of a Model that is made. A new version has no weight: where others have, it answers when it is named, until somebody
//! gives it some. What has been received goes on where its client leaves. Where limits say how much may be uploaded and stored, an
//! upload is counted before it is received, for its Model's tenant or, where it makes one, its uploader's; it is given back where
//! nothing comes of it. Cost: the package is written once to this machine, and
//! once to the store. Nothing is compiled here.
//!
//! Left by a crash between the store and the Model: a package that no Model names. It is in the way of another upload of that
//! version, which says so, and `DELETE` removes it.

pub(crate) mod packages;
mod receive;
mod wait;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytesize::ByteSize;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use vespid_auth::Asker;
use vespid_limits::{Coming, Limits, Upload};
use vespid_package::oci::{Reference, RegistryError};
use vespid_package::{ArchiveLimits, MAX_FILES, PackageError, Store, Verified};
use vespid_resources::{Model, ModelSpec, ModelVersion, PackageSource, names};
use vespid_types::{Error, ErrorCode, ModelName, Version};

use crate::authorize::{self, Action, done};
use crate::body;
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::gateway::Shared;
use crate::index;

/// More than where a package is takes.
const MAX_SOURCE: ByteSize = ByteSize::kib(64);

/// How often a Model is read again that others change at the same time.
const ATTEMPTS: usize = 8;

/// What uploads need.
pub(crate) struct Uploads {
    cluster: Option<Cluster>,
    pub(crate) store: Option<Arc<Store>>,
    limits: ArchiveLimits,
    load_timeout: Duration,
    quotas: Limits,
    turns: Mutex<HashMap<ModelName, Weak<AsyncMutex<()>>>>,
    /// For those who fetch packages.
    downloads: Arc<Semaphore>,
}

/// An upload that has been admitted.
struct Begun {
    how: How,
    /// Whose its model is, or will be.
    owner: Option<String>,
    counted: Upload,
}

/// What the query of an upload says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct How {
    /// How long to wait for a pod.
    wait: Option<Duration>,
    /// The pool of a Model that is made.
    pool: Option<String>,
    /// The tenant that it belongs to.
    tenant: Option<String>,
}

impl Uploads {
    pub(crate) fn new(
        cluster: Option<Cluster>,
        store: Option<Store>,
        max_package: ByteSize,
        load_timeout: Duration,
        quotas: Limits,
    ) -> Self {
        let limits = ArchiveLimits { size: max_package, entries: MAX_FILES };
        let downloads = Arc::new(Semaphore::new(packages::DOWNLOADS));
        let store = store.map(Arc::new);
        Self { cluster, store, limits, load_timeout, quotas, turns: Mutex::default(), downloads }
    }

    fn store(&self) -> Result<&Arc<Store>, Error> {
        let none = || {
            let message = "this gateway keeps no packages: start it with --store, or push the package to a registry and name \
                           it as `source`";
            Error::new(ErrorCode::Unsupported, message)
        };
        self.store.as_ref().ok_or_else(none)
    }

    fn cluster(&self) -> Result<&Cluster, Error> {
        self.cluster.as_ref().ok_or_else(|| Error::new(ErrorCode::Unsupported, "this gateway has no cluster"))
    }

    /// The turn of those that change a model, of whom this process has one at a time.
    async fn turn(&self, name: &ModelName) -> OwnedMutexGuard<()> {
        let turn = {
            // Nothing panics under the lock, so that a poisoned one is as good as any.
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            turns.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(name.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// Sees that there is no such version. Gives the Model, where there is one.
    async fn check_absent(&self, name: &ModelName, version: Version) -> Result<Option<Model>, Error> {
        let model = self.cluster()?.model(name.as_str()).await?;
        if model.as_ref().is_some_and(|model| position(model, version).is_some()) {
            return Err(PackageError::Exists { name: name.clone(), version }.into());
        }
        Ok(model)
    }

    /// Sees whether a version may come, and counts that it does.
    async fn begin(&self, name: &ModelName, version: Version, how: How) -> Result<Begun, Error> {
        let owner = match self.check_absent(name, version).await? {
            Some(model) => authorize::tenant(&model).map(str::to_owned),
            None => how.tenant.clone(),
        };
        let counted = self.quotas.begin_upload(name, owner.as_deref())?;
        Ok(Begun { how, owner, counted })
    }

    /// Puts a package into the store. Says what it is, and what is counted until the store is looked at again.
    async fn keep(&self, package: Verified, owner: Option<&str>) -> Result<(PackageSource, Coming), Error> {
        let (store, manifest) = (self.store()?, package.manifest());
        if store.contains(&manifest.name, manifest.version).await? {
            let (name, version) = (&manifest.name, manifest.version);
            let message = format!(
                "model '{name}' version {version}: the gateway's store has a package of it that no Model names: remove it with \
                 `vespid delete {name} --version {version}`, or upload another version"
            );
            return Err(Error::new(ErrorCode::AlreadyExists, message));
        }
        let size = package.files().values().map(|(_, size)| size).sum();
        let coming = self.quotas.begin_store(store, (&manifest.name, owner), size).await?;
        let stored = store.commit(package).await?;
        let source = PackageSource { upload: Some(stored.digest.to_string()), ..PackageSource::default() };
        Ok((source, coming))
    }

    /// Names a version in its Model.
    async fn add(
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
    async fn take_out(&self, name: &ModelName, version: Version) -> Result<Option<PackageSource>, Error> {
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

    /// Removes a version, and its package where this gateway's store has it.
    ///
    /// # Errors
    /// `NOT_FOUND`, or what the API server or the store says.
    pub(crate) async fn remove(&self, name: &ModelName, version: Version) -> Result<(), Error> {
        let _turn = self.turn(name).await;
        let named = self.take_out(name, version).await?;
        if named.as_ref().is_some_and(|package| package.upload.is_none()) {
            return Ok(());
        }
        let not_found = || PackageError::NotFound { name: name.clone(), version };
        match (&self.store, named) {
            (None, None) => Err(not_found().into()),
            (None, Some(_)) => Ok(()),
            (Some(store), named) => {
                match store.remove(name, version).await {
                    Err(PackageError::NotFound { .. }) if named.is_some() => {}
                    removed => removed?,
                }
                self.look(Coming::default()).await;
                Ok(())
            }
        }
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

fn position(model: &Model, version: Version) -> Option<(usize, &ModelVersion)> {
    let mut versions = model.spec.versions.iter().enumerate();
    versions.find(|(_, found)| u64::try_from(found.version) == Ok(version.number()))
}

fn number(version: &ModelVersion) -> Result<Version, Error> {
    version.version.to_string().parse().map_err(|error| Error::internal(format!("{error}")))
}

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

async fn take(
    shared: &Arc<Shared>,
    (name, version): (&ModelName, Version),
    arrived: Arrived,
    Begun { how, owner, counted }: Begun,
    asker: &Asker,
    digest: &mut Option<String>,
) -> Result<index::Entry, Error> {
    let uploads = &shared.uploads;
    {
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
        if let Err(error) = added {
            if is_there {
                counted.done();
            }
            return Err(error);
        }
    }
    tracing::info!(model = %name, %version, "a version has been added");
    let state = |state, reason: &str| index::Entry {
        name: name.to_string(),
        version: version.to_string(),
        state,
        reason: reason.to_owned(),
    };
    let loaded = match how.wait {
        Some(time) => wait::until_loaded(shared, name, version, digest.as_deref(), time).await,
        None => Ok(wait::Loaded::Later(String::new())),
    };
    let why = match loaded {
        Ok(wait::Loaded::Failed(why)) => why,
        // It stays, whatever is known of it by now.
        stays => {
            counted.done();
            return stays.map(|loaded| match loaded {
                wait::Loaded::Ready => state("READY", ""),
                wait::Loaded::Later(why) | wait::Loaded::Failed(why) => state("LOADING", &why),
            });
        }
    };
    // Why it does not load is what the client has to know.
    if let Err(error) = uploads.remove(name, version).await {
        tracing::warn!(model = %name, %version, "it does not load, and is left in its Model: {error}");
        counted.done();
    }
    Err(Error::invalid(format!("model '{name}' version {version} failed to load: {why}")))
}

impl Uploads {
    /// Counts what is stored again.
    pub(crate) async fn look(&self, coming: Coming) {
        if let Some(store) = &self.store {
            self.quotas.stored(store, coming).await;
        }
    }

    /// Removes a package that has come to nothing.
    async fn forget(&self, name: &ModelName, version: Version) {
        let Some(store) = &self.store else { return };
        if let Err(error) = store.remove(name, version).await {
            tracing::warn!(model = %name, %version, "its package is left in the store: {error}");
        }
    }
}

impl How {
    fn read(query: Option<&str>, load_timeout: Duration) -> Result<Self, Error> {
        let mut how = Self { wait: Some(load_timeout), pool: None, tenant: None };
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match (&*key, &*value) {
                ("wait", "true") => {}
                ("wait", "false") => how.wait = None,
                ("wait", seconds) => {
                    let seconds = seconds.strip_suffix('s').unwrap_or(seconds).parse().map_err(|_| {
                        Error::invalid("wait: use true, false, or how many seconds, such as 30s")
                    })?;
                    how.wait = Some(Duration::from_secs(seconds).min(load_timeout));
                }
                ("pool", pool) => how.pool = Some(pool.to_owned()),
                (key, _) => {
                    let key: String = key.chars().take(60).collect();
                    return Err(Error::invalid(format!("'{key}': an upload takes wait and pool")));
                }
            }
        }
        Ok(how)
    }
}

/// A resource's name has fewer characters than a model's.
fn check_name(name: &ModelName) -> Result<(), Error> {
    let name = name.as_str();
    let fits = name.len() <= 63
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
        && name.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "model '{name}': in a cluster a model's name has at most 63 small letters, digits, '-' and '.', none of the last two at an end"
    )))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Where in a registry the package is: by its digest, for a tag may lead somewhere else tomorrow.
fn source(body: &[u8]) -> Result<PackageSource, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Source {
        source: String,
    }
    let not_one =
        |error: serde_json::Error| Error::invalid(format!("request body is not a package's source: {error}"));
    let object: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(not_one)?;
    let Source { source } = serde_json::from_value(object.into()).map_err(not_one)?;
    let reference: Reference = source.parse().map_err(|error| Error::invalid(format!("source: {error}")))?;
    if reference.digest().is_none() {
        let unpinned = PackageError::from(RegistryError::Unpinned { reference });
        return Err(Error::from(unpinned).context("source"));
    }
    Ok(PackageSource { oci: Some(reference.to_string()), ..PackageSource::default() })
}

#[cfg(test)]
mod tests;

/// Whether what was asked has certainly not been done.
fn is_definite(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidArgument | ErrorCode::AlreadyExists | ErrorCode::PermissionDenied)
}
