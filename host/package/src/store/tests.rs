use std::path::PathBuf;

use object_store::memory::InMemory;
use tempfile::TempDir;

use super::*;
use crate::{ArchiveLimits, Verified};

const LIMITS: ArchiveLimits = ArchiveLimits { size: bytesize::ByteSize::mib(64), entries: 16 };

/// A store, in a bucket in memory or in a folder, and the folders that it needs.
struct Place {
    objects: Arc<dyn ObjectStore>,
    folder: Option<TempDir>,
    caches: Vec<TempDir>,
}

impl Place {
    fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), folder: None, caches: Vec::new() }
    }

    fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        Self { objects, folder: Some(folder), caches: Vec::new() }
    }

    /// With a cache of its own.
    fn open(&mut self) -> Store {
        self.caches.push(tempfile::tempdir().unwrap());
        self.open_again()
    }

    /// With the latest cache.
    fn open_again(&self) -> Store {
        let cache = Cache::open(self.caches.last().unwrap().path()).unwrap();
        let folder = self.folder.as_ref().map(|folder| folder.path().to_owned());
        Store::over(Arc::clone(&self.objects), folder, cache).unwrap()
    }

    /// What is in the store, but for what lies there for a while.
    async fn names(&self) -> Vec<String> {
        let objects: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        names
    }

    async fn put(&self, path: &str, content: &str) {
        self.objects.put(&Path::from(path), content.to_owned().into()).await.unwrap();
    }
}

/// A folder as its own cache, which is how a server has it where nothing is said.
async fn in_place(folder: &std::path::Path) -> Result<Store, PackageError> {
    let location = StoreLocation::Folder(folder.to_owned());
    Store::open(StoreOptions { location, cache: None }).await
}

fn manifest(name: &str, version: &str) -> String {
    format!(
        "[model]\nname = '{name}'\nversion = '{version}'\n[[graph]]\nname = 'g'\nfile = 'g.onnx'\nencoding = 'onnx'\n"
    )
}

fn package(store: &Store, (name, version): (&str, &str), graph: &[u8]) -> Verified {
    let staged = store.stage().unwrap();
    let manifest = manifest(name, version);
    let mut builder = tar::Builder::new(fs::File::create(staged.archive()).unwrap());
    for (name, data) in [("model.toml", manifest.as_bytes()), ("g.onnx", graph)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, data).unwrap();
    }
    builder.finish().unwrap();
    staged.verify(LIMITS).unwrap()
}

async fn commit(store: &Store, of: (&str, &str), graph: &[u8]) -> Result<Stored, PackageError> {
    store.commit(package(store, of, graph)).await
}

async fn fetch(store: &Store, (name, version): (&str, &str)) -> Result<Stored, PackageError> {
    store.fetch(&name.parse().unwrap(), version.parse().unwrap()).await
}

async fn remove(store: &Store, (name, version): (&str, &str)) -> Result<(), PackageError> {
    store.remove(&name.parse().unwrap(), version.parse().unwrap()).await
}

async fn reason(store: &Store, of: (&str, &str)) -> String {
    fetch(store, of).await.unwrap_err().to_string()
}

async fn listed(store: &Store) -> Vec<String> {
    let listed = store.list().await.unwrap();
    listed.into_iter().map(|Listed { name, version, .. }| format!("{name} {version}")).collect()
}

fn graph(stored: &Stored) -> Vec<u8> {
    fs::read(stored.dir.join("g.onnx")).unwrap()
}

fn blob_of(content: &[u8]) -> String {
    blob_path(crate::record::digest_of(content)).to_string()
}

#[tokio::test]
async fn packages_go_in_and_come_out_elsewhere() {
    for mut place in [Place::memory(), Place::folder()] {
        let store = place.open();
        let two = commit(&store, ("m", "2"), b"graph").await.unwrap();
        assert_eq!((graph(&two), two.size), (b"graph".to_vec(), 5 + manifest("m", "2").len() as u64));
        let exists = commit(&store, ("m", "2"), b"other").await.unwrap_err();
        assert!(matches!(exists, PackageError::Exists { .. }));
        commit(&store, ("m", "10"), b"graph").await.unwrap();
        commit(&store, ("a", "1"), b"graph").await.unwrap();
        assert_eq!(listed(&store).await, ["a 1", "m 2", "m 10"]);

        let elsewhere = place.open();
        let fetched = fetch(&elsewhere, ("m", "2")).await.unwrap();
        assert_ne!(fetched.dir, two.dir);
        assert_eq!((graph(&fetched), fetched.digest), (b"graph".to_vec(), two.digest));
        assert_eq!(fetched.manifest.name.as_str(), "m");
        assert_eq!(elsewhere.versions(&"m".parse().unwrap()).await.unwrap().len(), 2);
        assert!(elsewhere.versions(&"x".parse().unwrap()).await.unwrap().is_empty());
        assert!(elsewhere.contains(&"m".parse().unwrap(), "10".parse().unwrap()).await.unwrap());
        let absent = fetch(&elsewhere, ("m", "3")).await.unwrap_err();
        assert!(matches!(absent, PackageError::NotFound { .. }));
    }
}

#[tokio::test]
async fn what_versions_share_is_stored_once_and_goes_with_the_last() {
    for mut place in [Place::memory(), Place::folder()] {
        let store = place.open();
        commit(&store, ("m", "1"), b"graph").await.unwrap();
        commit(&store, ("m", "2"), b"graph").await.unwrap();
        commit(&store, ("m", "3"), b"other").await.unwrap();
        let names = place.names().await;
        // Of each a record, a manifest and a config; of two of them one graph.
        assert_eq!(names.len(), 3 * 3 + 2, "{names:?}");
        let shared = blob_of(b"graph");
        for (version, left) in [("3", 2 * 3 + 1), ("1", 3 + 1)] {
            remove(&store, ("m", version)).await.unwrap();
            let names = place.names().await;
            assert!(names.len() == left && names.contains(&shared), "{names:?}");
        }
        assert_eq!(graph(&fetch(&place.open(), ("m", "2")).await.unwrap()), b"graph");
        remove(&store, ("m", "2")).await.unwrap();
        assert_eq!(place.names().await, Vec::<String>::new());
        assert!(matches!(remove(&store, ("m", "2")).await, Err(PackageError::NotFound { .. })));
        // What is gone from the store is gone from the cache.
        let cached = store.cache().root();
        for left in ["blobs/sha256", "packages", "staging", "partial"] {
            assert_eq!(fs::read_dir(cached.join(left)).unwrap().count(), 0, "{left}");
        }
        commit(&store, ("m", "2"), b"graph").await.unwrap();
    }
}

#[tokio::test]
async fn a_stamp_changes_with_the_version() {
    let mut place = Place::memory();
    let store = place.open();
    let stamps =
        async || store.list().await.unwrap().into_iter().map(|listed| listed.stamp).collect::<Vec<_>>();
    commit(&store, ("m", "1"), b"graph").await.unwrap();
    let first = stamps().await;
    assert_eq!(stamps().await, first);
    remove(&store, ("m", "1")).await.unwrap();
    commit(&store, ("m", "1"), b"other").await.unwrap();
    assert_ne!(stamps().await, first);
    place.put("models/p/1/model.toml", "x").await;
    let with_folder = stamps().await;
    place.put("models/p/1/g.onnx", "y").await;
    let whole = stamps().await;
    assert!(with_folder[1] != whole[1] && with_folder[0] == whole[0]);
}

#[tokio::test]
async fn damaged_versions_say_what_is_wrong_and_the_others_are_there() {
    let mut place = Place::memory();
    let store = place.open();
    for version in ["1", "2", "3", "4", "5", "6"] {
        commit(&store, ("m", version), format!("graph {version}").as_bytes()).await.unwrap();
    }
    place.put("models/m/1.json", "<html>").await;
    place.put(&blob_of(b"graph 2"), "graph !").await;
    place.put(&blob_of(b"graph 3"), "graph").await;
    place.objects.delete(&Path::from(blob_of(b"graph 4"))).await.unwrap();
    let record = place.objects.get(&Path::from("models/m/5.json")).await.unwrap().bytes().await.unwrap();
    place.put("models/n/9.json", std::str::from_utf8(&record).unwrap()).await;

    let store = place.open();
    assert_eq!(listed(&store).await, ["m 1", "m 2", "m 3", "m 4", "m 5", "m 6", "n 9"]);
    for (of, expected) in [
        (("m", "1"), "the record is not a package's: it is not an OCI image manifest"),
        (("m", "2"), "'g.onnx' (sha256:"),
        (("m", "2"), "holds other content, with the digest sha256:"),
        (("m", "3"), "has 5 bytes in the store, and its record says 7"),
        (("m", "4"), "is missing in the store"),
        (("n", "9"), "the place of 'models/n/9', and its model.toml is of 'm' version 5"),
    ] {
        let reason = reason(&store, of).await;
        assert!(reason.contains(expected), "{of:?}: {reason}");
    }
    assert_eq!(graph(&fetch(&store, ("m", "6")).await.unwrap()), b"graph 6");
    // Mended, it is whole again.
    place.put(&blob_of(b"graph 2"), "graph 2").await;
    assert_eq!(graph(&fetch(&store, ("m", "2")).await.unwrap()), b"graph 2");
    // While a record cannot be read, nothing is removed that might be its; a damaged one can be removed.
    remove(&store, ("m", "6")).await.unwrap();
    assert!(place.names().await.contains(&blob_of(b"graph 6")));
    remove(&store, ("m", "1")).await.unwrap();
    let names = place.names().await;
    assert!(!names.contains(&blob_of(b"graph 6")) && !names.contains(&blob_of(b"graph 1")), "{names:?}");
    assert!(names.contains(&blob_of(b"graph 5")));
}

#[tokio::test]
async fn a_blob_in_a_folder_of_its_own_is_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let store = in_place(folder.path()).await.unwrap();
    commit(&store, ("m", "1"), b"graph").await.unwrap();
    drop(store);
    // As it is where the folder was copied from elsewhere, and not all of it came over.
    fs::remove_dir_all(folder.path().join("packages")).unwrap();
    let blob = folder.path().join(blob_of(b"graph"));
    fs::remove_file(&blob).unwrap();
    for (content, expected) in [
        (None, "is missing"),
        (Some("grap"), "holds 4 bytes, and its record says 5"),
        (Some("grape"), "holds other content"),
    ] {
        if let Some(content) = content {
            fs::write(&blob, content).unwrap();
        }
        let store = in_place(folder.path()).await.unwrap();
        let reason = reason(&store, ("m", "1")).await;
        assert!(reason.contains(expected), "{reason}");
    }
    fs::write(&blob, "graph").unwrap();
    assert_eq!(graph(&fetch(&in_place(folder.path()).await.unwrap(), ("m", "1")).await.unwrap()), b"graph");
}

#[tokio::test]
async fn a_folder_is_its_own_cache_and_one_process_s() {
    let folder = tempfile::tempdir().unwrap();
    let store = in_place(folder.path()).await.unwrap();
    commit(&store, ("m", "1"), b"graph").await.unwrap();
    let names: Vec<PathBuf> = fs::read_dir(folder.path().join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 3, "the store's blobs and no others");
    std::mem::forget(package(&store, ("m", "2"), b"graph"));
    assert!(matches!(in_place(folder.path()).await, Err(PackageError::Locked { .. })));
    // Another process with another cache may use it meanwhile.
    let cache = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        location: format!("file://{}", folder.path().display()).parse().unwrap(),
        cache: Some(cache.path().to_owned()),
    };
    let elsewhere = Store::open(options).await.unwrap();
    assert_eq!(graph(&fetch(&elsewhere, ("m", "1")).await.unwrap()), b"graph");
    commit(&elsewhere, ("n", "1"), b"graph").await.unwrap();
    assert_eq!(listed(&store).await, ["m 1", "n 1"]);
    fetch(&store, ("n", "1")).await.unwrap();
    remove(&elsewhere, ("m", "1")).await.unwrap();
    assert!(!folder.path().join("models/m").exists(), "no empty folder is left");
    drop(store);

    let store = in_place(folder.path()).await.unwrap();
    assert_eq!(fs::read_dir(folder.path().join("staging")).unwrap().count(), 0);
    assert_eq!(graph(&fetch(&store, ("n", "1")).await.unwrap()), b"graph");
    let nowhere = StoreOptions { location: "s3://bucket".parse().unwrap(), cache: None };
    assert!(Store::open(nowhere).await.is_err(), "a bucket has no folder for a cache");
}

#[tokio::test]
async fn a_folder_put_there_by_hand_is_a_version() {
    for mut place in [Place::memory(), Place::folder()] {
        let store = place.open();
        place.put("models/m/1/model.toml", &manifest("m", "1")).await;
        assert_eq!(listed(&store).await, ["m 1"]);
        // Not all of it has come yet.
        assert!(reason(&store, ("m", "1")).await.contains("'g.onnx', which the package does not hold"));
        place.put("models/m/1/g.onnx", "graph").await;
        let one = fetch(&store, ("m", "1")).await.unwrap();
        assert_eq!(graph(&one), b"graph");
        // Its digest is what it would be as a package.
        let mut elsewhere = Place::memory();
        let elsewhere = elsewhere.open();
        assert_eq!(commit(&elsewhere, ("m", "1"), b"graph").await.unwrap().digest, one.digest);

        // What it was stays as it was where it is used, and what it has become is another package.
        place.put("models/m/1/g.onnx", "other").await;
        let other = fetch(&store, ("m", "1")).await.unwrap();
        assert_eq!((graph(&one), graph(&other)), (b"graph".to_vec(), b"other".to_vec()));

        let exists = commit(&store, ("m", "1"), b"graph").await.unwrap_err();
        assert!(matches!(exists, PackageError::Exists { .. }));
        for (path, content, expected) in [
            ("models/x/1/g.onnx", "graph".to_owned(), "holds no model.toml"),
            ("models/y/1/model.toml", manifest("m", "1"), "names 'g.onnx', which the package does not hold"),
            ("models/z/1/model.toml", "[model".to_owned(), "model.toml: "),
        ] {
            place.put(path, &content).await;
            let name = path.split('/').nth(1).unwrap();
            let reason = reason(&store, (name, "1")).await;
            assert!(reason.contains(expected), "{reason}");
        }
        place.put("models/y/1/g.onnx", "graph").await;
        assert!(reason(&store, ("y", "1")).await.contains("in the place of 'models/y/1'"));
        for name in ["m", "x", "y", "z"] {
            remove(&store, (name, "1")).await.unwrap();
        }
        assert_eq!(place.names().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_folder_is_read_once_while_it_stays_as_it_is() {
    let mut place = Place::memory();
    let store = place.open();
    place.put("models/m/1/model.toml", &manifest("m", "1")).await;
    place.put("models/m/1/g.onnx", "graph").await;
    let one = fetch(&store, ("m", "1")).await.unwrap();
    drop(store);
    let store = place.open_again();
    let made = |stored: &Stored| fs::metadata(stored.dir.join("g.onnx")).unwrap().created().unwrap();
    let before = made(&one);
    let again = fetch(&store, ("m", "1")).await.unwrap();
    assert_eq!((again.dir.clone(), made(&again)), (one.dir.clone(), before));
    // What is damaged in the cache is read again.
    fs::remove_file(one.dir.join("g.onnx")).unwrap();
    assert_eq!(graph(&fetch(&store, ("m", "1")).await.unwrap()), b"graph");
}

#[tokio::test]
async fn a_record_counts_before_a_folder() {
    let mut place = Place::memory();
    let store = place.open();
    commit(&store, ("m", "1"), b"graph").await.unwrap();
    place.put("models/m/1/model.toml", "half-written").await;
    assert_eq!(listed(&store).await, ["m 1"]);
    assert_eq!(graph(&fetch(&store, ("m", "1")).await.unwrap()), b"graph");
    // Removed, it does not come back as the folder.
    remove(&store, ("m", "1")).await.unwrap();
    assert_eq!(place.names().await, Vec::<String>::new());
}

#[tokio::test]
async fn names_of_others_are_passed_over() {
    for place in [&mut Place::memory(), &mut Place::folder()] {
        let store = place.open();
        for path in [
            "README",
            "models/README",
            "models/m/2",
            "models/m/v1/model.toml",
            "models/m/x.json",
            "models/no model's name/1/model.toml",
        ] {
            place.put(path, "hands off").await;
        }
        assert!(listed(&store).await.is_empty());
        store.sweep().await.unwrap();
        assert_eq!(place.names().await.len(), 6);
    }
}

#[tokio::test]
async fn what_an_upload_left_is_swept_and_what_another_writes_is_not() {
    let mut place = Place::memory();
    let (store, other) = (place.open(), place.open());
    commit(&store, ("m", "1"), b"graph").await.unwrap();
    let names = place.names().await;
    place.put(&blob_of(b"orphan"), "orphan").await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.toml"), manifest("m", "2")).unwrap();
    fs::write(dir.path().join("g.onnx"), "written").unwrap();
    let (record, _) = crate::Record::of_folder(dir.path()).unwrap();
    let notice = other.begin_writing(&record).await.unwrap();
    place.put(&blob_of(b"written"), "written").await;

    store.sweep().await.unwrap();
    let left = place.names().await;
    assert!(left.contains(&blob_of(b"written")) && !left.contains(&blob_of(b"orphan")), "{left:?}");
    other.withdraw(notice).await;
    store.sweep().await.unwrap();
    assert_eq!(place.names().await, names);
}

#[tokio::test]
async fn who_writes_waits_for_who_removes() {
    let mut place = Place::memory();
    let (store, other) = (place.open(), place.open());
    commit(&store, ("m", "1"), b"graph").await.unwrap();
    let removal = other.begin_removing().await.unwrap();
    let package = package(&store, ("m", "2"), b"graph");
    let written = tokio::spawn(async move { store.commit(package).await });
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!written.is_finished());
    other.end_removing(removal).await;
    written.await.unwrap().unwrap();
}

/// Many who write and remove what they share, in two processes: what is there in the end is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_between_those_who_write_and_those_who_remove() {
    let mut place = Place::memory();
    let stores = [Arc::new(place.open()), Arc::new(place.open())];
    for round in 1..=20 {
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let store = Arc::clone(&stores[task % 2]);
                let version = (round * 4 + task).to_string();
                tokio::spawn(async move {
                    commit(&store, ("m", &version), b"shared").await.unwrap();
                    if task > 1 {
                        remove(&store, ("m", &version)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let elsewhere = place.open();
        for listed in elsewhere.list().await.unwrap() {
            assert_eq!(graph(&elsewhere.fetch(&listed.name, listed.version).await.unwrap()), b"shared");
        }
        for listed in elsewhere.list().await.unwrap() {
            elsewhere.remove(&listed.name, listed.version).await.unwrap();
        }
        assert_eq!(place.names().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_download_goes_on_where_it_stopped() {
    let mut place = Place::memory();
    let content: Vec<u8> = (0..3_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    commit(&place.open(), ("m", "1"), &content).await.unwrap();
    let store = place.open();
    let partial = store.cache().root().join("partial");
    let hex = crate::record::digest_of(&content).hex();
    fs::write(partial.join(&hex), &content[..2_000_000]).unwrap();
    // Its beginning is not asked for again: here it would be another one.
    let mut other = content.clone();
    other[0] ^= 1;
    place.objects.put(&Path::from(format!("{BLOBS}/{hex}")), other.into()).await.unwrap();
    assert_eq!(graph(&fetch(&store, ("m", "1")).await.unwrap()), content);
    assert_eq!(fs::read_dir(partial).unwrap().count(), 0);
}

#[tokio::test]
async fn large_blobs_are_sent_in_parts() {
    let mut place = Place::memory();
    let content: Vec<u8> = (0..40_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    commit(&place.open(), ("m", "1"), &content).await.unwrap();
    assert!(graph(&fetch(&place.open(), ("m", "1")).await.unwrap()) == content);
}

#[tokio::test]
async fn a_model_has_a_document() {
    for mut place in [Place::memory(), Place::folder()] {
        let store = place.open();
        let name: ModelName = "m".parse().unwrap();
        assert_eq!(store.document(&name).await.unwrap(), None);
        for text in ["{}", "{\"a\":1}"] {
            store.put_document(&name, text.into()).await.unwrap();
            assert_eq!(store.document(&name).await.unwrap().unwrap(), text);
        }
        assert!(store.list().await.unwrap().is_empty());
        store.delete_document(&name).await.unwrap();
        store.delete_document(&name).await.unwrap();
        assert_eq!(place.names().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn loose_files_are_a_package_of_the_name_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let store = in_place(root.path()).await.unwrap();
    let (name, version) = ("m".parse().unwrap(), "7".parse().unwrap());
    let verify = |files: &[(&str, &str)]| {
        let files = files
            .iter()
            .map(|(path, data)| (path.parse().unwrap(), Bytes::copy_from_slice(data.as_bytes())))
            .collect();
        let limits = ArchiveLimits { size: bytesize::ByteSize::mib(1), entries: 16 };
        store.stage().unwrap().verify_files(&files, (&name, version), limits)
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
    assert_eq!(fs::read_dir(root.path().join("staging")).unwrap().count(), 0);
}
