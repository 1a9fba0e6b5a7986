//! A repository whose models are said from within this process: a pod's, which follows resources.
//!
//! Contract: a version that is listed answers when it is asked, after its package was brought into the store, where it is not
//! there, and loaded; who wants it sooner wakes it. Clients cannot change what is served. Cost: a version that is listed and
//! not loaded is a line in the catalog. Left out on purpose: what is to be listed, woken and forgotten, which whoever manages it
//! knows.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vespid_package::{Store, Traffic};
use vespid_types::{Error, ErrorCode, ModelName, Result, Version};

use super::load::run;
use super::task::Command;
use super::wake::Waker;
use super::{Repository, Shared};
use crate::ReadyModel;
use crate::catalog::Entry;
use crate::predictor::Loader;

/// What came of bringing a package into the store.
pub type Supply<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Brings packages into the store that are not there, or otherwise than they should be, when they are to be loaded.
pub trait Supplier: Send + Sync {
    /// When it has done so, the store holds the version as it is to be served. An error of a code that [may
    /// pass](ErrorCode::Unavailable) leaves the version to be tried again by whoever asks next; another keeps it from loading
    /// until it is listed again.
    fn supply<'a>(&'a self, name: &'a ModelName, version: Version) -> Supply<'a>;
}

impl Repository {
    /// Refuses what clients ask to have changed where it would be changed back.
    pub(super) fn check_unmanaged(&self, name: &ModelName) -> Result<()> {
        if !self.shared.managed {
            return Ok(());
        }
        let message = format!(
            "this server is a pod of a pool, and serves '{name}' as its resource says: change the Model '{name}' instead \
             (kubectl edit model {name}), or upload at the gateway"
        );
        Err(Error::new(ErrorCode::PermissionDenied, message))
    }

    /// The store, for what supplies it and clears it up.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// Says that what is to be served from the start has been loaded, or found not to load.
    pub fn set_loaded(&self) {
        self.shared.loaded.store(true, Ordering::Release);
    }

    /// Makes versions known, which are loaded when they are asked. Those that can be asked stay as they are; those that could not
    /// be loaded may be tried again.
    ///
    /// # Errors
    /// Where the server is shutting down.
    pub async fn list(&self, name: &ModelName, versions: Vec<Version>) -> Result<()> {
        self.ask(|reply| Command::List { name: name.clone(), versions, reply }).await
    }

    /// Loads a version that is listed, if it is not loaded. It goes on where the caller leaves.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what keeps it from loading; where that may pass, it is still listed, and [otherwise
    /// not](Supplier::supply).
    pub async fn wake(&self, name: &ModelName, version: Version) -> Result<Arc<ReadyModel>> {
        Waker::of(self).wake(name.clone(), version).await
    }

    /// Loads a version anew in the place of the one that is loaded: its package, or what it is allowed, has changed. Where it
    /// does not load, nothing answers in its place, for the one before may be allowed too much. One that is not loaded is listed.
    ///
    /// # Errors
    /// As [`Repository::wake`].
    pub async fn renew(&self, name: &ModelName, version: Version) -> Result<()> {
        let (repository, name) = (self.clone(), name.clone());
        run(async move { repository.renew_now(name, version).await }).await
    }

    async fn renew_now(&self, name: ModelName, version: Version) -> Result<()> {
        let entry = || self.shared.predictor.catalog().entry(&name, version);
        if !matches!(entry(), Some(Entry::Ready(_))) {
            return self.list(&name, vec![version]).await;
        }
        let supplied = self.shared.supply(&name, version).await;
        let _turn = self.shared.turns.take(&name).await;
        let counters = match entry() {
            Some(Entry::Ready(before)) => Some(Arc::clone(before.counters())),
            Some(_) => None,
            // It went meanwhile.
            None => return Ok(()),
        };
        let loaded = match supplied {
            Ok(()) => self.shared.load_stored(&name, version, None).await,
            Err(error) => Err(error),
        };
        let loaded = loaded.and_then(|model| self.shared.check_fits(&model).map(|()| model));
        let loaded = loaded.map(|model| match counters {
            Some(counters) => Arc::new(model.counting(counters)),
            None => Arc::new(model),
        });
        self.ask(|reply| Command::Renewed { name: name.clone(), version, loaded, reply }).await
    }

    /// Leads a model's traffic. It is not written to the store.
    ///
    /// # Errors
    /// Where the server is shutting down.
    pub async fn lead(&self, name: &ModelName, traffic: Traffic) -> Result<()> {
        let traffic = Box::new(traffic);
        self.ask(|reply| Command::Lead { name: name.clone(), traffic, reply }).await
    }

    /// Takes versions out of service for good. Requests that they are answering end first. What the store holds stays there.
    ///
    /// # Errors
    /// Where the server is shutting down.
    pub async fn forget(&self, name: &ModelName, versions: Vec<Version>) -> Result<()> {
        self.ask(|reply| Command::Gone { name: name.clone(), versions, reply }).await
    }
}

impl Shared {
    /// Sees to it that a version is in the store, where somebody does that.
    pub(super) async fn supply(&self, name: &ModelName, version: Version) -> Result<()> {
        match &self.supplier {
            Some(supplier) => supplier.supply(name, version).await,
            None => Ok(()),
        }
    }
}
