use bytes::Bytes;

use super::*;
use crate::record::{MediaType, digest_of};

fn blob(content: &[u8]) -> Blob {
    Blob { digest: digest_of(content), size: content.len() as u64, media_type: MediaType::File }
}

fn cache() -> (TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path()).unwrap();
    (dir, cache)
}

fn write(cache: &Cache, blob: &Blob, content: &[u8]) -> Result<PathBuf, PackageError> {
    let mut writer = cache.writer("f", blob)?.unwrap();
    writer.append(content)?;
    finish(writer)
}

fn finish(writer: Writer) -> Result<PathBuf, PackageError> {
    match writer.finish()? {
        Finished::Blob(place) => Ok(place),
        Finished::Anew(_) => panic!("it was written in one go"),
    }
}

fn record(cache: &Cache, files: &[(&str, &[u8])]) -> Record {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), content).unwrap();
        cache.insert_file(&dir.path().join(path)).unwrap();
    }
    let (record, config) = Record::of_folder(dir.path()).unwrap();
    cache.insert_bytes(&config).unwrap();
    record
}

const MODEL: &str =
    "[model]\nname = 'm'\nversion = '1'\n[[graph]]\nname = 'g'\nfile = 'a/g.onnx'\nencoding = 'onnx'\n";

#[test]
fn a_blob_goes_on_where_it_stopped() {
    let (dir, cache) = cache();
    let blob = blob(b"0123456789");
    assert!(cache.blob(&blob).is_none());
    let mut writer = cache.writer("f", &blob).unwrap().unwrap();
    assert_eq!((writer.offset(), writer.size()), (0, 10));
    writer.append(b"0123").unwrap();
    // Not written to its end: what is there stays, also for another process.
    drop(writer);
    drop(cache);
    let cache = Cache::open(dir.path()).unwrap();
    let mut writer = cache.writer("f", &blob).unwrap().unwrap();
    assert_eq!(writer.offset(), 4);
    writer.append(b"456789").unwrap();
    let place = finish(writer).unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"0123456789");
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(cache.blob(&blob), Some(place));
    assert!(cache.writer("f", &blob).unwrap().is_none());
    assert!(read_dir(&dir.path().join("partial")).unwrap().is_empty());
}

#[test]
fn what_is_not_what_it_should_be_never_becomes_a_blob() {
    let (dir, cache) = cache();
    let good = blob(b"0123456789");
    for (content, expected) in [
        (&b"012345678"[..], "holds 9 bytes, and its record says 10"),
        (b"01234567890", "holds more than the 10 bytes"),
        (b"012345678X", "holds other content, with the digest sha256:"),
    ] {
        let error = write(&cache, &good, content).unwrap_err();
        assert!(matches!(error, PackageError::Blob { .. }));
        assert!(error.to_string().contains(expected), "{error}");
        fs::write(dir.path().join("partial").join(good.digest.hex()), "").unwrap();
    }
    assert!(cache.blob(&good).is_none());

    // A beginning that was not its own is not its fault: it is written anew.
    fs::write(dir.path().join("partial").join(good.digest.hex()), "XXX").unwrap();
    let mut writer = cache.writer("f", &good).unwrap().unwrap();
    writer.append(b"3456789").unwrap();
    let Finished::Anew(mut writer) = writer.finish().unwrap() else { panic!("the beginning was wrong") };
    assert_eq!(writer.offset(), 0);
    writer.append(b"0123456789").unwrap();
    finish(*writer).unwrap();

    // And one that is longer than the blob is none.
    let other = blob(b"ab");
    fs::write(dir.path().join("partial").join(other.digest.hex()), "abc").unwrap();
    assert_eq!(cache.writer("f", &other).unwrap().unwrap().offset(), 0);
}

#[test]
fn two_writers_of_one_blob_write_it_once() {
    let (_dir, cache) = cache();
    let blob = blob(&[7; 1000]);
    let written = std::thread::scope(|scope| {
        let write = || match cache.writer("f", &blob).unwrap() {
            Some(mut writer) => {
                writer.append(&[7; 1000]).unwrap();
                finish(writer).unwrap();
                1
            }
            None => 0,
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(write)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(written, 1);
}

#[test]
fn a_package_s_folder_is_made_of_links_and_mended() {
    let (_dir, cache) = cache();
    let record = record(&cache, &[("model.toml", MODEL.as_bytes()), ("a/g.onnx", b"graph"), ("b", b"graph")]);
    let view = cache.view(&record).unwrap();
    assert_eq!(fs::read(view.join("a/g.onnx")).unwrap(), b"graph");
    let graph = blob(b"graph");
    assert_eq!(links(&cache.blob(&graph).unwrap()), 3, "two files with one content, and the blob itself");
    assert_eq!(cache.view(&record).unwrap(), view);
    for damaged in [view.join("b"), view.clone()] {
        remove(&damaged).unwrap();
        assert!(cache.viewed(&record).is_none());
        assert_eq!(cache.view(&record).unwrap(), view);
        assert_eq!(fs::read(view.join("b")).unwrap(), b"graph");
    }
    fs::remove_file(cache.blob(&graph).unwrap()).unwrap();
    assert!(cache.viewed(&record).is_some(), "links stay when the blob goes");
    fs::remove_file(view.join("b")).unwrap();
    let error = cache.view(&record).unwrap_err().to_string();
    assert!(error.contains(&format!("({}) is missing", graph.digest)), "{error}");
    assert!(read_dir(&cache.staging()).unwrap().is_empty());
}

#[test]
fn what_another_package_has_stays_when_one_goes() {
    let (_dir, cache) = cache();
    let one = record(&cache, &[("model.toml", MODEL.as_bytes()), ("a/g.onnx", b"graph"), ("b", b"one")]);
    let two = record(&cache, &[("model.toml", MODEL.as_bytes()), ("a/g.onnx", b"graph"), ("b", b"two")]);
    let view = cache.view(&one).unwrap();
    cache.view(&two).unwrap();
    cache.forget(&one).unwrap();
    cache.forget_blobs(&one).unwrap();
    assert!(!view.exists());
    assert!(cache.blob(&blob(b"one")).is_none() && cache.blob(&one.config()).is_none());
    assert!(cache.blob(&blob(b"graph")).is_some());
    assert!(cache.viewed(&two).is_some());
    cache.forget(&one).unwrap();
    cache.forget_blobs(&one).unwrap();
}

#[test]
fn what_nobody_uses_goes_and_leftovers_are_cleared() {
    let (dir, cache) = cache();
    let old = |path: &Path| {
        let long_ago = SystemTime::now() - KEPT - Duration::from_secs(60);
        File::open(path).unwrap().set_modified(long_ago).unwrap();
    };
    let used = record(&cache, &[("model.toml", MODEL.as_bytes()), ("a/g.onnx", b"graph")]);
    let unused = record(&cache, &[("model.toml", MODEL.as_bytes()), ("a/g.onnx", b"unused")]);
    cache.view(&used).unwrap();
    old(&cache.view(&unused).unwrap());
    for blob in read_dir(&dir.path().join("blobs/sha256")).unwrap() {
        old(&blob);
    }
    let (fresh, _) = cache.insert_bytes(b"fresh").unwrap();
    std::mem::forget(cache.stage().unwrap());
    assert!(matches!(Cache::open(dir.path()), Err(PackageError::Locked { .. })));
    drop(cache);

    let cache = Cache::open(dir.path()).unwrap();
    cache.clear_unused().unwrap();
    assert!(read_dir(&cache.staging()).unwrap().is_empty());
    assert!(cache.viewed(&used).is_some() && cache.viewed(&unused).is_none());
    assert!(cache.blob(&blob(b"graph")).is_some() && cache.blob(&blob(b"unused")).is_none());
    assert_eq!(digest_of(&Bytes::from_static(b"fresh")), fresh);
    assert!(cache.blob(&blob(b"fresh")).is_some());
}

#[test]
fn a_blob_put_here_by_others_is_looked_into() {
    let (dir, cache) = cache();
    let blob = blob(b"graph");
    let place = dir.path().join("blobs/sha256").join(blob.digest.hex());
    let reason = || cache.verify("g.onnx", &blob).unwrap_err().to_string();
    assert!(reason().ends_with("is missing"));
    fs::write(&place, "grap").unwrap();
    assert!(reason().ends_with("holds 4 bytes, and its record says 5"));
    fs::write(&place, "grape").unwrap();
    assert!(reason().contains("holds other content"));
    fs::write(&place, "graph").unwrap();
    cache.verify("g.onnx", &blob).unwrap();
}

#[test]
fn what_comes_again_mends_what_is_damaged() {
    let (dir, cache) = cache();
    let (digest, _) = cache.insert_bytes(b"graph").unwrap();
    let place = dir.path().join("blobs/sha256").join(digest.hex());
    for damage in ["grap", "grape"] {
        remove(&place).unwrap();
        fs::write(&place, damage).unwrap();
        cache.insert_bytes(b"graph").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"graph");
    }
}
