//! Packages as they are uploaded or pulled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use bytesize::ByteSize;
use tempfile::TempDir;
use vespid_package::{
    ArchiveLimits, MAX_FILES, Manifest, PackageError, Record, Verified, digest_of, fuzzing,
};

use crate::check::is_clients;

const LIMITS: ArchiveLimits = ArchiveLimits { size: ByteSize::kib(256), entries: 32 };

/// A folder in memory, where there is one: each file of a package is synced.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

/// The body of an upload: `PUT /v2/repository/models/MODEL/versions/VERSION`.
pub fn archive(data: &[u8]) {
    let staged = fuzzing::staged(folder());
    fs::write(staged.archive(), data).expect("a file");
    let verified = staged.verify(LIMITS).and_then(|verified| {
        is_what_was_sent(&verified, data);
        verified.recorded()
    });
    match verified {
        Ok((verified, digest)) => {
            let total: u64 = verified.files().values().map(|(_, size)| size).sum();
            assert!(total <= LIMITS.size.as_u64() && verified.files().len() <= LIMITS.entries);
            let (record, _) = Record::of_folder(&verified.dir()).expect("a record");
            assert_eq!(record.digest(), digest);
        }
        Err(error) => refused(&error),
    }
}

/// The files are those of the archive, by their whole names, and no others.
fn is_what_was_sent(verified: &Verified, data: &[u8]) {
    let mut sent = BTreeSet::new();
    for entry in tar::Archive::new(data).entries().expect("entries") {
        let entry = entry.expect("an entry");
        let path = String::from_utf8(entry.path_bytes().into_owned()).expect("a name that is text");
        if !entry.header().entry_type().is_dir() {
            let path = path.strip_prefix("./").unwrap_or(&path);
            sent.insert(path.trim_end_matches('/').to_owned());
        }
    }
    let files: BTreeSet<String> = verified.files().keys().map(ToString::to_string).collect();
    assert_eq!(files, sent);
    assert!(files.iter().all(|file| verified.dir().join(file).symlink_metadata().expect("a file").is_file()));
}

fn refused(error: &PackageError) {
    is_clients(error.code());
    assert!(!error.to_string().is_empty());
}

/// `model.toml`.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::parse(text) {
        Ok(manifest) => {
            let inside =
                |path: &Path| path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            assert!(manifest.files().all(|(_, path)| inside(path.as_ref())));
            assert!(manifest.limits.memory <= ByteSize::gib(4) && !manifest.limits.timeout.is_zero());
            assert!(manifest.plugin.is_some() || manifest.graphs.len() == 1);
            assert_eq!(manifest.inputs.is_empty(), manifest.outputs.is_empty());
        }
        Err(error) => refused(&error),
    }
}

/// A record, as a registry has it.
pub fn record(data: &[u8]) {
    match Record::parse(Bytes::copy_from_slice(data)) {
        Ok(record) => {
            assert_eq!(record.digest(), digest_of(data));
            assert!(record.files().len() <= MAX_FILES);
            let sizes = record.files().values().try_fold(0_u64, |sum, blob| sum.checked_add(blob.size));
            assert!(sizes.is_some_and(|sum| sum <= record.size()));
            let unique: BTreeSet<PathBuf> = record.files().keys().map(|path| path.as_str().into()).collect();
            assert_eq!(unique.len(), record.files().len());
        }
        Err(error) => refused(&error),
    }
}
