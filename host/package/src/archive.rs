//! Unpacking a package's tar archive.
//!
//! Contract: regular files and folders only, at plain relative paths, each once, within limits of number and size; the
//! first entry that breaks a rule refuses the whole. Modes, owners and times are not taken over. Left out on purpose:
//! compression (components and weights shrink little; HTTP can compress the way there).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use bytesize::ByteSize;
use tar::{Archive, Entry, EntryType};

use crate::{PackageError, PackagePath};

/// How large a package may be.
#[derive(Clone, Copy, Debug)]
pub struct ArchiveLimits {
    /// All files together.
    pub size: ByteSize,
    /// Files and folders.
    pub entries: usize,
}

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much an entry may take that only describes the next one, as a long name does: readers hold it in memory.
const MAX_EXTENSION: u64 = 64 << 10;

/// Unpacks the archive at `file` into the folder `into`, which exists and is empty.
///
/// # Errors
/// What is wrong with the archive, or what the file system says.
pub fn unpack(file: &Path, into: &Path, limits: ArchiveLimits) -> Result<(), PackageError> {
    let archive = File::open(file).map_err(PackageError::io("open", file))?;
    refuse_gzip(&archive).map_err(|error| damaged(&error))?;
    refuse_large_extensions(&archive)?;
    let mut left = limits.size.as_u64();
    let mut entries = 0;
    for entry in Archive::new(archive).entries().map_err(|error| damaged(&error))? {
        let mut entry = entry.map_err(|error| damaged(&error))?;
        entries += 1;
        if entries > limits.entries {
            let reason =
                format!("it is one more than the {} entries that a package may hold", limits.entries);
            return Err(PackageError::Entry { entry: name(&entry), reason });
        }
        left = left.checked_sub(entry.size()).ok_or(PackageError::TooLarge { limit: limits.size })?;
        unpack_entry(&mut entry, into)?;
    }
    if entries == 0 {
        return Err(PackageError::Archive { reason: "it is empty".to_owned() });
    }
    Ok(())
}

fn refuse_large_extensions(mut archive: &File) -> Result<(), PackageError> {
    for entry in Archive::new(archive).entries_with_seek().map_err(|error| damaged(&error))?.raw(true) {
        let entry = entry.map_err(|error| damaged(&error))?;
        let kind = entry.header().entry_type();
        let extension = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if extension && entry.size() > MAX_EXTENSION {
            let reason = format!("what describes another entry may take {}", ByteSize(MAX_EXTENSION));
            return Err(PackageError::Entry { entry: name(&entry), reason });
        }
    }
    io::Seek::rewind(&mut archive).map_err(|error| damaged(&error))
}

fn refuse_gzip(mut archive: &File) -> io::Result<()> {
    let mut start = Vec::with_capacity(GZIP.len());
    archive.take(GZIP.len() as u64).read_to_end(&mut start)?;
    if start == GZIP {
        return Err(io::Error::other("it is compressed with gzip; send the tar itself"));
    }
    io::Seek::rewind(&mut archive)
}

fn damaged(error: &io::Error) -> PackageError {
    PackageError::Archive { reason: error.to_string() }
}

/// An entry's name, for messages.
fn name<R: Read>(entry: &Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).chars().take(255).collect()
}

fn unpack_entry<R: Read>(entry: &mut Entry<'_, R>, into: &Path) -> Result<(), PackageError> {
    let name = name(entry);
    let refused = |reason: String| PackageError::Entry { entry: name.clone(), reason };
    let kind = entry.header().entry_type();
    // Whole and as it is: a name that is cut, or of which a part is replaced, would be another file's.
    let whole = String::from_utf8(entry.path_bytes().into_owned());
    let whole = whole.map_err(|_| refused("its name is not UTF-8 text".to_owned()))?;
    // `tar c .` begins with './' and puts it before each name.
    let relative = whole.strip_prefix("./").unwrap_or(&whole);
    if kind == EntryType::Directory && relative.is_empty() {
        return Ok(());
    }
    let path: PackagePath =
        relative.trim_end_matches('/').parse().map_err(|error| refused(format!("{error}")))?;
    match kind {
        EntryType::Directory => create_folder(&into.join(&path), refused),
        EntryType::Regular | EntryType::Continuous => {
            let mut file = create_file(into, &path, refused)?;
            let copied = io::copy(entry, &mut file).map_err(|error| damaged(&error))?;
            if copied != entry.size() {
                return Err(PackageError::Archive { reason: format!("it ends in the middle of '{name}'") });
            }
            file.sync_all().map_err(PackageError::io("write", into.join(&path)))
        }
        EntryType::Link | EntryType::Symlink => Err(refused("links are not allowed".to_owned())),
        _ => Err(refused("only files and folders are allowed".to_owned())),
    }
}

/// Makes a file that is not there yet, and the folders that it is in. `refused` makes the error where another file is in
/// the way: the folder `into` is ours alone, so that it can only be the package's own.
pub(crate) fn create_file(
    into: &Path,
    path: &PackagePath,
    refused: impl Fn(String) -> PackageError,
) -> Result<File, PackageError> {
    let target = into.join(path);
    if let Some(parent) = target.parent() {
        create_folder(parent, &refused)?;
    }
    File::create_new(&target).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => refused("it is there twice".to_owned()),
        _ => PackageError::io("create", target)(error),
    })
}

fn create_folder(folder: &Path, refused: impl Fn(String) -> PackageError) -> Result<(), PackageError> {
    fs::create_dir_all(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            refused("a file of the package is where its folder would be".to_owned())
        }
        _ => PackageError::io("create", folder)(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ArchiveLimits = ArchiveLimits { size: ByteSize::kib(4), entries: 4 };

    fn header(kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header
    }

    /// The name goes in raw, for the builder refuses what is tested here.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, data) in entries {
            let mut header = header(*kind, data.len() as u64);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            if matches!(kind, EntryType::Link | EntryType::Symlink) {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn try_unpack(bytes: &[u8]) -> Result<tempfile::TempDir, String> {
        let dir = tempfile::tempdir().unwrap();
        let (tar, into) = (dir.path().join("a.tar"), dir.path().join("into"));
        fs::write(&tar, bytes).unwrap();
        fs::create_dir(&into).unwrap();
        unpack(&tar, &into, LIMITS).map_err(|error| error.to_string())?;
        Ok(dir)
    }

    #[test]
    fn files_and_folders_are_unpacked() {
        let dir = try_unpack(&archive(&[
            ("./", EntryType::Directory, b""),
            ("./model.toml", EntryType::Regular, b"x"),
            ("graphs/a.onnx", EntryType::Regular, b"yz"),
        ]))
        .unwrap();
        assert_eq!(fs::read(dir.path().join("into/graphs/a.onnx")).unwrap(), b"yz");
    }

    #[test]
    fn a_name_is_taken_whole_or_not_at_all() {
        let long = "x".repeat(300);
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 1), &long, &b"a"[..]).unwrap();
        let error = try_unpack(&builder.into_inner().unwrap()).unwrap_err();
        assert!(error.contains("plain relative path"), "{error}");

        let mut builder = tar::Builder::new(Vec::new());
        let mut odd = header(EntryType::Regular, 1);
        odd.as_mut_bytes()[..2].copy_from_slice(b"a\xff");
        odd.set_cksum();
        builder.append(&odd, &b"a"[..]).unwrap();
        let error = try_unpack(&builder.into_inner().unwrap()).unwrap_err();
        assert!(error.contains("not UTF-8"), "{error}");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let file = EntryType::Regular;
        let large = vec![0; 5000];
        let good = archive(&[("model.toml", file, &[7; 2000])]);
        for (bytes, expected) in [
            (archive(&[("../evil", file, b"x")]), "plain relative path"),
            (archive(&[("a/../../evil", file, b"x")]), "plain relative path"),
            (archive(&[("/evil", file, b"x")]), "plain relative path"),
            (archive(&[("link", EntryType::Symlink, b"")]), "links are not allowed"),
            (archive(&[("link", EntryType::Link, b"")]), "links are not allowed"),
            (archive(&[("fifo", EntryType::Fifo, b"")]), "only files and folders"),
            (archive(&[("a", file, b"x"), ("a", file, b"y")]), "twice"),
            (archive(&[("a", file, b"x"), ("a/b", file, b"y")]), "'a/b' is refused: a file of the package"),
            (
                archive(&[("a", file, b"x"), ("a/b/c", file, b"y")]),
                "'a/b/c' is refused: a file of the package",
            ),
            (archive(&[("a", file, b"x"), ("a/", EntryType::Directory, b"")]), "'a/' is refused: a file"),
            (archive(&[("long", EntryType::GNULongName, &vec![b'x'; 100 << 10])]), "may take 64.0 KiB"),
            (archive(&[("pax", EntryType::XHeader, &vec![b'x'; 100 << 10])]), "may take 64.0 KiB"),
            (archive(&[("a", file, &large)]), "larger than the limit of 4.0 KiB"),
            (
                archive(&[
                    ("a", file, b""),
                    ("b", file, b""),
                    ("c", file, b""),
                    ("d", file, b""),
                    ("e", file, b""),
                ]),
                "4 entries",
            ),
            (good[..1000].to_vec(), "ends in the middle"),
            (vec![0x1f, 0x8b, 8, 0], "gzip"),
            (b"not a tar, but long enough to be taken for a header".repeat(20), "not a readable tar"),
            (Vec::new(), "empty"),
        ] {
            let error = try_unpack(&bytes).unwrap_err();
            assert!(error.contains(expected), "expected '{expected}': {error}");
        }
    }
}
