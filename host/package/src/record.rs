//! A version's record: the OCI image manifest of its package.
//!
//! Contract: the record names each file of a package, with its digest and size, and its bytes are what the package's own
//! digest is of. It is laid out as CNCF's "Wasm OCI Artifact layout" has it (a config of type
//! `application/vnd.wasm.config.v0+json`, the component in a layer of type `application/wasm`), with a further layer for
//! each other file, whose path in the package stands in the annotation `org.opencontainers.image.title`. So a store and a
//! registry hold the same bytes. Equal packages have equal records: there is no time in it, and the order is fixed. Cost:
//! a few hundred bytes a file. Left out on purpose: whether the blobs are there and hold what the record says, which is
//! seen to where they are written (`cache`).

mod component;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use vespid_types::{Digest, Encoding};

use self::component::Interface;
use crate::{MANIFEST_FILE, Manifest, PackageError, PackagePath};

/// How large a record may be: what registries take.
pub const MAX_RECORD: u64 = 4 << 20;

/// How many files a package may have.
pub const MAX_FILES: usize = 1024;

pub(crate) const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const TITLE: &str = "org.opencontainers.image.title";

/// The layout asks for a time. It is the same for all, for a package's digest must not depend on when it was made.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// What a blob of a package is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// What Wasm tools ask about the component.
    Config,
    /// The plugin: a component, or a program for WASI 0.1.
    Plugin,
    /// `model.toml`
    Manifest,
    /// A graph in ONNX.
    OnnxGraph,
    /// A graph in OpenVINO's encoding, or its weights.
    OpenvinoGraph,
    /// Any other file.
    File,
}

impl MediaType {
    const ALL: [Self; 6] =
        [Self::Config, Self::Plugin, Self::Manifest, Self::OnnxGraph, Self::OpenvinoGraph, Self::File];

    /// As OCI writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "application/vnd.wasm.config.v0+json",
            Self::Plugin => "application/wasm",
            Self::Manifest => "application/vnd.vespid.model.v1+toml",
            Self::OnnxGraph => "application/vnd.vespid.graph.v1+onnx",
            Self::OpenvinoGraph => "application/vnd.vespid.graph.v1+openvino",
            Self::File => "application/vnd.vespid.file.v1",
        }
    }

    fn of(path: &PackagePath, manifest: &Manifest) -> Self {
        if manifest.plugin.as_ref() == Some(path) {
            return Self::Plugin;
        }
        if path.as_str() == MANIFEST_FILE {
            return Self::Manifest;
        }
        let named =
            |graph: &&crate::GraphManifest| graph.file == *path || graph.weights.as_ref() == Some(path);
        match manifest.graphs.iter().find(named).map(|graph| graph.encoding) {
            Some(Encoding::Onnx) => Self::OnnxGraph,
            Some(Encoding::Openvino) => Self::OpenvinoGraph,
            None => Self::File,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MediaType {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|media_type| media_type.as_str() == text).ok_or(())
    }
}

/// What a record says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it holds.
    pub digest: Digest,
    /// How many bytes that is.
    pub size: u64,
    /// What it is.
    pub media_type: MediaType,
}

/// A well-formed record.
#[derive(Clone, Debug)]
pub struct Record {
    bytes: Bytes,
    digest: Digest,
    config: Blob,
    files: BTreeMap<PackagePath, Blob>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRecord {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    config: RawBlob,
    layers: Vec<RawBlob>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBlob {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RawConfig {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<Interface>,
}

impl Record {
    /// Reads a record, as a store or a registry has it.
    ///
    /// # Errors
    /// [`PackageError::Record`], which names what is wrong.
    pub fn parse(bytes: Bytes) -> Result<Self, PackageError> {
        if bytes.len() as u64 > MAX_RECORD {
            return Err(wrong(format!("it is larger than {}", bytesize::ByteSize(MAX_RECORD))));
        }
        let raw: RawRecord = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("it is not an OCI image manifest: {error}")))?;
        if raw.schema_version != 2 || raw.media_type.is_some_and(|media_type| media_type != IMAGE_MANIFEST) {
            return Err(wrong(format!("it is not of type {IMAGE_MANIFEST} with schemaVersion 2")));
        }
        let config = blob(&raw.config, "config")?;
        if config.media_type != MediaType::Config {
            return Err(wrong(format!(
                "config.mediaType is '{}': use '{}'",
                config.media_type,
                MediaType::Config
            )));
        }
        let files = files(&raw.layers)?;
        let digest = digest_of(&bytes);
        Ok(Self { bytes, digest, config, files })
    }

    /// The record of the package in the folder `dir`, and what its config blob holds.
    ///
    /// # Errors
    /// What is wrong with the manifest or the files, or what the file system says.
    pub fn of_folder(dir: &Path) -> Result<(Self, Bytes), PackageError> {
        let manifest = Manifest::read(dir)?;
        let files = paths(dir)?.into_iter().map(|path| {
            let (digest, size) = digest_of_file(&dir.join(&path))?;
            Ok((path, (digest, size)))
        });
        Self::of_files(dir, &manifest, &files.collect::<Result<_, PackageError>>()?)
    }

    /// The same where the files' digests and sizes are known.
    pub(crate) fn of_files(
        dir: &Path,
        manifest: &Manifest,
        files: &BTreeMap<PackagePath, (Digest, u64)>,
    ) -> Result<(Self, Bytes), PackageError> {
        let mut layers: Vec<(MediaType, &PackagePath, Digest, u64)> = files
            .iter()
            .map(|(path, (digest, size))| (MediaType::of(path, manifest), path, *digest, *size))
            .collect();
        // Tools for Wasm take the first layer for the component.
        layers.sort_by_key(|(media_type, path, ..)| {
            (*media_type != MediaType::Plugin, *media_type != MediaType::Manifest, *path)
        });
        let interface = match &manifest.plugin {
            Some(plugin) => {
                let file = dir.join(plugin);
                let code = fs::read(&file).map_err(PackageError::io("read", &file))?;
                Interface::read(&code)
                    .map_err(|reason| PackageError::Plugin { file: plugin.to_string(), reason })?
            }
            None => Some(Interface::default()),
        };
        let config = RawConfig {
            created: CREATED,
            architecture: "wasm",
            os: if interface.is_some() { "wasip2" } else { "wasip1" },
            layer_digests: layers.iter().map(|(_, _, digest, _)| *digest).collect(),
            component: interface,
        };
        let config = json(&config)?;
        let raw = RawRecord {
            schema_version: 2,
            media_type: Some(IMAGE_MANIFEST.to_owned()),
            config: RawBlob {
                media_type: MediaType::Config.as_str().to_owned(),
                digest: digest_of(&config),
                size: config.len() as u64,
                annotations: BTreeMap::new(),
            },
            layers: layers
                .into_iter()
                .map(|(media_type, path, digest, size)| RawBlob {
                    media_type: media_type.as_str().to_owned(),
                    digest,
                    size,
                    annotations: BTreeMap::from([(TITLE.to_owned(), path.to_string())]),
                })
                .collect(),
        };
        Ok((Self::parse(json(&raw)?)?, config))
    }

    /// The record itself.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the package.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What other tools read about the component; not a file of the package.
    #[must_use]
    pub fn config(&self) -> Blob {
        self.config
    }

    /// The files of the package.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<PackagePath, Blob> {
        &self.files
    }

    /// Every blob once, each with what it is called in messages: the path of the (first) file, or `config`.
    #[must_use]
    pub fn blobs(&self) -> Vec<(String, Blob)> {
        let mut seen = BTreeSet::new();
        let config = std::iter::once(("config".to_owned(), self.config));
        let files = self.files.iter().map(|(path, blob)| (path.to_string(), *blob));
        config.chain(files).filter(|(_, blob)| seen.insert(blob.digest)).collect()
    }

    /// The bytes of all files together.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.values().fold(0, |size, blob| size.saturating_add(blob.size))
    }
}

fn wrong(reason: impl Into<String>) -> PackageError {
    PackageError::Record { reason: reason.into() }
}

fn json(value: &impl Serialize) -> Result<Bytes, PackageError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| wrong(error.to_string()))
}

fn blob(raw: &RawBlob, field: &str) -> Result<Blob, PackageError> {
    let RawBlob { media_type, digest, size, .. } = raw;
    let media_type = media_type
        .parse()
        .map_err(|()| wrong(format!("{field}.mediaType '{media_type}' is none that a package has")))?;
    Ok(Blob { digest: *digest, size: *size, media_type })
}

fn files(layers: &[RawBlob]) -> Result<BTreeMap<PackagePath, Blob>, PackageError> {
    if layers.len() > MAX_FILES {
        return Err(wrong(format!("it has {} layers: a package may have {MAX_FILES} files", layers.len())));
    }
    let mut files = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for (position, layer) in layers.iter().enumerate() {
        let field = format!("layers[{position}]");
        let title = layer.annotations.get(TITLE).ok_or_else(|| {
            wrong(format!("{field} has no annotation '{TITLE}', which says what the file is called"))
        })?;
        let path: PackagePath = title.parse().map_err(|error| wrong(format!("{field}: {error}")))?;
        let blob = blob(layer, &field)?;
        if blob.media_type == MediaType::Config {
            return Err(wrong(format!(
                "{field}: '{path}' is of type '{}', which is no file's",
                blob.media_type
            )));
        }
        if *sizes.entry(blob.digest).or_insert(blob.size) != blob.size {
            return Err(wrong(format!(
                "{field}: '{path}' has another size than a file with the same digest"
            )));
        }
        if files.insert(path, blob).is_some() {
            return Err(wrong(format!("{field}: there is another file '{title}'")));
        }
    }
    let within = |path: &PackagePath| {
        let mut above = Path::new(path.as_str()).ancestors().skip(1).filter_map(Path::to_str);
        above.any(|above| above.parse().is_ok_and(|above: PackagePath| files.contains_key(&above)))
    };
    if let Some(path) = files.keys().find(|path| within(path)) {
        return Err(wrong(format!("'{path}' is within a file")));
    }
    match files.iter().find(|(path, _)| path.as_str() == MANIFEST_FILE) {
        Some((_, blob)) if blob.media_type == MediaType::Manifest => Ok(files),
        Some((_, blob)) => Err(wrong(format!(
            "'{MANIFEST_FILE}' is of type '{}': use '{}'",
            blob.media_type,
            MediaType::Manifest
        ))),
        None => Err(PackageError::NoManifest),
    }
}

/// The paths of all files in a folder.
pub(crate) fn paths(dir: &Path) -> Result<Vec<PackagePath>, PackageError> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(PackageError::io("list", &folder))? {
            let path = entry.map_err(PackageError::io("list", &folder))?.path();
            let kind = fs::symlink_metadata(&path).map_err(PackageError::io("read", &path))?.file_type();
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(dir).unwrap_or(&path).to_string_lossy().into_owned();
            let refused = |reason: String| PackageError::Entry { entry: relative.clone(), reason };
            if !kind.is_file() {
                return Err(refused("only files and folders are allowed".to_owned()));
            }
            found.push(relative.parse().map_err(|error| refused(format!("{error}")))?);
            if found.len() > MAX_FILES {
                return Err(refused(format!("a package may have {MAX_FILES} files")));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The digest of these bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

/// The digest of what a file holds, and its size.
pub(crate) fn digest_of_file(path: &Path) -> Result<(Digest, u64), PackageError> {
    let hash = || -> io::Result<(Digest, u64)> {
        let (mut file, mut hasher, mut size) = (File::open(path)?, Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 17];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok((Digest::new(hasher.finalize().into()), size));
            }
            hasher.update(buffer.get(..length).unwrap_or_default());
            size += length as u64;
        }
    };
    hash().map_err(PackageError::io("read", path))
}

#[cfg(test)]
mod tests;
