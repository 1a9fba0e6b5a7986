//! A model as a command is given it: a folder, which is built, or a package that was built before.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use bytesize::ByteSize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use url::Url;
use vespid_ingress::cases;
use vespid_package::oci::Pulled;
use vespid_package::{ArchiveLimits, Cache, MAX_FILES, PackageError, PackageFiles, PackagePath, Record};
use vespid_types::{ModelName, Version};

use crate::command::build;
use crate::failure::{Failure, Hint};
use crate::manifest::{self, Manifest};
use crate::registry::{Client, RegistryArgs};

/// A package in memory.
pub(crate) struct Package {
    pub(crate) name: ModelName,
    pub(crate) version: Version,
    /// The plugin's path in it.
    pub(crate) plugin: Option<PackagePath>,
    /// All of its files.
    pub(crate) files: PackageFiles,
}

impl Package {
    /// Builds the folder, or reads the package.
    pub(crate) fn open(path: &Path, registries: &RegistryArgs) -> anyhow::Result<Self> {
        if path.is_dir() { Self::build(path, registries) } else { Ok(Self::read(path)?) }
    }

    /// Builds the package of a model's folder.
    pub(crate) fn build(folder: &Path, registries: &RegistryArgs) -> anyhow::Result<Self> {
        let (manifest, contents) = build::collect(folder, registries)?;
        let mut files = PackageFiles::new();
        files.insert(package_path(manifest::FILE)?, contents.manifest.into());
        for (name, path) in &contents.files {
            let content =
                fs::read(path).hint(format!("{} cannot be read", path.display()), "check its rights")?;
            files.insert(package_path(name)?, content.into());
        }
        Ok(Self::new(&manifest, files)?)
    }

    /// Reads a package that `vespid build` wrote.
    fn read(path: &Path) -> Result<Self, Failure> {
        let hint = "name a model's folder, or a package that `vespid build` wrote";
        let unreadable = || format!("{} cannot be read as a package", path.display());
        let file = File::open(path).hint(unreadable(), hint)?;
        let mut files = PackageFiles::new();
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries().hint(unreadable(), hint)? {
            let mut entry = entry.hint(unreadable(), hint)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).hint(unreadable(), hint)?;
            files.insert(package_path(name.strip_prefix("./").unwrap_or(&name))?, content.into());
        }
        let text = files.get(&package_path(manifest::FILE)?).map(|text| String::from_utf8_lossy(text));
        let text = text.ok_or_else(|| {
            Failure::new(format!("{} holds no {}", path.display(), manifest::FILE)).hint(hint)
        })?;
        Self::new(&Manifest::parse(&text)?, files)
    }

    /// Fetches the package that a server gives. Where the URL has `digest`, it must be the one with that digest.
    pub(crate) fn fetch(url: &Url, client: &Client) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()
            .hint("there is no place for the package", "check that the folder TMPDIR can be written to")?;
        let archive = folder.path().join("package.tar");
        // What a user fetches for himself has no limit but his disk.
        let limit = ByteSize(u64::MAX);
        let passes = |error: &PackageError| matches!(error, PackageError::Download { passes: true, .. });
        let fetching = || async { vespid_package::download(url, &archive, limit).await };
        client.wait(fetching.retry(ExponentialBuilder::default().with_jitter()).when(passes))?;
        if let Some((_, expected)) = url.query_pairs().find(|(key, _)| key == "digest") {
            let files = folder.path().join("files");
            fs::create_dir(&files)?;
            vespid_package::unpack(&archive, &files, ArchiveLimits { size: limit, entries: MAX_FILES })?;
            let (record, _) = Record::of_folder(&files)?;
            if record.digest().to_string() != expected {
                let message = format!("the server gives {}, and {expected} is asked for", record.digest());
                let hint = "ask for the digest that it has, or leave `digest` out of the URL";
                return Err(Failure::new(message).hint(hint).into());
            }
        }
        Ok(Self::read(&archive)?)
    }

    /// The package that was pulled into a cache.
    pub(crate) fn pulled(pulled: &Pulled, cache: &Cache) -> anyhow::Result<Self> {
        let mut files = PackageFiles::new();
        for (path, blob) in pulled.package.record.files() {
            let place = cache.blob(blob).with_context(|| format!("{path} is gone from the cache"))?;
            let content = fs::read(&place).with_context(|| format!("{} cannot be read", place.display()))?;
            files.insert(path.clone(), content.into());
        }
        let text =
            files.get(&package_path(manifest::FILE)?).map(|text| String::from_utf8_lossy(text).into_owned());
        let text = text.with_context(|| format!("{} holds no {}", pulled.reference, manifest::FILE))?;
        Ok(Self::new(&Manifest::parse(&text)?, files)?)
    }

    fn new(manifest: &Manifest, files: PackageFiles) -> Result<Self, Failure> {
        let plugin = manifest.plugin.as_deref().map(package_path).transpose()?;
        Ok(Self { name: manifest.name.clone(), version: manifest.version, plugin, files })
    }

    /// The plugin's code.
    pub(crate) fn code(&self) -> Option<&Bytes> {
        self.files.get(self.plugin.as_ref()?)
    }

    /// What tells it from other packages: of its names and contents.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for (path, content) in &self.files {
            digest.update(format!("{} {path} ", content.len()));
            digest.update(content);
        }
        digest.finalize().into()
    }
}

fn package_path(name: &str) -> Result<PackagePath, Failure> {
    name.parse().hint("the package cannot be read", "rename the file")
}

/// The recorded cases of a model, and the folder that they and what they name lie in.
pub(crate) struct Cases {
    pub(crate) folder: PathBuf,
    /// The cases by name.
    pub(crate) files: BTreeMap<String, PathBuf>,
    /// Where they had to be unpacked.
    _unpacked: Option<TempDir>,
}

impl Cases {
    /// The cases of the model at `path`, of which `package` was made or read.
    pub(crate) fn of(path: &Path, package: &Package) -> Result<Self, Failure> {
        let (folder, unpacked) = if path.is_dir() {
            (path.join(cases::FOLDER), None)
        } else {
            let unpacked = unpack(package)
                .hint("the cases cannot be unpacked", "check that the folder TMPDIR can be written to")?;
            (unpacked.path().join(cases::FOLDER), Some(unpacked))
        };
        let name = |path: PathBuf| (path.file_stem().unwrap_or_default().display().to_string(), path);
        let files = build::found(&folder)?.into_iter().map(name).collect();
        Ok(Self { folder, files, _unpacked: unpacked })
    }

    /// Whether what is written to them stays.
    pub(crate) fn can_be_written(&self) -> bool {
        self._unpacked.is_none()
    }
}

fn unpack(package: &Package) -> std::io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    for (path, content) in &package.files {
        if path.as_str().starts_with(cases::FOLDER) {
            let place = folder.path().join(path);
            fs::create_dir_all(place.parent().unwrap_or(folder.path()))?;
            fs::write(place, content)?;
        }
    }
    Ok(folder)
}
