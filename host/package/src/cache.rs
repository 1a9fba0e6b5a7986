//! What of packages is kept on this machine: blobs, and folders made of them.
//!
//! Layout: `blobs/sha256/HEX` holds a blob, checked when it was written and not changed since; `partial/HEX` the beginning
//! of one that is being loaded; `packages/HEX/` the files of the package whose record has that digest, as links to blobs;
//! `staging/` what is being made; `lock` is held while a process uses the cache. Contract: a blob or a package appears by
//! one rename, when it is whole; a crash leaves beginnings, which are gone on with, and what lies in staging, which the
//! next process clears. Cost: the digest is computed where a blob is written, and never again: where it is used, its size
//! is looked at. All of it blocks on files; callers move it off the async threads. Left out on purpose: a limit of size;
//! what nobody has used for two weeks goes.

mod writer;

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::TempDir;
use vespid_types::Digest;

use self::writer::Draft;
pub use self::writer::{Finished, Writer};
use crate::record::{Blob, Record, digest_of_file};
use crate::{PackageError, PackagePath};

/// After how long what nobody uses is removed.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// Where a package is put together before it gets its name.
const MADE: &str = "made";

/// A folder of blobs and packages, locked against other processes.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache at `root`, which is made where it does not exist, and clears what an interrupted process left.
    ///
    /// # Errors
    /// [`PackageError::Locked`], or what the file system says.
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        for dir in ["blobs/sha256", "partial", "packages", "staging"] {
            create_dir(&root.join(dir))?;
        }
        // A path that stays right, and is the same however it was written.
        let root = fs::canonicalize(root).map_err(PackageError::io("open", root))?;
        let lock_file = root.join("lock");
        let lock = File::create(&lock_file).map_err(PackageError::io("create", &lock_file))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PackageError::Locked { folder: root.clone() },
            TryLockError::Error(error) => PackageError::io("lock", &lock_file)(error),
        })?;
        let cache = Self { root, _lock: lock };
        for leftover in read_dir(&cache.staging())? {
            remove(&leftover)?;
        }
        Ok(cache)
    }

    /// Removes what nobody has used for two weeks. For a cache beside its store: in one that is the store's own folder, a
    /// blob may be all that there is.
    pub(crate) fn clear_unused(&self) -> Result<(), PackageError> {
        let unused = |path: &PathBuf| {
            let used = fs::metadata(path).and_then(|metadata| metadata.modified());
            used.is_ok_and(|used| SystemTime::now().duration_since(used).is_ok_and(|age| age > KEPT))
        };
        let views = read_dir(&self.root.join("packages"))?;
        let partial = read_dir(&self.root.join("partial"))?;
        for path in views.into_iter().chain(partial).filter(unused) {
            remove(&path)?;
        }
        let blobs = read_dir(&self.root.join("blobs/sha256"))?;
        for blob in blobs.into_iter().filter(|path| unused(path) && links(path) == 1) {
            remove(&blob)?;
        }
        Ok(())
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder in staging that is removed when it is dropped.
    pub(crate) fn stage(&self) -> Result<TempDir, PackageError> {
        let staging = self.staging();
        TempDir::new_in(&staging).map_err(PackageError::io("create a folder in", staging))
    }

    fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    fn place(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Where a blob is, if it is there with the size that it should have.
    #[must_use]
    pub fn blob(&self, blob: &Blob) -> Option<PathBuf> {
        let place = self.place(blob.digest);
        has_size(&place, blob.size).then_some(place)
    }

    /// What a small blob that is here holds, which is called `file` in messages.
    pub(crate) fn read(&self, file: &str, blob: &Blob) -> Result<Bytes, PackageError> {
        let missing = || PackageError::Blob {
            file: file.to_owned(),
            digest: blob.digest,
            reason: "is missing".to_owned(),
        };
        let place = self.blob(blob).ok_or_else(missing)?;
        fs::read(&place).map(Bytes::from).map_err(PackageError::io("read", place))
    }

    /// Checks what a blob holds, which is called `file` in messages. For blobs that others have put here.
    pub(crate) fn verify(&self, file: &str, blob: &Blob) -> Result<(), PackageError> {
        let place = self.place(blob.digest);
        let wrong =
            |reason: String| PackageError::Blob { file: file.to_owned(), digest: blob.digest, reason };
        let size = match fs::metadata(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(wrong("is missing".to_owned())),
            metadata => metadata.map_err(PackageError::io("read", &place))?.len(),
        };
        if size != blob.size {
            return Err(wrong(writer::other_size(size, blob.size)));
        }
        let (digest, _) = digest_of_file(&place)?;
        if digest != blob.digest {
            return Err(wrong(writer::other_digest(digest)));
        }
        Ok(())
    }

    /// Takes a copy of what a file holds.
    ///
    /// # Errors
    /// What the file system says.
    pub fn insert_file(&self, file: &Path) -> Result<(Digest, u64), PackageError> {
        let mut draft = self.draft()?;
        let mut source = File::open(file).map_err(PackageError::io("open", file))?;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let length = source.read(&mut buffer).map_err(PackageError::io("read", file))?;
            if length == 0 {
                return draft.finish(self);
            }
            draft.append(buffer.get(..length).unwrap_or_default())?;
        }
    }

    /// Takes a copy of these bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<(Digest, u64), PackageError> {
        let mut draft = self.draft()?;
        draft.append(bytes)?;
        draft.finish(self)
    }

    /// A blob that is to be written, of which nothing is known yet.
    pub(crate) fn draft(&self) -> Result<Draft, PackageError> {
        Draft::new(&self.staging())
    }

    /// Takes a file away that holds what `digest` says, and is on disk. One that is there is looked into, for this is how
    /// a damaged one is mended.
    pub(crate) fn adopt(&self, file: &Path, digest: Digest, size: u64) -> Result<(), PackageError> {
        let place = self.place(digest);
        if has_size(&place, size) && digest_of_file(&place)?.0 == digest {
            return fs::remove_file(file).map_err(PackageError::io("remove", file));
        }
        fs::set_permissions(file, Permissions::from_mode(0o444)).map_err(PackageError::io("change", file))?;
        // Where the last blob went, its folder may have gone with it.
        if let Some(parent) = place.parent() {
            create_dir(parent)?;
            fs::rename(file, &place).map_err(PackageError::io("rename to", &place))?;
            sync_dir(parent)?;
        }
        Ok(())
    }

    /// Begins to write a blob, or goes on where an earlier one stopped. None where it is there. `file` is what it is
    /// called in messages. Of two writers of one blob the second waits for the first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn writer(&self, file: &str, blob: &Blob) -> Result<Option<Writer>, PackageError> {
        let partial = self.root.join("partial").join(blob.digest.hex());
        loop {
            if self.blob(blob).is_some() {
                return Ok(None);
            }
            let Some(writer) = Writer::open(&partial, self.place(blob.digest), file, blob)? else { continue };
            // Another writer may have come to its end in between, before this one began.
            if self.blob(blob).is_none() {
                return Ok(Some(writer));
            }
            remove(&partial)?;
        }
    }

    /// The folder with the files of a package, all of whose blobs are here.
    ///
    /// # Errors
    /// [`PackageError::Blob`] where one is not, or what the file system says.
    pub fn view(&self, record: &Record) -> Result<PathBuf, PackageError> {
        if let Some(view) = self.viewed(record) {
            return Ok(view);
        }
        let staged = self.stage()?;
        let made = staged.path().join(MADE);
        create_dir(&made)?;
        for (path, blob) in record.files() {
            self.link(path, blob.digest, blob.size, &made)?;
        }
        let view = self.view_path(record.digest());
        // One that is not whole any more is put out of the way.
        match fs::rename(&view, staged.path().join("old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(PackageError::io("rename", view)(error));
            }
            _ => {}
        }
        match fs::rename(&made, &view) {
            // Somebody else was as fast.
            Err(error) if self.viewed(record).is_none() => Err(PackageError::io("rename to", view)(error)),
            _ => Ok(view),
        }
    }

    /// The folder with a package's files, if it is there and nothing is missing.
    pub(crate) fn viewed(&self, record: &Record) -> Option<PathBuf> {
        let view = self.view_path(record.digest());
        if !record.files().iter().all(|(path, blob)| has_size(&view.join(path), blob.size)) {
            return None;
        }
        // That it was used counts for when it is cleared, and for nothing else.
        let _ = File::open(&view).and_then(|view| view.set_modified(SystemTime::now()));
        Some(view)
    }

    /// The folder with the files of the package that has this digest, if there is one.
    #[must_use]
    pub fn package(&self, digest: Digest) -> Option<PathBuf> {
        Some(self.view_path(digest)).filter(|view| view.is_dir())
    }

    fn view_path(&self, package: Digest) -> PathBuf {
        self.root.join("packages").join(package.hex())
    }

    /// Puts a blob that is here into a folder, as the file `path`.
    pub(crate) fn link(
        &self,
        path: &PackagePath,
        digest: Digest,
        size: u64,
        into: &Path,
    ) -> Result<(), PackageError> {
        let (blob, target) = (self.place(digest), into.join(path));
        if !has_size(&blob, size) {
            let (file, reason) = (path.to_string(), "is missing".to_owned());
            return Err(PackageError::Blob { file, digest, reason });
        }
        if let Some(parent) = target.parent() {
            create_dir(parent)?;
        }
        // A file may have 65,000 links, and some file systems know none.
        let linked = fs::hard_link(&blob, &target).or_else(|_| fs::copy(&blob, &target).map(drop));
        linked.map_err(PackageError::io("create", target))
    }

    /// Removes a package's folder.
    pub(crate) fn forget(&self, record: &Record) -> Result<(), PackageError> {
        let view = self.view_path(record.digest());
        if view.exists() {
            let staged = self.stage()?;
            fs::rename(&view, staged.path().join(MADE)).map_err(PackageError::io("rename", &view))?;
            staged.close().map_err(PackageError::io("remove", &view))?;
        }
        Ok(())
    }

    /// Removes those of a package's blobs that no package's folder has.
    pub(crate) fn forget_blobs(&self, record: &Record) -> Result<(), PackageError> {
        for (_, blob) in record.blobs() {
            let place = self.place(blob.digest);
            if links(&place) == 1 {
                remove(&place)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn has_size(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

fn links(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.nlink())
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), PackageError> {
    fs::create_dir_all(dir).map_err(PackageError::io("create", dir))
}

pub(crate) fn remove(path: &Path) -> Result<(), PackageError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(PackageError::io("remove", path)),
    }
}

pub(crate) fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, PackageError> {
    let entries = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    entries().map_err(PackageError::io("list", dir))
}

fn sync_dir(dir: &Path) -> Result<(), PackageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(PackageError::io("sync", dir))
}

#[cfg(test)]
mod tests;
