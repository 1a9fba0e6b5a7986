//! The folder that keeps packages.
//!
//! Layout: `models/NAME/VERSION/` holds the files of one package, `staging/` what is being received or removed, `lock` is
//! held while a server runs. Contract: a version appears by one rename, when its files are on disk, and goes by one; a
//! crash in between leaves only staging behind, which the next start clears. Versions are never overwritten.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use tempfile::TempDir;
use vespid_types::{ModelName, Version};

use crate::archive::{self, ArchiveLimits};
use crate::{MANIFEST_FILE, Manifest, PackageError, PackageFiles, files, folder_files};

/// The folder, locked against other servers.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    _lock: File,
}

/// A private folder of the store in which an archive is received. Dropping it removes all.
#[derive(Debug)]
pub struct Staged {
    dir: TempDir,
}

/// An unpacked package with a valid manifest whose files are there, not yet in its place. Dropping it removes it.
#[derive(Debug)]
pub struct Verified {
    manifest: Manifest,
    dir: TempDir,
}

/// A package in its place.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The model.
    pub name: ModelName,
    /// The version.
    pub version: Version,
    /// The folder with its files.
    pub dir: PathBuf,
}

impl Store {
    /// Opens the store at `root`, which is made where it does not exist, and clears what an interrupted server left.
    ///
    /// # Errors
    /// [`PackageError::Locked`], or what the file system says.
    pub fn open(root: &Path) -> Result<Self, PackageError> {
        for dir in [root, &root.join("models"), &root.join("staging")] {
            fs::create_dir_all(dir).map_err(PackageError::io("create", dir))?;
        }
        let lock_file = root.join("lock");
        let lock = File::create(&lock_file).map_err(PackageError::io("create", &lock_file))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => PackageError::Locked { store: root.to_owned() },
            TryLockError::Error(error) => PackageError::io("lock", &lock_file)(error),
        })?;
        let store = Self { root: root.to_owned(), _lock: lock };
        for leftover in read_dir(&store.staging())? {
            let removed =
                if leftover.is_dir() { fs::remove_dir_all(&leftover) } else { fs::remove_file(&leftover) };
            removed.map_err(PackageError::io("remove", &leftover))?;
        }
        Ok(store)
    }

    /// The folder for compiled code.
    #[must_use]
    pub fn code_cache(&self) -> PathBuf {
        self.root.join("code-cache")
    }

    fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    fn place(&self, name: &ModelName, version: Version) -> PathBuf {
        self.root.join("models").join(name.as_str()).join(version.to_string())
    }

    /// Every package in the store, in order. Files, and folders whose names are none of ours, are passed over.
    ///
    /// # Errors
    /// What the file system says.
    pub fn list(&self) -> Result<Vec<Stored>, PackageError> {
        let mut found = Vec::new();
        for model in read_dir(&self.root.join("models"))? {
            if let Some(name) = file_name(&model).and_then(|name| name.parse().ok()) {
                found.extend(self.versions(&name)?);
            }
        }
        found.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        Ok(found)
    }

    /// Every package of one model, in order; none where the store does not know it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn versions(&self, name: &ModelName) -> Result<Vec<Stored>, PackageError> {
        let model = self.root.join("models").join(name.as_str());
        if !model.is_dir() {
            return Ok(Vec::new());
        }
        let stored = |dir: PathBuf| {
            let version = file_name(&dir)?.parse().ok()?;
            Some(Stored { name: name.clone(), version, dir })
        };
        let dirs = read_dir(&model)?.into_iter().filter(|dir| dir.is_dir());
        let mut found: Vec<Stored> = dirs.filter_map(stored).collect();
        found.sort_by_key(|stored| stored.version);
        Ok(found)
    }

    /// A place to receive an archive.
    ///
    /// # Errors
    /// What the file system says.
    pub fn stage(&self) -> Result<Staged, PackageError> {
        let staging = self.staging();
        let dir = TempDir::new_in(&staging).map_err(PackageError::io("create a folder in", staging))?;
        Ok(Staged { dir })
    }

    /// Whether the store holds this version.
    #[must_use]
    pub fn contains(&self, name: &ModelName, version: Version) -> bool {
        self.place(name, version).exists()
    }

    /// Puts a package in its place.
    ///
    /// # Errors
    /// [`PackageError::Exists`], or what the file system says; the store is then as it was.
    pub fn commit(&self, package: Verified) -> Result<Stored, PackageError> {
        let Verified { manifest: Manifest { name, version, .. }, dir } = package;
        let place = self.place(&name, version);
        if place.exists() {
            return Err(PackageError::Exists { name, version });
        }
        let parent = self.root.join("models").join(name.as_str());
        fs::create_dir_all(&parent).map_err(PackageError::io("create", &parent))?;
        let files = dir.path().join(UNPACKED);
        sync_dir(&files)?;
        fs::rename(&files, &place).map_err(PackageError::io("rename to", &place))?;
        sync_dir(&parent)?;
        Ok(Stored { name, version, dir: place })
    }

    /// Removes a version.
    ///
    /// # Errors
    /// [`PackageError::NotFound`], or what the file system says.
    pub fn remove(&self, name: &ModelName, version: Version) -> Result<(), PackageError> {
        let place = self.place(name, version);
        if !place.exists() {
            return Err(PackageError::NotFound { name: name.clone(), version });
        }
        let Staged { dir } = self.stage()?;
        fs::rename(&place, dir.path().join(UNPACKED)).map_err(PackageError::io("rename", &place))?;
        if let Some(parent) = place.parent() {
            sync_dir(parent)?;
            // Fails where other versions are left, and may.
            let _ = fs::remove_dir(parent);
        }
        dir.close().map_err(PackageError::io("remove", &place))
    }
}

const UNPACKED: &str = "package";

/// More than anyone writes into a manifest, and little enough to hold and parse.
const MAX_MANIFEST: u64 = 1 << 20;

impl Staged {
    /// Where the archive is to be written.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.dir.path().join("package.tar")
    }

    /// Unpacks the archive and checks what it holds.
    ///
    /// # Errors
    /// What is wrong with the archive, the manifest or the files.
    pub fn verify(self, limits: ArchiveLimits) -> Result<Verified, PackageError> {
        let folder = self.unpacked()?;
        let archive = self.archive();
        archive::unpack(&archive, &folder, limits)?;
        fs::remove_file(&archive).map_err(PackageError::io("remove", &archive))?;
        Ok(Verified { manifest: read_manifest(&folder)?, dir: self.dir })
    }

    /// Checks files that came without an archive. Where they bring no manifest, one of this name and version is made.
    ///
    /// # Errors
    /// What is wrong with the manifest or the files.
    pub fn verify_files(
        self,
        files: &PackageFiles,
        (name, version): (&ModelName, Version),
        limits: ArchiveLimits,
    ) -> Result<Verified, PackageError> {
        let folder = self.unpacked()?;
        files::write(files, &folder, limits)?;
        let brought = files.keys().any(|path| path.as_str() == MANIFEST_FILE);
        let manifest = if brought { read_manifest(&folder)? } else { Manifest::made(name, version, files)? };
        let package = Verified { manifest, dir: self.dir };
        package.expect(name, version)?;
        Ok(package)
    }

    fn unpacked(&self) -> Result<PathBuf, PackageError> {
        let folder = self.dir.path().join(UNPACKED);
        fs::create_dir(&folder).map_err(PackageError::io("create", &folder))?;
        Ok(folder)
    }
}

impl Verified {
    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder with its files.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.dir.path().join(UNPACKED)
    }

    /// Checks that this is the model and version that a request names.
    ///
    /// # Errors
    /// [`PackageError::OtherModel`].
    pub fn expect(&self, name: &ModelName, version: Version) -> Result<(), PackageError> {
        if self.manifest.name == *name && self.manifest.version == version {
            return Ok(());
        }
        Err(PackageError::OtherModel {
            name: self.manifest.name.clone(),
            version: self.manifest.version,
            expected_name: name.clone(),
            expected_version: version,
        })
    }
}

impl Stored {
    /// Reads the manifest and checks it as on the way in.
    ///
    /// # Errors
    /// What is wrong with it: the files may have been changed behind the server's back.
    pub fn manifest(&self) -> Result<Manifest, PackageError> {
        read_manifest(&self.dir)
    }
}

fn read_manifest(dir: &Path) -> Result<Manifest, PackageError> {
    let file = dir.join(MANIFEST_FILE);
    if fs::metadata(&file).is_ok_and(|metadata| metadata.len() > MAX_MANIFEST) {
        let reason = format!("it is larger than {}", ByteSize(MAX_MANIFEST));
        return Err(PackageError::Manifest { reason });
    }
    let text = match fs::read(&file) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Err(PackageError::NoManifest);
        }
        read => read.map_err(PackageError::io("read", &file))?,
    };
    let text = String::from_utf8(text)
        .map_err(|error| PackageError::Manifest { reason: format!("it is not UTF-8 text: {error}") })?;
    let manifest = Manifest::parse(&text)?;
    let missing = manifest.files().find(|(_, path)| !dir.join(path).is_file());
    if let Some((field, path)) = missing {
        return Err(PackageError::MissingFile { field, file: path.to_string() });
    }
    if let Some(folder) = &manifest.grants.folder {
        folder_files(dir, folder)?;
    }
    Ok(manifest)
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, PackageError> {
    fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(PackageError::io("list", dir))
}

fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn sync_dir(dir: &Path) -> Result<(), PackageError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(PackageError::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMITS: ArchiveLimits = ArchiveLimits { size: bytesize::ByteSize::mib(1), entries: 16 };

    fn stage(store: &Store, version: &str) -> Staged {
        let staged = store.stage().unwrap();
        let manifest = format!(
            "[model]\nname = 'm'\nversion = '{version}'\n[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'\n"
        );
        let mut builder = tar::Builder::new(File::create(staged.archive()).unwrap());
        for (name, data) in [("model.toml", manifest.as_bytes()), ("g.onnx", b"graph")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, data).unwrap();
        }
        builder.finish().unwrap();
        staged
    }

    #[test]
    fn packages_survive_and_are_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let stored = store.commit(stage(&store, "2").verify(LIMITS).unwrap()).unwrap();
        assert_eq!(fs::read(stored.dir.join("g.onnx")).unwrap(), b"graph");
        let again = store.commit(stage(&store, "2").verify(LIMITS).unwrap()).unwrap_err();
        assert!(matches!(again, PackageError::Exists { .. }));
        drop(store);

        let store = Store::open(root.path()).unwrap();
        let listed = store.list().unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(store.versions(&listed[0].name).unwrap().len(), 1);
        assert!(listed[0].manifest().is_ok());
        store.remove(&listed[0].name, listed[0].version).unwrap();
        assert!(store.list().unwrap().is_empty());
        assert!(read_dir(&store.staging()).unwrap().is_empty());
    }

    #[test]
    fn loose_files_are_a_package_of_the_name_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let (name, version) = ("m".parse().unwrap(), "7".parse().unwrap());
        let verify = |files: &[(&str, &str)]| {
            let files = files
                .iter()
                .map(|(path, data)| (path.parse().unwrap(), Bytes::copy_from_slice(data.as_bytes())))
                .collect();
            store.stage().unwrap().verify_files(&files, (&name, version), LIMITS)
        };
        let package = verify(&[("model.onnx", "graph"), ("more/labels.txt", "x")]).unwrap();
        assert_eq!(fs::read(package.dir().join("more/labels.txt")).unwrap(), b"x");
        assert_eq!(package.manifest().graphs[0].file.as_str(), "model.onnx");
        drop(package);
        let manifest = "[model]\nname = 'm'\nversion = '8'\nplugin = 'p.wasm'\n";
        for (files, expected) in [
            (
                &[("model.toml", manifest), ("p.wasm", "")][..],
                "is 'm' version 8; the request names 'm' version 7",
            ),
            (&[("model.toml", manifest)], "names 'p.wasm', which the package does not hold"),
            (&[("a", "x"), ("a/b", "y")], "'a/b' is refused: a file of the package"),
            (&[("a", &"x".repeat(2 << 20))], "larger than the limit"),
        ] {
            let error = verify(files).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(read_dir(&store.staging()).unwrap().is_empty());
    }

    #[test]
    fn leftovers_are_cleared_and_a_second_server_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        std::mem::forget(stage(&store, "1"));
        for file in ["staging/file", "models/file"] {
            fs::write(root.path().join(file), "").unwrap();
        }
        assert!(matches!(Store::open(root.path()), Err(PackageError::Locked { .. })));
        drop(store);
        let store = Store::open(root.path()).unwrap();
        assert!(read_dir(&store.staging()).unwrap().is_empty());
        assert!(store.list().unwrap().is_empty());
    }
}
