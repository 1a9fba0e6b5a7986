//! Versions that are folders in the store, put there by hand: `models/NAME/VERSION/` with `model.toml` and the files.
//!
//! Contract: what is served is a copy in the cache, so that nothing that happens to the folder afterwards changes it. The
//! cache keeps what the folder's files looked like when they were read (`plain/NAME/VERSION.json`); while they look the
//! same, nothing is read again. A folder that changes while it is read is refused: it is being written to.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use vespid_types::{Digest, ModelName, Version};

use super::fetch::placed_right;
use super::{Stamp, Store, Stored, blocking, folder_path};
use crate::record::MAX_FILES;
use crate::{Manifest, PackageError, PackagePath, Record};

/// Files that are read at once.
const AT_ONCE: usize = 4;

/// What a folder was when it was read.
#[derive(Serialize, Deserialize)]
struct Seen {
    stamp: String,
    record: String,
}

impl Store {
    pub(super) async fn fetch_plain(
        &self,
        name: &ModelName,
        version: Version,
        files: Vec<ObjectMeta>,
    ) -> Result<Stored, PackageError> {
        let stamp = Stamp::of_all(&files);
        let seen = self.cache.root().join("plain").join(name.as_str()).join(format!("{version}.json"));
        let record = match self.seen(seen.clone(), &stamp).await? {
            Some(record) => record,
            None => {
                let record = match self.read_plain(name, version, files.clone()).await {
                    // A sweep took a blob that nothing named yet.
                    Err(PackageError::Blob { .. }) => self.read_plain(name, version, files).await?,
                    read => read?,
                };
                self.check_unchanged(name, version, &stamp).await?;
                note(seen, &stamp, &record).await?;
                record
            }
        };
        let (dir, manifest) = self.view(&record).await?;
        Ok(Stored::of(name, version, &record, dir, manifest))
    }

    /// The record of a folder that was read before and looks the same, if all of it is still in the cache.
    async fn seen(&self, seen: PathBuf, stamp: &Stamp) -> Result<Option<Record>, PackageError> {
        let (cache, stamp) = (Arc::clone(&self.cache), stamp.clone());
        blocking(move || {
            // What is not there or not readable is read anew, from the store itself.
            let seen = fs::read(seen).ok().and_then(|seen| serde_json::from_slice::<Seen>(&seen).ok());
            let seen = seen.filter(|seen| seen.stamp == stamp.0);
            let record = seen.and_then(|seen| Record::parse(seen.record.into()).ok());
            Ok(record.filter(|record| cache.viewed(record).is_some()))
        })
        .await
    }

    async fn read_plain(
        &self,
        name: &ModelName,
        version: Version,
        files: Vec<ObjectMeta>,
    ) -> Result<Record, PackageError> {
        if files.len() > MAX_FILES {
            let reason = format!("{} files are more than a package may have ({MAX_FILES})", files.len());
            return Err(PackageError::Files { reason });
        }
        let folder = folder_path(name, version);
        let read = futures_util::stream::iter(files).map(|file| self.read_file(&folder, file));
        let files: BTreeMap<PackagePath, (Digest, u64)> =
            read.buffer_unordered(AT_ONCE).try_collect().await?;
        let (cache, name) = (Arc::clone(&self.cache), name.clone());
        blocking(move || {
            let staged = cache.stage()?;
            for (path, (digest, size)) in &files {
                cache.link(path, *digest, *size, staged.path())?;
            }
            let manifest = Manifest::read(staged.path())?;
            placed_right(&name, version, &manifest)?;
            let (record, config) = Record::of_files(staged.path(), &manifest, &files)?;
            cache.insert_bytes(&config)?;
            cache.view(&record)?;
            Ok(record)
        })
        .await
    }

    async fn read_file(
        &self,
        folder: &object_store::path::Path,
        file: ObjectMeta,
    ) -> Result<(PackagePath, (Digest, u64)), PackageError> {
        let within = file.location.as_ref().strip_prefix(folder.as_ref()).unwrap_or_default();
        let path: PackagePath = within.trim_start_matches('/').parse().map_err(|error| {
            PackageError::Entry { entry: file.location.to_string(), reason: format!("{error}") }
        })?;
        let changing = || PackageError::Changing { file: path.to_string() };
        let found = match self.objects.get(&file.location).await {
            Err(object_store::Error::NotFound { .. }) => return Err(changing()),
            found => found.map_err(PackageError::objects("give", &file.location))?,
        };
        if Stamp::of(&found.meta) != Stamp::of(&file) {
            return Err(changing());
        }
        let mut chunks = found.into_stream();
        let cache = Arc::clone(&self.cache);
        let mut draft = blocking(move || cache.draft()).await?;
        while let Some(chunk) =
            chunks.try_next().await.map_err(PackageError::objects("give", &file.location))?
        {
            draft = blocking(move || {
                draft.append(&chunk)?;
                Ok(draft)
            })
            .await?;
        }
        let cache = Arc::clone(&self.cache);
        let (digest, size) = blocking(move || draft.finish(&cache)).await?;
        if size == file.size { Ok((path, (digest, size))) } else { Err(changing()) }
    }

    async fn check_unchanged(
        &self,
        name: &ModelName,
        version: Version,
        stamp: &Stamp,
    ) -> Result<(), PackageError> {
        let folder = folder_path(name, version);
        let now =
            self.find(folder.clone()).await?.versions.remove(&(name.clone(), version)).unwrap_or_default();
        if Stamp::of_all(&now.files) == *stamp {
            return Ok(());
        }
        Err(PackageError::Changing { file: folder.to_string() })
    }
}

async fn note(seen: PathBuf, stamp: &Stamp, record: &Record) -> Result<(), PackageError> {
    let record = String::from_utf8_lossy(record.bytes()).into_owned();
    let text = serde_json::to_vec(&Seen { stamp: stamp.0.clone(), record }).unwrap_or_default();
    blocking(move || {
        if let Some(parent) = seen.parent() {
            fs::create_dir_all(parent).map_err(PackageError::io("create", parent))?;
        }
        fs::write(&seen, text).map_err(PackageError::io("write", &seen))
    })
    .await
}
