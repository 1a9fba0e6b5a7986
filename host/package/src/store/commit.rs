//! Putting a package into the store: its blobs first, its record last.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::{ObjectStoreExt, PutMode};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufReader};

use super::{Store, Stored, blob_path, blocking, record_path};
use crate::record::Blob;
use crate::{Manifest, Package, PackageError, Record, Verified};

/// Blobs that are sent at once, and parts of one.
const AT_ONCE: usize = 4;

/// A blob that is larger is sent in parts of this size. A bucket takes ten thousand of them.
const PART: usize = 16 << 20;

impl Store {
    /// Puts a package in its place. Blobs that the store has are not sent again.
    ///
    /// # Errors
    /// [`PackageError::Exists`], or what the store says; the version is then not there.
    pub async fn commit(&self, package: Verified) -> Result<Stored, PackageError> {
        let Manifest { name, version, .. } = package.manifest();
        if self.contains(name, *version).await? {
            return Err(PackageError::Exists { name: name.clone(), version: *version });
        }
        let (package, Package { record, config }) = blocking(move || package.with_package()).await?;
        let notice = self.begin_writing(&record).await?;
        let written = self.write(package, &record, config).await;
        self.withdraw(notice).await;
        written
    }

    async fn write(&self, package: Verified, record: &Record, config: Bytes) -> Result<Stored, PackageError> {
        let _gathering = self.gathering.read().await;
        let manifest = package.manifest().clone();
        let (name, version) = (manifest.name.clone(), manifest.version);
        let (cache, adopted) = (Arc::clone(&self.cache), record.clone());
        // In a folder whose cache is its own, the blobs are in the store with this.
        blocking(move || {
            cache.insert_bytes(&config)?;
            for (path, blob) in adopted.files() {
                cache.adopt(&package.dir().join(path), blob.digest, blob.size)?;
            }
            Ok(())
        })
        .await?;
        if !self.in_place {
            let sent = futures_util::stream::iter(record.blobs());
            let sent = sent.map(|(file, blob)| self.send(file, blob)).buffer_unordered(AT_ONCE);
            sent.try_collect::<()>().await?;
        }
        let path = record_path(&name, version);
        match self.put(&path, record.bytes().clone(), PutMode::Create).await {
            Err(error) if error.is_conflict() => return Err(PackageError::Exists { name, version }),
            put => put?,
        }
        let (cache, viewed) = (Arc::clone(&self.cache), record.clone());
        let dir = blocking(move || cache.view(&viewed)).await?;
        Ok(Stored::of(&name, version, record, dir, manifest))
    }

    async fn send(&self, file: String, blob: Blob) -> Result<(), PackageError> {
        let path = blob_path(blob.digest);
        match self.objects.head(&path).await {
            Ok(found) if found.size == blob.size => return Ok(()),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(PackageError::objects("look for", &path)(error)),
        }
        let missing = || PackageError::Blob { file, digest: blob.digest, reason: "is missing".to_owned() };
        let from = self.cache.blob(&blob).ok_or_else(missing)?;
        let mut writer = BufWriter::with_capacity(Arc::clone(&self.objects), path.clone(), PART)
            .with_max_concurrency(AT_ONCE);
        let sent = send(&from, &mut writer).await;
        if sent.is_err() {
            // What was sent would be kept, and paid for. Where nothing was sent in parts, there is nothing to end.
            let _ = writer.abort().await;
        }
        sent.map_err(|error| PackageError::objects("take", &path)(error.into_object_store()))
    }
}

async fn send(from: &FilePath, writer: &mut BufWriter) -> Result<(), std::io::Error> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(from).await?);
    tokio::io::copy_buf(&mut file, writer).await?;
    writer.shutdown().await
}

/// The error that an object store was turned into on its way through a writer.
trait IntoObjectStore {
    fn into_object_store(self) -> object_store::Error;
}

impl IntoObjectStore for std::io::Error {
    fn into_object_store(self) -> object_store::Error {
        match self.downcast::<object_store::Error>() {
            Ok(error) => error,
            Err(error) => object_store::Error::Generic { store: "file", source: Box::new(error) },
        }
    }
}
