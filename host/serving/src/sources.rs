//! Packages that the server gets from registries by itself, when it is asked to.
//!
//! Contract: the reference is pinned by a digest and at a place that the server's operator has named; what comes is checked
//! against the trust policy, the digests and the limits, and then goes the way of an upload. Pulls are limited in number,
//! and go on where their callers leave: what has come stays in the cache. Cost: as an upload's. Left out on purpose: tags,
//! which may lead somewhere else tomorrow.

use std::sync::Arc;

use tokio::sync::Semaphore;
use vespid_package::PackageError;
use vespid_package::oci::{PlacePattern, Progress, Reference, Registry, RegistryError};
use vespid_types::{Error, ErrorCode, ModelName, Result, Version};

use crate::repository::Repository;

/// Pulls that may go on at once.
const PULLS: usize = 4;

/// The way to registries. Clones share it.
#[derive(Clone)]
pub struct Sources {
    shared: Arc<Shared>,
    repository: Repository,
}

struct Shared {
    registry: Registry,
    allowed: Vec<PlacePattern>,
    pulls: Arc<Semaphore>,
}

impl Sources {
    /// A way for `repository` to the `allowed` places of registries.
    #[must_use]
    pub fn new(repository: Repository, registry: Registry, allowed: Vec<PlacePattern>) -> Self {
        let shared = Shared { registry, allowed, pulls: Arc::new(Semaphore::new(PULLS)) };
        Self { shared: Arc::new(shared), repository }
    }

    /// Checks that packages may be uploaded.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` where the trust policy says that they may not.
    pub fn allow_upload(&self) -> Result<()> {
        if self.shared.registry.allows_uploads() {
            return Ok(());
        }
        let message = "the trust policy does not admit uploads, which bear no signature: push the package to a registry, \
                       sign it, and name it as `source`";
        Err(Error::new(ErrorCode::PermissionDenied, message))
    }

    /// Pulls a package and takes it in. When this returns, the version is ready and will survive a restart.
    ///
    /// # Errors
    /// Where it may not be pulled, what the registry says, or what is wrong with the package; the repository is then as it
    /// was.
    pub async fn pull(&self, name: ModelName, version: Version, source: &str) -> Result<()> {
        let reference = self.admit(source)?;
        let place = Arc::clone(&self.shared.pulls).try_acquire_owned().map_err(|_| {
            let message = "as many packages are being pulled as there is room for; try again later";
            Error::new(ErrorCode::Unavailable, message)
        })?;
        let sources = self.clone();
        let pulled = tokio::spawn(async move {
            let _place = place;
            let upload = sources.repository.begin(&name, version).await?;
            let (cache, unseen) = (sources.repository.cache(), Arc::new(()) as Arc<dyn Progress>);
            let pulled = sources.shared.registry.pull(&reference, cache, &unseen).await?;
            tracing::info!(reference = %pulled.reference, "pulled");
            sources.repository.import(name, version, pulled.package, upload).await
        });
        pulled.await.unwrap_or_else(|error| Err(Error::internal("a task failed").with_source(error)))
    }

    fn admit(&self, source: &str) -> Result<Reference> {
        let reference: Reference =
            source.parse().map_err(|error| Error::invalid(format!("source: {error}")))?;
        let denied = |error: RegistryError| Error::from(PackageError::from(error)).context("source");
        let place = reference.place();
        if !self.shared.allowed.iter().any(|pattern| pattern.matches(&place)) {
            return Err(denied(RegistryError::NotAllowed { place }));
        }
        if reference.digest().is_none() {
            return Err(denied(RegistryError::Unpinned { reference }));
        }
        Ok(reference)
    }
}
