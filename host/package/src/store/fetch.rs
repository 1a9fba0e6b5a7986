//! Getting a version of the store: its record, and of its blobs those that the cache lacks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStoreExt};
use vespid_types::{Digest, ModelName, Version};

use super::{Stamp, Store, Stored, blob_path, blocking, folder_path, record_path};
use crate::cache::{Finished, Writer};
use crate::record::{Blob, MAX_RECORD};
use crate::{Manifest, Package, PackageError, Record};

/// Blobs of a package that are loaded at once.
const AT_ONCE: usize = 4;

/// How often a blob is gone on with, where not a byte of it came in between.
const ATTEMPTS: u32 = 4;

const PAUSE: Duration = Duration::from_millis(200);

/// How much is collected before it is written.
const CHUNK: usize = 1 << 20;

impl Store {
    /// Brings a version onto this machine, whole and checked.
    ///
    /// # Errors
    /// [`PackageError::NotFound`], what is wrong with the version, or what the store says.
    pub async fn fetch(&self, name: &ModelName, version: Version) -> Result<Stored, PackageError> {
        // It is closed never; and where it was, there would be as much room as one likes.
        let _room = self.fetching.acquire().await.ok();
        let _gathering = self.gathering.read().await;
        let Some((record, stamp)) = self.read_record(name, version).await? else {
            let found = self.find(folder_path(name, version)).await?;
            let files = { found.versions }.remove(&(name.clone(), version));
            let not_found = || PackageError::NotFound { name: name.clone(), version };
            return self.fetch_plain(name, version, files.ok_or_else(not_found)?.files).await;
        };
        self.remember(name, version, stamp, &record);
        self.fetch_blobs(&record).await?;
        let (dir, manifest) = match self.view(&record).await {
            // A blob that two versions have went with the other one in between.
            Err(PackageError::Blob { .. }) => {
                self.fetch_blobs(&record).await?;
                self.view(&record).await?
            }
            viewed => viewed?,
        };
        placed_right(name, version, &manifest)?;
        Ok(Stored::of(name, version, &record, dir, manifest))
    }

    /// The digest of a version; none where it is not there, or is a folder put there by hand, of which nobody knows it before
    /// it has been read.
    ///
    /// # Errors
    /// What the store says, or that the record is damaged.
    pub async fn digest(&self, name: &ModelName, version: Version) -> Result<Option<Digest>, PackageError> {
        Ok(self.read_record(name, version).await?.map(|(record, _)| record.digest()))
    }

    /// The bytes of a version's files. One that is a folder put there by hand is fetched.
    ///
    /// # Errors
    /// As [`Store::fetch`].
    pub async fn size(&self, name: &ModelName, version: Version) -> Result<u64, PackageError> {
        match self.read_record(name, version).await? {
            Some((record, _)) => Ok(record.size()),
            None => Ok(self.fetch(name, version).await?.size),
        }
    }

    /// Brings a version into the cache, for another store that [has the same](Store::beside).
    ///
    /// # Errors
    /// As [`Store::fetch`].
    pub async fn package(&self, name: &ModelName, version: Version) -> Result<Package, PackageError> {
        let Some((record, _)) = self.read_record(name, version).await? else {
            let Stored { dir, .. } = self.fetch(name, version).await?;
            let cache = Arc::clone(&self.cache);
            return blocking(move || {
                let (record, config) = Record::of_folder(&dir)?;
                cache.insert_bytes(&config)?;
                Ok(Package { record, config })
            })
            .await;
        };
        self.fetch_blobs(&record).await?;
        let cache = Arc::clone(&self.cache);
        blocking(move || {
            let config = cache.read("config", &record.config())?;
            Ok(Package { record, config })
        })
        .await
    }

    pub(super) async fn view(&self, record: &Record) -> Result<(PathBuf, Manifest), PackageError> {
        let (cache, record) = (Arc::clone(&self.cache), record.clone());
        blocking(move || {
            let dir = cache.view(&record)?;
            let manifest = Manifest::read(&dir)?;
            Ok((dir, manifest))
        })
        .await
    }

    /// The record of a version, where it has one.
    pub(super) async fn read_record(
        &self,
        name: &ModelName,
        version: Version,
    ) -> Result<Option<(Record, Stamp)>, PackageError> {
        let path = record_path(name, version);
        let found = match self.objects.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(PackageError::objects("read", &path))?,
        };
        if found.meta.size > MAX_RECORD {
            return Err(PackageError::Record { reason: format!("it has {} bytes", found.meta.size) });
        }
        let stamp = Stamp::of(&found.meta);
        let bytes = found.bytes().await.map_err(PackageError::objects("read", &path))?;
        Ok(Some((Record::parse(bytes)?, stamp)))
    }

    pub(super) fn remember(&self, name: &ModelName, version: Version, stamp: Stamp, record: &Record) {
        let digests: Vec<Digest> = record.blobs().iter().map(|(_, blob)| blob.digest).collect();
        self.known().insert((name.clone(), version), (stamp, digests));
    }

    async fn fetch_blobs(&self, record: &Record) -> Result<(), PackageError> {
        if self.in_place {
            let (cache, record) = (Arc::clone(&self.cache), record.clone());
            // Others may have put them there. Once the package has been made of them, they were looked into.
            return blocking(move || match cache.viewed(&record) {
                Some(_) => Ok(()),
                None => record.blobs().iter().try_for_each(|(file, blob)| cache.verify(file, blob)),
            })
            .await;
        }
        let missing = record.blobs().into_iter().filter(|(_, blob)| self.cache.blob(blob).is_none());
        let fetched = futures_util::stream::iter(missing).map(|(file, blob)| self.fetch_blob(file, blob));
        fetched.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn fetch_blob(&self, file: String, blob: Blob) -> Result<(), PackageError> {
        let (cache, name) = (Arc::clone(&self.cache), file.clone());
        let Some(mut writer) = blocking(move || cache.writer(&name, &blob)).await? else { return Ok(()) };
        let mut failed = 0;
        loop {
            let before = writer.offset();
            let broke_off;
            (writer, broke_off) = self.receive(writer, &file, &blob).await?;
            if let Some(error) = broke_off {
                failed = if before < writer.offset() { 0 } else { failed + 1 };
                if failed == ATTEMPTS {
                    return Err(error);
                }
                tracing::info!(file, from = writer.offset(), "a download goes on: {error}");
                tokio::time::sleep(PAUSE * failed).await;
                continue;
            }
            match blocking(move || writer.finish()).await? {
                Finished::Blob(_) => return Ok(()),
                Finished::Anew(anew) => writer = *anew,
            }
        }
    }

    /// Goes on with a blob to its end, or until it breaks off.
    async fn receive(
        &self,
        mut writer: Writer,
        file: &str,
        blob: &Blob,
    ) -> Result<(Writer, Option<PackageError>), PackageError> {
        let offset = writer.offset();
        if offset == blob.size && offset > 0 {
            return Ok((writer, None));
        }
        let path = blob_path(blob.digest);
        let wrong = |reason| PackageError::Blob { file: file.to_owned(), digest: blob.digest, reason };
        // Some stores have no good answer to a range that there is not, and so its size is looked at first.
        let size = match self.objects.head(&path).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(wrong("is missing in the store".to_owned()));
            }
            found => found.map_err(PackageError::objects("give", &path))?.size,
        };
        if size != blob.size {
            return Err(wrong(format!("has {size} bytes in the store, and its record says {}", blob.size)));
        }
        let range = (offset > 0).then_some(GetRange::Offset(offset));
        let mut chunks = match self.objects.get_opts(&path, GetOptions { range, ..Default::default() }).await
        {
            Ok(found) => found.into_stream(),
            Err(error) => return Ok((writer, Some(PackageError::objects("give", &path)(error)))),
        };
        let mut collected = BytesMut::new();
        loop {
            let chunk = chunks.try_next().await;
            if let Ok(Some(chunk)) = &chunk {
                collected.extend_from_slice(chunk);
                if collected.len() < CHUNK {
                    continue;
                }
            }
            // Also what came before it broke off.
            writer = append(writer, collected.split().freeze()).await?;
            match chunk {
                Ok(Some(_)) => {}
                Ok(None) => return Ok((writer, None)),
                Err(error) => return Ok((writer, Some(PackageError::objects("give", &path)(error)))),
            }
        }
    }
}

async fn append(mut writer: Writer, bytes: Bytes) -> Result<Writer, PackageError> {
    blocking(move || {
        writer.append(&bytes)?;
        Ok(writer)
    })
    .await
}

/// A package must be what the names in the store say.
pub(super) fn placed_right(
    name: &ModelName,
    version: Version,
    manifest: &Manifest,
) -> Result<(), PackageError> {
    if manifest.name == *name && manifest.version == version {
        return Ok(());
    }
    Err(PackageError::Misplaced {
        place: folder_path(name, version).to_string(),
        name: manifest.name.clone(),
        version: manifest.version,
    })
}
