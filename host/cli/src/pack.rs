//! A model's package as one tar file.
//!
//! Contract: the same contents give the same bytes, whenever and wherever they are packed: `model.toml` first, then the
//! other files by name, mode 0644, owner and time 0, not compressed. The file appears whole or not at all. Cost: one
//! pass over the files, which are not held in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::failure::{Failure, Hint};
use crate::manifest::{self, Manifest};

/// What a package is made of.
pub(crate) struct Contents {
    /// The manifest's text.
    pub(crate) manifest: String,
    /// The other files: where each lies, by its name in the package.
    pub(crate) files: BTreeMap<String, PathBuf>,
}

/// A package that was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) size: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
}

/// Writes the package to `path`, in place of what may be there.
pub(crate) fn write(contents: &Contents, path: &Path) -> Result<Packed, Failure> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let unwritable = || format!("{} cannot be written", path.display());
    let hint = "check that the folder exists, can be written to and has space left";
    let mut file = temporary(folder).hint(unwritable(), hint)?;
    let packed = stream(contents, file.as_file_mut())?;
    file.persist(path).hint(unwritable(), hint)?;
    Ok(packed)
}

/// A file that becomes the package once it is whole. A package is no secret: it gets the usual rights of a new file.
fn temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".vespid-").suffix(".tar");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn stream(contents: &Contents, file: &mut File) -> Result<Packed, Failure> {
    let failed = |name: &str| {
        (format!("{name} cannot be packed"), "check that it can be read, and that there is space")
    };
    let mut tar = Builder::new(Digesting { inner: BufWriter::new(file), digest: Sha256::new(), size: 0 });
    let text = contents.manifest.as_bytes();
    let (message, hint) = failed(manifest::FILE);
    append(&mut tar, manifest::FILE, text.len() as u64, text).hint(message, hint)?;
    for (name, path) in &contents.files {
        let (message, hint) = failed(&path.display().to_string());
        open(path).and_then(|(length, file)| append(&mut tar, name, length, file)).hint(message, hint)?;
    }
    let (message, hint) = failed("the package");
    tar.into_inner().and_then(Digesting::finish).hint(message, hint)
}

fn open(path: &Path) -> io::Result<(u64, File)> {
    let file = File::open(path)?;
    Ok((file.metadata()?.len(), file))
}

fn append(tar: &mut Builder<impl Write>, name: &str, length: u64, data: impl Read) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(length);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    // The header says `length`: a file that grows meanwhile must not run into the next entry.
    tar.append_data(&mut header, name, data.take(length))
}

/// Digests and counts what is written through it.
struct Digesting<W> {
    inner: W,
    digest: Sha256,
    size: u64,
}

impl<W: Write> Digesting<W> {
    fn finish(mut self) -> io::Result<Packed> {
        self.inner.flush()?;
        Ok(Packed { size: self.size, sha256: hex::encode(self.digest.finalize()) })
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.digest.update(data.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads the manifest of a package.
pub(crate) fn read_manifest(path: &Path) -> Result<Manifest, Failure> {
    let hint = "name a model's folder, or a package that `vespid build` wrote";
    let file = File::open(path).hint(format!("{} cannot be read", path.display()), hint)?;
    match manifest_text(file) {
        Ok(Some(text)) => Manifest::parse(&text),
        Ok(None) => Err(Failure::new(format!("{} holds no {}", path.display(), manifest::FILE)).hint(hint)),
        // What the archive's reader has to say of another file quotes that file.
        Err(_) => Err(Failure::new(format!("{} is not a tar archive", path.display())).hint(hint)),
    }
}

fn manifest_text(file: File) -> io::Result<Option<String>> {
    for entry in tar::Archive::new(file).entries()? {
        let mut entry = entry?;
        let name = entry.path()?;
        if name.strip_prefix(".").unwrap_or(&name) == Path::new(manifest::FILE) {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            return Ok(Some(text));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MANIFEST: &str = "[model]\nname = 'm'\nversion = '7'\nplugin = 'm.wasm'\n";

    fn contents(folder: &Path) -> Contents {
        let mut files = BTreeMap::new();
        let long = format!("graphs/{}.onnx", "g".repeat(120));
        for (name, source) in [("m.wasm", "code"), ("b.onnx", "graph b"), (&long, "long name")] {
            let path = folder.join(source);
            fs::write(&path, source).unwrap();
            files.insert(name.to_owned(), path);
        }
        Contents { manifest: MANIFEST.to_owned(), files }
    }

    #[test]
    fn equal_contents_give_equal_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = write(&contents(one.path()), &one.path().join("p.tar")).unwrap();
        let elsewhere = contents(two.path());
        let later = fs::File::options().write(true).open(two.path().join("code")).unwrap();
        later.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let second = write(&elsewhere, &two.path().join("q.tar")).unwrap();
        assert_eq!(first, second);
        let bytes = fs::read(one.path().join("p.tar")).unwrap();
        assert_eq!(bytes, fs::read(two.path().join("q.tar")).unwrap());
        assert_eq!(bytes.len() as u64, first.size);
        assert_eq!(hex::encode(Sha256::digest(&bytes)), first.sha256);
    }

    #[test]
    fn the_manifest_comes_first_and_the_rest_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.tar");
        write(&contents(folder.path()), &path).unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let entries: Vec<(String, u32, u64, u64)> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let name = entry.path().unwrap().display().to_string();
                (name, header.mode().unwrap(), header.mtime().unwrap(), header.uid().unwrap())
            })
            .collect();
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(names[0], "model.toml");
        assert_eq!(names[1], "b.onnx");
        assert!(names[2].starts_with("graphs/ggg") && names[2].len() == 132, "{}", names[2]);
        assert_eq!(names[3], "m.wasm");
        assert!(entries.iter().all(|entry| (entry.1, entry.2, entry.3) == (0o644, 0, 0)));
        assert_eq!(read_manifest(&path).unwrap().version.to_string(), "7");
    }

    #[test]
    fn other_files_are_no_packages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.tar");
        fs::write(&path, "not a tar").unwrap();
        assert!(read_manifest(&path).is_err());
    }
}
