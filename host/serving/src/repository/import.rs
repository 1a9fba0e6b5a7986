//! Packages that come in another way than as an upload's body.

use std::sync::Arc;

use vespid_limits::Upload;
use vespid_package::{Cache, Package, PackageError};
use vespid_types::{ModelName, Result, Version};

use super::{Repository, blocking};

impl Repository {
    /// What the store keeps on this machine: where a package's blobs have to be before [`import`](Self::import).
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        self.shared.store.cache()
    }

    /// Checks that a version may come and is not there, so that nobody fetches it in vain, and counts that it comes.
    pub(crate) async fn begin(&self, name: &ModelName, version: Version) -> Result<Upload> {
        self.check_unmanaged(name)?;
        if self.shared.store.contains(name, version).await? {
            return Err(PackageError::Exists { name: name.clone(), version }.into());
        }
        self.shared.quotas.begin_upload(name, None)
    }

    /// Takes in a package whose blobs are in the store's cache. When this returns, the version is ready and will survive a
    /// restart; its digest is the one that the package's record has.
    ///
    /// # Errors
    /// What is wrong with the package; the repository is then as it was.
    pub(crate) async fn import(
        &self,
        name: ModelName,
        version: Version,
        package: Package,
        upload: Upload,
    ) -> Result<()> {
        self.check_unmanaged(&name)?;
        let (store, expected) = (Arc::clone(&self.shared.store), name.clone());
        let package = blocking(move || {
            let package = store.stage()?.verify_package(package, store.cache())?;
            package.expect(&expected, version)?;
            Ok(package)
        })
        .await?;
        self.take_in(package, upload).await
    }
}
