//! A package on its way in: received into a folder of its own, and checked there.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use vespid_types::{Digest, ModelName, Version};

use crate::archive::{self, ArchiveLimits};
use crate::record::{Record, digest_of_file, paths};
use crate::{Cache, MANIFEST_FILE, Manifest, Package, PackageError, PackageFiles, PackagePath, files};

/// A private folder in which an archive is received. Dropping it removes all.
#[derive(Debug)]
pub struct Staged {
    dir: TempDir,
}

/// An unpacked package with a valid manifest whose files are there, not yet in its place. Dropping it removes it.
#[derive(Debug)]
pub struct Verified {
    manifest: Manifest,
    files: BTreeMap<PackagePath, (Digest, u64)>,
    dir: TempDir,
    /// What it is already known to be, where it came with its record.
    package: Option<Package>,
}

const UNPACKED: &str = "package";

impl Staged {
    pub(crate) fn new(dir: TempDir) -> Self {
        Self { dir }
    }

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
        let manifest = Manifest::read(&folder)?;
        Verified::of(manifest, self.dir)
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
        let manifest = if brought { Manifest::read(&folder)? } else { Manifest::made(name, version, files)? };
        let package = Verified::of(manifest, self.dir)?;
        package.expect(name, version)?;
        Ok(package)
    }

    /// Checks a package whose blobs are in the cache. In the store it will have the record, and so the digest, that it has.
    ///
    /// # Errors
    /// What is wrong with the manifest or the files, or what the file system says.
    pub fn verify_package(self, package: Package, cache: &Cache) -> Result<Verified, PackageError> {
        let folder = self.unpacked()?;
        for (path, blob) in package.record.files() {
            cache.link(path, blob.digest, blob.size, &folder)?;
        }
        let files = package.record.files().iter();
        let files = files.map(|(path, blob)| (path.clone(), (blob.digest, blob.size))).collect();
        Ok(Verified { manifest: Manifest::read(&folder)?, files, dir: self.dir, package: Some(package) })
    }

    fn unpacked(&self) -> Result<PathBuf, PackageError> {
        let folder = self.dir.path().join(UNPACKED);
        fs::create_dir(&folder).map_err(PackageError::io("create", &folder))?;
        Ok(folder)
    }
}

impl Verified {
    fn of(manifest: Manifest, dir: TempDir) -> Result<Self, PackageError> {
        let folder = dir.path().join(UNPACKED);
        let file = |path: PackagePath| Ok((digest_of_file(&folder.join(&path))?, path));
        let files = paths(&folder)?.into_iter().map(file);
        let files: Result<_, PackageError> =
            files.map(|file| file.map(|(digest, path)| (path, digest))).collect();
        Ok(Self { manifest, files: files?, package: None, dir })
    }

    /// What its files hold, and the bytes of each.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<PackagePath, (Digest, u64)> {
        &self.files
    }

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

    /// The same with its record, and so its digest, made.
    ///
    /// # Errors
    /// What is wrong with the plugin's file, or what the file system says.
    pub fn recorded(self) -> Result<(Self, Digest), PackageError> {
        let (verified, package) = self.with_package()?;
        let digest = package.record.digest();
        Ok((Self { package: Some(package), ..verified }, digest))
    }

    /// Its record, which is made where it came without one.
    pub(crate) fn with_package(mut self) -> Result<(Self, Package), PackageError> {
        let package = match self.package.take() {
            Some(package) => package,
            None => {
                let (record, config) = Record::of_files(&self.dir(), &self.manifest, &self.files)?;
                Package { record, config }
            }
        };
        Ok((self, package))
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
