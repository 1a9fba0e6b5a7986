//! Removing versions, and the blobs that no version has any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use vespid_types::{Digest, ModelName, Version};

use super::notice::Removal;
use super::{BLOBS, Store, blob_path, blocking, folder_path, record_path};
use crate::{MANIFEST_FILE, PackageError, Record};

/// Records that are read at once, and blobs that are deleted at once.
const AT_ONCE: usize = 16;

impl Store {
    /// Removes a version, damaged or not, and what it alone had.
    ///
    /// # Errors
    /// [`PackageError::NotFound`], or what the store says.
    pub async fn remove(&self, name: &ModelName, version: Version) -> Result<(), PackageError> {
        let record = match self.read_record(name, version).await {
            Ok(record) => record.map(|(record, _)| record),
            Err(PackageError::Objects { action, object, source }) => {
                return Err(PackageError::Objects { action, object, source });
            }
            // A damaged one does not say what it had.
            Err(_) => None,
        };
        if record.is_none() && !self.contains(name, version).await? {
            return Err(PackageError::NotFound { name: name.clone(), version });
        }
        // A folder would show once the record is gone, and a part of one must be none.
        self.remove_folder(name, version).await?;
        self.delete(&record_path(name, version)).await?;
        self.known().remove(&(name.clone(), version));
        self.tidy(name, Some(version)).await?;
        // The version is gone. What is left of it takes room and nothing else, and the next sweep takes it.
        if let Err(error) = self.clear(record.as_ref()).await {
            tracing::warn!(model = %name, %version, "its files are left in the store: {error}");
        }
        Ok(())
    }

    async fn remove_folder(&self, name: &ModelName, version: Version) -> Result<(), PackageError> {
        let folder = folder_path(name, version);
        let Some(found) = self.find(folder.clone()).await?.versions.remove(&(name.clone(), version)) else {
            return Ok(());
        };
        self.delete(&folder.join(MANIFEST_FILE)).await?;
        let deleted = futures_util::stream::iter(found.files)
            .map(|file| async move { self.delete(&file.location).await });
        deleted.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn clear(&self, record: Option<&Record>) -> Result<(), PackageError> {
        let Some(record) = record else { return self.sweep().await };
        let digests = record.blobs().into_iter().map(|(_, blob)| blob.digest).collect();
        self.remove_blobs(digests).await?;
        let (cache, forgotten) = (Arc::clone(&self.cache), record.clone());
        blocking(move || cache.forget(&forgotten)).await?;
        // The blobs of a folder's own cache are the store's. Of another, what is in the way of somebody's work stays until
        // it has not been used for long enough.
        if let (false, Ok(_alone)) = (self.in_place, self.gathering.try_write()) {
            let (cache, forgotten) = (Arc::clone(&self.cache), record.clone());
            return blocking(move || cache.forget_blobs(&forgotten)).await;
        }
        Ok(())
    }

    /// Removes what uploads that came to nothing have left: the blobs that no record names.
    ///
    /// # Errors
    /// What the store says.
    pub async fn sweep(&self) -> Result<(), PackageError> {
        let blobs = self.objects.list(Some(&Path::from(BLOBS)));
        let digest = |path: &Path| -> Option<Digest> { format!("sha256:{}", path.filename()?).parse().ok() };
        let found =
            blobs.try_filter_map(|blob| std::future::ready(Ok(digest(&blob.location)))).try_collect().await;
        let mut found: Vec<Digest> = found.map_err(PackageError::objects("list", BLOBS))?;
        // As a rule nothing is left over, and then nobody has to wait, nor be allowed to write.
        let named = self.named().await?;
        found.retain(|digest| !named.contains(digest));
        self.remove_blobs(found).await
    }

    /// Removes those of the blobs that nothing names.
    async fn remove_blobs(&self, digests: Vec<Digest>) -> Result<(), PackageError> {
        if digests.is_empty() {
            return Ok(());
        }
        let removal = self.begin_removing().await?;
        let removed = self.remove_in_turn(&removal, digests).await;
        self.end_removing(removal).await;
        removed
    }

    async fn remove_in_turn(&self, removal: &Removal, digests: Vec<Digest>) -> Result<(), PackageError> {
        let named = self.named().await?;
        let unnamed =
            digests.into_iter().filter(|digest| !named.contains(digest) && !removal.written.contains(digest));
        let deleted = futures_util::stream::iter(unnamed).map(|digest| async move {
            if removal.is_over() { Ok(()) } else { self.delete(&blob_path(digest)).await }
        });
        deleted.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// The blobs that the records name. Where a record cannot be read, nobody knows which are its.
    async fn named(&self) -> Result<BTreeSet<Digest>, PackageError> {
        let found = self.find(Path::from(super::MODELS)).await?;
        let records: Vec<_> =
            found.versions.into_iter().filter_map(|(key, found)| Some((key, found.record?))).collect();
        let unknown: Vec<_> = {
            let mut known = self.known();
            known.retain(|key, _| records.iter().any(|(listed, _)| listed == key));
            let is_known = |(key, stamp): &_| known.get(key).is_some_and(|(seen, _)| seen == stamp);
            records.into_iter().filter(|record| !is_known(record)).map(|(key, _)| key).collect()
        };
        let read = futures_util::stream::iter(unknown).map(|(name, version)| async move {
            let read = self.read_record(&name, version).await;
            let damaged = |reason: String| PackageError::Record { reason };
            let read = read.map_err(|error| damaged(format!("of '{name}' version {version}: {error}")))?;
            // None where it was removed in between.
            if let Some((record, stamp)) = read {
                self.remember(&name, version, stamp, &record);
            }
            Ok::<_, PackageError>(())
        });
        read.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(self.known().values().flat_map(|(_, digests)| digests).copied().collect())
    }
}
