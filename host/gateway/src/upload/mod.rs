//! Uploads: a package becomes a version of a Model.
//!
//! Contract: as of a host's. A package is received, checked and put into the gateway's store, and then named in the Model, which is
//! made where there is none; a version that exists is a conflict. The answer comes when a pod has loaded it, or cannot: then it is
//! taken out again, and the pod's reason is the answer. `?wait=false` answers at once, `?wait=30s` waits no longer; `?pool=` names
//! the pool of a Model that is made. A new version has no weight: where others have, it answers when it is named, until somebody
//! gives it some. What has been received goes on where its client leaves. Where limits say how much may be uploaded and stored, an
//! upload is counted before it is received, for its Model's tenant or, where it makes one, its uploader's; it is given back where
//! nothing comes of it. Cost: the package is written once to this machine, and once to the store. Nothing is compiled here.
//!
//! Left by a crash between the store and the Model: a package that no Model names. It is in the way of another upload of that
//! version, which says so, and `DELETE` removes it.

mod change;
pub(crate) mod packages;
mod put;
mod receive;
mod request;
mod wait;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytesize::ByteSize;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use vespid_limits::{Coming, Limits, Upload};
use vespid_package::{ArchiveLimits, MAX_FILES, PackageError, Store, Verified};
use vespid_resources::{Model, PackageSource};
use vespid_types::{Error, ErrorCode, ModelName, Version};

use self::change::position;
use self::request::How;
use crate::authorize;
use crate::cluster::Cluster;

pub(crate) use self::put::put;

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

#[cfg(test)]
mod tests;
