//! What the servers of a machine share: packages that one of them has fetched, and compiled code.
//!
//! Layout: `records/HEX` is the record of the package with that digest, `blobs/HEX` what a file holds, `code-cache/` what the
//! engine keeps there, which sees to itself that several processes may; `writing/` what is being copied. Contract: any number of
//! servers use the folder at once, of which none may be trusted less than another, for code that one has compiled runs in all.
//! Whatever appears does so by one rename, whole, the record last; what is taken is copied and checked against its digest, and
//! where it is not right it is removed and fetched as if it had not been there. Cost: a copy of the blobs each way, beside
//! the one that each server has of what it serves. Left out on purpose: a limit of size; what nobody has taken for two weeks
//! goes when a server starts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::NamedTempFile;
use vespid_types::Digest;

use crate::cache::{create_dir, has_size, read_dir, remove};
use crate::record::Blob;
use crate::{Cache, Package, PackageError, Record};

/// After how long what nobody takes is removed.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// After how long what was being copied is nobody's any more.
const COPIED: Duration = Duration::from_secs(24 * 3600);

/// A folder that servers share.
#[derive(Clone, Debug)]
pub struct SharedCache {
    root: PathBuf,
}

impl SharedCache {
    /// Opens the folder, which is made where it does not exist. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        for dir in ["records", "blobs", "writing", "code-cache"] {
            create_dir(&root.join(dir))?;
        }
        let root = fs::canonicalize(root).map_err(PackageError::io("open", root))?;
        let shared = Self { root };
        shared.clear_unused()?;
        Ok(shared)
    }

    /// The folder for compiled code.
    #[must_use]
    pub fn code(&self) -> PathBuf {
        self.root.join("code-cache")
    }

    /// Copies a package into a cache, if it is here and whole. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn take(&self, digest: Digest, cache: &Cache) -> Result<Option<Package>, PackageError> {
        let place = self.record(digest);
        let Ok(bytes) = fs::read(&place).map(Bytes::from) else { return Ok(None) };
        let Some(record) = Record::parse(bytes).ok().filter(|record| record.digest() == digest) else {
            remove(&place)?;
            return Ok(None);
        };
        for (file, blob) in record.blobs() {
            if cache.blob(&blob).is_none() && !self.take_blob(&blob, cache)? {
                tracing::info!(file, package = %digest, "what is shared lacks it");
                remove(&place)?;
                return Ok(None);
            }
        }
        touch(&place);
        let config = cache.read("config", &record.config())?;
        Ok(Some(Package { record, config }))
    }

    /// Whether it was here, and right.
    fn take_blob(&self, blob: &Blob, cache: &Cache) -> Result<bool, PackageError> {
        let place = self.blob(blob.digest);
        if !has_size(&place, blob.size) {
            return Ok(false);
        }
        // Somebody may be clearing up.
        let Ok((digest, _)) = cache.insert_file(&place) else { return Ok(false) };
        if digest != blob.digest {
            remove(&place)?;
            return Ok(false);
        }
        touch(&place);
        Ok(true)
    }

    /// Copies a package here, all of whose blobs are in a cache. Blocks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, record: &Record, cache: &Cache) -> Result<(), PackageError> {
        let place = self.record(record.digest());
        let there = |(_, blob): &(String, Blob)| has_size(&self.blob(blob.digest), blob.size);
        if place.exists() && record.blobs().iter().all(there) {
            return Ok(());
        }
        for (file, blob) in record.blobs() {
            let to = self.blob(blob.digest);
            if has_size(&to, blob.size) {
                touch(&to);
                continue;
            }
            let missing =
                || PackageError::Blob { file, digest: blob.digest, reason: "is missing".to_owned() };
            let from = cache.blob(&blob).ok_or_else(missing)?;
            self.put(&to, |file| {
                std::io::copy(&mut File::open(&from)?, file)?;
                Ok(())
            })?;
        }
        self.put(&place, |file| std::io::Write::write_all(file, record.bytes()))
    }

    fn put(
        &self,
        to: &Path,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<(), PackageError> {
        let folder = self.root.join("writing");
        let failed = |action| PackageError::io(action, to);
        let mut file = NamedTempFile::new_in(&folder).map_err(failed("create"))?;
        write(file.as_file_mut()).map_err(failed("write"))?;
        file.as_file().sync_all().map_err(failed("write"))?;
        // Others of the machine, which may run as somebody else, are to read it.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        file.as_file().set_permissions(readable).map_err(failed("change"))?;
        file.persist(to).map_err(|error| failed("rename to")(error.error))?;
        Ok(())
    }

    /// One server at a time; where another is at it, nothing is to be done.
    fn clear_unused(&self) -> Result<(), PackageError> {
        let lock = self.root.join("lock");
        let file = File::create(&lock).map_err(PackageError::io("create", &lock))?;
        if file.try_lock().is_err() {
            return Ok(());
        }
        for (folder, kept) in [("records", KEPT), ("blobs", KEPT), ("writing", COPIED)] {
            for path in read_dir(&self.root.join(folder))? {
                if age(&path).is_some_and(|age| age > kept) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    fn record(&self, digest: Digest) -> PathBuf {
        self.root.join("records").join(digest.hex())
    }

    fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }
}

fn age(path: &Path) -> Option<Duration> {
    let used = fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    SystemTime::now().duration_since(used).ok()
}

/// That it was used counts for when it is cleared, and for nothing else.
fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MANIFEST_FILE;

    fn package(cache: &Cache, text: &str) -> Package {
        let dir = tempfile::tempdir().unwrap();
        let manifest =
            "[model]\nname = 'm'\nversion = '1'\n[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'\n";
        fs::write(dir.path().join(MANIFEST_FILE), manifest).unwrap();
        fs::write(dir.path().join("g.onnx"), text).unwrap();
        Package::of_folder(dir.path(), cache).unwrap()
    }

    fn caches() -> (tempfile::TempDir, SharedCache, Cache, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let shared = SharedCache::open(&dir.path().join("shared")).unwrap();
        let [one, other] = ["one", "other"].map(|name| Cache::open(&dir.path().join(name)).unwrap());
        (dir, shared, one, other)
    }

    #[test]
    fn what_one_has_fetched_another_need_not() {
        let (_dir, shared, one, other) = caches();
        let package = package(&one, "graph");
        let digest = package.record.digest();
        assert!(shared.take(digest, &other).unwrap().is_none());
        shared.keep(&package.record, &one).unwrap();
        // A second server of the machine opens the same folder.
        let again = SharedCache::open(&shared.root).unwrap();
        let taken = again.take(digest, &other).unwrap().unwrap();
        assert_eq!(taken.record.bytes(), package.record.bytes());
        assert!(package.record.blobs().iter().all(|(_, blob)| other.blob(blob).is_some()));
        assert!(read_dir(&shared.root.join("writing")).unwrap().is_empty());
    }

    #[test]
    fn what_is_damaged_is_not_taken_and_mended() {
        let (_dir, shared, one, other) = caches();
        let package = package(&one, "graph");
        let digest = package.record.digest();
        shared.keep(&package.record, &one).unwrap();
        let graph = crate::digest_of(b"graph");
        let place = shared.blob(graph);
        fs::remove_file(&place).unwrap();
        fs::write(&place, "grap!").unwrap();
        assert!(shared.take(digest, &other).unwrap().is_none());
        shared.keep(&package.record, &one).unwrap();
        assert!(shared.take(digest, &other).unwrap().is_some());
        fs::remove_file(shared.record(digest)).unwrap();
        fs::write(shared.record(digest), "{}").unwrap();
        assert!(shared.take(digest, &other).unwrap().is_none());
    }

    #[test]
    fn what_nobody_has_taken_for_long_goes_unless_somebody_else_clears_up() {
        let (_dir, shared, one, other) = caches();
        let package = package(&one, "graph");
        shared.keep(&package.record, &one).unwrap();
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        for folder in ["records", "blobs"] {
            for path in read_dir(&shared.root.join(folder)).unwrap() {
                File::open(path).unwrap().set_modified(old).unwrap();
            }
        }
        let clearing = File::create(shared.root.join("lock")).unwrap();
        clearing.lock().unwrap();
        SharedCache::open(&shared.root).unwrap();
        assert_eq!(read_dir(&shared.root.join("records")).unwrap().len(), 1);
        drop(clearing);
        // Taking it counts as use.
        assert!(shared.take(package.record.digest(), &other).unwrap().is_some());
        SharedCache::open(&shared.root).unwrap();
        assert_eq!(read_dir(&shared.root.join("records")).unwrap().len(), 1);
        File::open(shared.record(package.record.digest())).unwrap().set_modified(old).unwrap();
        SharedCache::open(&shared.root).unwrap();
        assert!(read_dir(&shared.root.join("records")).unwrap().is_empty());
    }
}
