//! A package that is in a cache, wherever it came from: a registry, a folder, an archive.

use std::path::Path;

use bytes::Bytes;

use crate::{Cache, PackageError, Record};

/// A record all of whose blobs are in a cache, and what its config holds.
#[derive(Clone, Debug)]
pub struct Package {
    /// What the package is made of.
    pub record: Record,
    /// The blob that is no file of the package.
    pub config: Bytes,
}

impl Package {
    /// Takes copies of a folder's files into the cache.
    ///
    /// # Errors
    /// What is wrong with the manifest or the files, or what the file system says.
    pub fn of_folder(dir: &Path, cache: &Cache) -> Result<Self, PackageError> {
        let (record, config) = Record::of_folder(dir)?;
        cache.insert_bytes(&config)?;
        for (path, blob) in record.files() {
            let (digest, _) = cache.insert_file(&dir.join(path))?;
            if digest != blob.digest {
                let reason = "has changed meanwhile".to_owned();
                return Err(PackageError::Blob { file: path.to_string(), digest: blob.digest, reason });
            }
        }
        Ok(Self { record, config })
    }
}
