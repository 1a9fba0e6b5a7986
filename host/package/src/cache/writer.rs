//! Writing a blob: one whose digest is known and which may be gone on with, or one of which nothing is known yet.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use vespid_types::Digest;

use super::Cache;
use crate::PackageError;
use crate::record::Blob;

/// A blob that is being written. What was written stays when this is dropped, for the next writer to go on from.
#[derive(Debug)]
pub struct Writer {
    file: File,
    partial: PathBuf,
    place: PathBuf,
    name: String,
    blob: Blob,
    hasher: Sha256,
    offset: u64,
    /// Where it went on from.
    resumed: u64,
}

/// What came of a blob that was written.
#[derive(Debug)]
pub enum Finished {
    /// It is in its place.
    Blob(PathBuf),
    /// A part of it came from an earlier attempt and may be to blame: it is to be written from its beginning.
    Anew(Box<Writer>),
}

impl Writer {
    /// None where the beginning that was waited for has become the blob, or is gone.
    pub(super) fn open(
        partial: &Path,
        place: PathBuf,
        name: &str,
        blob: &Blob,
    ) -> Result<Option<Self>, PackageError> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(partial);
        let file = file.map_err(PackageError::io("create", partial))?;
        let locked = || -> io::Result<bool> {
            // Held by the file, and so until this is dropped.
            file.lock()?;
            let inode = file.metadata()?.ino();
            Ok(fs::metadata(partial).is_ok_and(|metadata| metadata.ino() == inode))
        };
        if !locked().map_err(PackageError::io("lock", partial))? {
            return Ok(None);
        }
        let (partial, name) = (partial.to_owned(), name.to_owned());
        let (hasher, blob) = (Sha256::new(), *blob);
        let mut writer = Self { file, partial, place, name, blob, hasher, offset: 0, resumed: 0 };
        writer.go_on().map_err(PackageError::io("read", &writer.partial))?;
        Ok(Some(writer))
    }

    fn go_on(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.blob.size {
            return self.restart();
        }
        let mut buffer = vec![0; 1 << 17];
        loop {
            let length = self.file.read(&mut buffer)?;
            if length == 0 {
                self.resumed = self.offset;
                return Ok(());
            }
            self.hasher.update(buffer.get(..length).unwrap_or_default());
            self.offset += length as u64;
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.offset, self.resumed, self.hasher) = (0, 0, Sha256::new());
        Ok(())
    }

    /// How much is there: where to go on from.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes there are to be.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// Writes what comes next.
    ///
    /// # Errors
    /// [`PackageError::Blob`] where it is more than there should be, or what the file system says.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        let end = self.offset + bytes.len() as u64;
        if end > self.blob.size {
            let reason = format!("holds more than the {} bytes that its record says", self.blob.size);
            return Err(self.wrong(reason));
        }
        self.file.write_all(bytes).map_err(PackageError::io("write", &self.partial))?;
        self.hasher.update(bytes);
        self.offset = end;
        Ok(())
    }

    /// Checks what was written and puts it in its place. Where it is not what it should be, it is thrown away.
    ///
    /// # Errors
    /// [`PackageError::Blob`], or what the file system says.
    pub fn finish(mut self) -> Result<Finished, PackageError> {
        if self.offset != self.blob.size {
            return Err(self.wrong(other_size(self.offset, self.blob.size)));
        }
        let digest = Digest::new(self.hasher.clone().finalize().into());
        if digest == self.blob.digest {
            publish(&self.file, &self.partial, &self.place)?;
            return Ok(Finished::Blob(self.place));
        }
        let resumed = self.resumed > 0;
        self.restart().map_err(PackageError::io("write", &self.partial))?;
        if resumed { Ok(Finished::Anew(Box::new(self))) } else { Err(self.wrong(other_digest(digest))) }
    }

    fn wrong(&self, reason: String) -> PackageError {
        PackageError::Blob { file: self.name.clone(), digest: self.blob.digest, reason }
    }
}

pub(super) fn other_size(holds: u64, says: u64) -> String {
    format!("holds {holds} bytes, and its record says {says}")
}

pub(super) fn other_digest(digest: Digest) -> String {
    format!("holds other content, with the digest {digest}")
}

/// A blob that is being written and gets its name in the end. Dropping it throws it away.
#[derive(Debug)]
pub(crate) struct Draft {
    file: NamedTempFile,
    hasher: Sha256,
    size: u64,
}

impl Draft {
    pub(super) fn new(staging: &Path) -> Result<Self, PackageError> {
        let file = NamedTempFile::new_in(staging).map_err(PackageError::io("create a file in", staging))?;
        Ok(Self { file, hasher: Sha256::new(), size: 0 })
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), PackageError> {
        self.file.write_all(bytes).map_err(PackageError::io("write", self.file.path()))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(self, cache: &Cache) -> Result<(Digest, u64), PackageError> {
        let digest = Digest::new(self.hasher.finalize().into());
        self.file.as_file().sync_all().map_err(PackageError::io("write", self.file.path()))?;
        // Its name is taken, and with it what removes it.
        let path = self.file.into_temp_path();
        cache.adopt(&path, digest, self.size)?;
        let _ = path.keep();
        Ok((digest, self.size))
    }
}

fn publish(file: &File, from: &Path, to: &Path) -> Result<(), PackageError> {
    use std::os::unix::fs::PermissionsExt;
    let readable = fs::Permissions::from_mode(0o444);
    file.set_permissions(readable).and_then(|()| file.sync_all()).map_err(PackageError::io("write", from))?;
    fs::rename(from, to).map_err(PackageError::io("rename to", to))
}
