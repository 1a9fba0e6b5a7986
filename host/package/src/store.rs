//! Where packages are kept: a folder or a bucket, and the cache beside it.
//!
//! Layout: `models/NAME/VERSION.json` is the record of a version, `blobs/sha256/HEX` what a file of some versions holds,
//! once for all of them; `models/NAME/settings.json` is a document that whoever serves the model keeps there. A folder
//! `models/NAME/VERSION/` with `model.toml` and the files, put there by hand, is a version too; where there is a record, it
//! counts alone. `writing/` and `removing/` hold notices of what is going on (`notice`).
//!
//! Contract: a version appears when its record is put, which is last and never replaces another; it goes when its record
//! goes, and then what it alone had. What is read is checked against the record, size and digest, on its way into the
//! cache; what does not agree is an error that names the file, and is nowhere used. Several processes may share a store,
//! each with a cache of its own. Cost: a listing is one request for a thousand names; a version that is in the cache is
//! one request. Left out on purpose: when to look again, and what to serve (`serving`).

mod commit;
mod fetch;
mod location;
mod notice;
mod plain;
mod remove;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::sync::{RwLock, Semaphore};
use vespid_types::{Digest, ModelName, Version};

pub use self::location::StoreLocation;
use crate::cache::Cache;
use crate::{Manifest, PackageError, PackagePath, Record, Staged};

const MODELS: &str = "models";
const BLOBS: &str = "blobs/sha256";
const SETTINGS: &str = "settings.json";

/// Versions that are fetched at once.
const FETCHES: usize = 8;

/// What a [`Store`] is opened with.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where the packages are.
    pub location: StoreLocation,
    /// The folder for what is kept of them on this machine. None: the store's own, which is then this process's alone;
    /// a bucket has none.
    pub cache: Option<PathBuf>,
}

impl StoreOptions {
    /// A folder that is this process's alone.
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self { location: StoreLocation::Folder(folder.into()), cache: None }
    }
}

/// A store, and the cache of this process.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    cache: Arc<Cache>,
    /// The store's folder, where it is one.
    folder: Option<PathBuf>,
    /// Whether the cache is the store's own folder, so that its blobs are the store's.
    in_place: bool,
    /// Held while blobs of the cache are gathered that no package's folder has yet. They are cleared by whoever gets it
    /// alone, and at once.
    gathering: RwLock<()>,
    /// Room for versions that are being fetched.
    fetching: Semaphore,
    /// The blobs of records that have been read, so that they are read once.
    known: Mutex<Known>,
}

type Known = HashMap<(ModelName, Version), (Stamp, Vec<Digest>)>;

/// Says whether what is stored has changed: another one where it may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(String);

/// A version in the store, which has not been looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// Another one when the version has changed.
    pub stamp: Stamp,
    /// Another one when the model's document has; none where it has none.
    pub document: Option<Stamp>,
}

/// A version of the store that is whole, and on this machine.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// What it is: equal for equal packages.
    pub digest: Digest,
    /// The folder with its files, which are not to be changed.
    pub dir: PathBuf,
    /// The bytes of its files.
    pub size: u64,
    /// What each of its files holds.
    pub digests: BTreeMap<PackagePath, Digest>,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Stored {
    fn of(name: &ModelName, version: Version, record: &Record, dir: PathBuf, manifest: Manifest) -> Self {
        let digests = record.files().iter().map(|(path, blob)| (path.clone(), blob.digest)).collect();
        let (digest, size) = (record.digest(), record.size());
        Self { name: name.clone(), version, digest, dir, size, digests, manifest }
    }
}

/// What a listing found.
#[derive(Default)]
struct Contents {
    versions: BTreeMap<(ModelName, Version), Found>,
    documents: BTreeMap<ModelName, Stamp>,
}

/// What a listing found under the name of a version.
#[derive(Default)]
struct Found {
    record: Option<Stamp>,
    /// The files of a folder put there by hand, in order.
    files: Vec<ObjectMeta>,
}

impl Store {
    /// Opens a store. A folder is made where it does not exist; a bucket is asked whether it is there and may be read.
    ///
    /// # Errors
    /// [`PackageError::Locked`] where another process has the cache, or why the store cannot be used.
    pub async fn open(options: StoreOptions) -> Result<Self, PackageError> {
        let store = blocking(move || Self::prepare(options)).await?;
        store
            .objects
            .list(Some(&Path::from(MODELS)))
            .try_next()
            .await
            .map_err(PackageError::objects("list", MODELS))?;
        Ok(store)
    }

    /// Opens another store over the cache of one that is open: what is fetched from the one need not be fetched for the other.
    ///
    /// # Errors
    /// Why the store cannot be used.
    pub fn beside(location: &StoreLocation, cache: Arc<Cache>) -> Result<Self, PackageError> {
        let objects: Arc<dyn ObjectStore> = match location {
            StoreLocation::Folder(folder) => {
                let objects = LocalFileSystem::new_with_prefix(folder);
                Arc::new(objects.map_err(PackageError::objects("open", &folder.display()))?)
            }
            StoreLocation::Bucket(url) => StoreLocation::open(url)?,
        };
        Ok(Self::of(objects, None, cache, false))
    }

    fn prepare(StoreOptions { location, cache }: StoreOptions) -> Result<Self, PackageError> {
        let (objects, folder): (Arc<dyn ObjectStore>, _) = match &location {
            StoreLocation::Folder(folder) => {
                // Also the place that people put folders into.
                let models = folder.join(MODELS);
                fs::create_dir_all(&models).map_err(PackageError::io("create", models))?;
                let folder = fs::canonicalize(folder).map_err(PackageError::io("open", folder))?;
                let objects = LocalFileSystem::new_with_prefix(&folder);
                let objects =
                    objects.map_err(PackageError::objects("open", &folder.display()))?.with_fsync(true);
                (Arc::new(objects), Some(folder))
            }
            StoreLocation::Bucket(url) => (StoreLocation::open(url)?, None),
        };
        let cache = cache.or_else(|| folder.clone()).ok_or_else(|| PackageError::Location {
            location: location.to_string(),
            reason: "a bucket needs a folder on this machine for its cache".to_owned(),
        })?;
        Self::over(objects, folder, Cache::open(&cache)?)
    }

    fn over(
        objects: Arc<dyn ObjectStore>,
        folder: Option<PathBuf>,
        cache: Cache,
    ) -> Result<Self, PackageError> {
        let in_place = folder.as_deref().is_some_and(|folder| folder == cache.root());
        if !in_place {
            cache.clear_unused()?;
        }
        Ok(Self::of(objects, folder, Arc::new(cache), in_place))
    }

    fn of(objects: Arc<dyn ObjectStore>, folder: Option<PathBuf>, cache: Arc<Cache>, in_place: bool) -> Self {
        Self {
            objects,
            cache,
            folder,
            in_place,
            gathering: RwLock::default(),
            fetching: Semaphore::new(FETCHES),
            known: Mutex::default(),
        }
    }

    /// The cache of this process.
    #[must_use]
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The folder for compiled code.
    #[must_use]
    pub fn code_cache(&self) -> PathBuf {
        self.cache.root().join("code-cache")
    }

    /// Every version in the store, in order. Whether they are whole is seen when they are fetched. What has a name that
    /// is none of ours is passed over.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self) -> Result<Vec<Listed>, PackageError> {
        Ok(self.find(Path::from(MODELS)).await?.listed())
    }

    /// Every version of one model, in order; none where the store does not know it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn versions(&self, name: &ModelName) -> Result<Vec<Listed>, PackageError> {
        Ok(self.find(model_path(name)).await?.listed())
    }

    /// Whether the store has this version, whole or not.
    ///
    /// # Errors
    /// What the store says.
    pub async fn contains(&self, name: &ModelName, version: Version) -> Result<bool, PackageError> {
        match self.objects.head(&record_path(name, version)).await {
            Ok(_) => return Ok(true),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(PackageError::objects("look for", &record_path(name, version))(error)),
        }
        Ok(!self.find(folder_path(name, version)).await?.versions.is_empty())
    }

    /// A place to receive an archive: a folder of the cache.
    ///
    /// # Errors
    /// What the file system says.
    pub fn stage(&self) -> Result<Staged, PackageError> {
        Ok(Staged::new(self.cache.stage()?))
    }

    /// The document of a model; none where there is none.
    ///
    /// # Errors
    /// What the store says.
    pub async fn document(&self, name: &ModelName) -> Result<Option<Bytes>, PackageError> {
        let path = settings_path(name);
        match self.objects.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(PackageError::objects("read", &path)(error)),
            Ok(found) => found.bytes().await.map(Some).map_err(PackageError::objects("read", &path)),
        }
    }

    /// Puts a document in place of the one that is there.
    ///
    /// # Errors
    /// What the store says.
    pub async fn put_document(&self, name: &ModelName, document: Bytes) -> Result<(), PackageError> {
        self.put(&settings_path(name), document, PutMode::Overwrite).await
    }

    /// Removes a document, where there is one.
    ///
    /// # Errors
    /// What the store says.
    pub async fn delete_document(&self, name: &ModelName) -> Result<(), PackageError> {
        self.delete(&settings_path(name)).await?;
        self.tidy(name, None).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics under the lock, so that a poisoned one is as good as any.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn put(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<(), PackageError> {
        let put = self.objects.put_opts(path, PutPayload::from(bytes), mode.into()).await;
        put.map(drop).map_err(PackageError::objects("take", &path))
    }

    /// Deletes what may be gone already.
    async fn delete(&self, path: &Path) -> Result<(), PackageError> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(PackageError::objects("delete", &path)(error)),
        }
    }

    /// Removes the folders that deleting has left empty, where there are such things as folders.
    async fn tidy(&self, name: &ModelName, version: Option<Version>) -> Result<(), PackageError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let model = folder.join(MODELS).join(name.as_str());
        blocking(move || {
            if let Some(version) = version {
                remove_empty(&model.join(version.to_string()));
            }
            // Fails where other versions are left, and may.
            let _ = fs::remove_dir(&model);
            Ok(())
        })
        .await
    }

    async fn find(&self, prefix: Path) -> Result<Contents, PackageError> {
        let mut contents = Contents::default();
        let mut objects = self.objects.list(Some(&prefix));
        loop {
            let object = match objects.try_next().await {
                Ok(Some(object)) => object,
                Ok(None) => break,
                // A name that no object of ours can have.
                Err(object_store::Error::InvalidPath { .. }) => continue,
                Err(error) => return Err(PackageError::objects("list", &prefix)(error)),
            };
            match placed(&object.location) {
                Some((name, Place::Record(version))) => {
                    contents.found(name, version).record = Some(Stamp::of(&object));
                }
                Some((name, Place::File(version))) => contents.found(name, version).files.push(object),
                Some((name, Place::Document)) => {
                    contents.documents.insert(name, Stamp::of(&object));
                }
                None => {}
            }
        }
        let found = contents.versions.values_mut();
        found.for_each(|found| found.files.sort_by(|a, b| a.location.cmp(&b.location)));
        Ok(contents)
    }
}

impl Contents {
    fn found(&mut self, name: ModelName, version: Version) -> &mut Found {
        self.versions.entry((name, version)).or_default()
    }

    fn listed(self) -> Vec<Listed> {
        let Self { versions, documents } = self;
        let listed = |((name, version), Found { record, files })| Listed {
            stamp: record.unwrap_or_else(|| Stamp::of_all(&files)),
            document: documents.get(&name).cloned(),
            name,
            version,
        };
        versions.into_iter().map(listed).collect()
    }
}

/// What an object is to its model.
enum Place {
    Record(Version),
    File(Version),
    Document,
}

/// Which model an object belongs to, and as what.
fn placed(location: &Path) -> Option<(ModelName, Place)> {
    let mut parts = location.parts().skip(1);
    let name: ModelName = parts.next()?.as_ref().parse().ok()?;
    let second = parts.next()?;
    let place = match (second.as_ref(), parts.next()) {
        (version, Some(_)) => Place::File(version.parse().ok()?),
        (SETTINGS, None) => Place::Document,
        (record, None) => Place::Record(record.strip_suffix(".json")?.parse().ok()?),
    };
    Some((name, place))
}

fn model_path(name: &ModelName) -> Path {
    Path::from(format!("{MODELS}/{name}"))
}

fn record_path(name: &ModelName, version: Version) -> Path {
    Path::from(format!("{MODELS}/{name}/{version}.json"))
}

fn folder_path(name: &ModelName, version: Version) -> Path {
    Path::from(format!("{MODELS}/{name}/{version}"))
}

fn settings_path(name: &ModelName) -> Path {
    Path::from(format!("{MODELS}/{name}/{SETTINGS}"))
}

fn blob_path(digest: Digest) -> Path {
    Path::from(format!("{BLOBS}/{}", digest.hex()))
}

impl Stamp {
    fn of(object: &ObjectMeta) -> Self {
        Self(match &object.e_tag {
            Some(e_tag) => e_tag.clone(),
            None => format!("{} {}", object.size, object.last_modified.timestamp_micros()),
        })
    }

    /// Of the files of a folder, in order.
    fn of_all(objects: &[ObjectMeta]) -> Self {
        let line = |object: &ObjectMeta| format!("{} {}\n", object.location, Self::of(object).0);
        let lines: String = objects.iter().map(line).collect();
        Self(crate::record::digest_of(lines.as_bytes()).to_string())
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Removes a folder of empty folders.
fn remove_empty(dir: &std::path::Path) {
    if let Ok(entries) = fs::read_dir(dir) {
        entries.flatten().for_each(|entry| remove_empty(&entry.path()));
        // Fails where there is a file, and may.
        let _ = fs::remove_dir(dir);
    }
}

/// Work that blocks on files.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, PackageError> {
    let ended = |error| PackageError::io("finish work on", "")(io::Error::other(error));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ended(error)))
}

#[cfg(test)]
mod tests;
