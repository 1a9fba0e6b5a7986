//! Packages in a bucket: of a real server with S3's interface, and a way to it that is cut.

use std::fs;
use std::path::Path;
use std::process::Child;

use vespid_tests::archive::Archive;
use vespid_tests::cli::run;
use vespid_tests::http::{self, Answer};
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::random::Random;
use vespid_tests::s3::{Proxy, S3};
use vespid_tests::server::{FREE_PORTS, Home, Server, blob_path, repository_path, serve};
use vespid_tests::wait;

/// A place in a bucket, as one server has it.
struct Place {
    home: Home,
    environment: Vec<(&'static str, String)>,
}

impl Place {
    fn new(s3: &S3) -> Self {
        Self { home: Home::of(&s3.url("a/place")), environment: s3.environment() }
    }

    fn by(s3: &S3, proxy: &Proxy) -> Self {
        Self { environment: s3.environment_by(proxy.port()), ..Self::new(s3) }
    }

    fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn start(&self) -> Server {
        let cache = self.home.cache().display().to_string();
        self.home.start_in(&["--cache", &cache], &self.environment())
    }

    /// Starts one without waiting for anything.
    fn spawn(&self, arguments: &[&str]) -> Child {
        let cache = self.home.cache().display().to_string();
        let mut command = serve(&self.home.store(), &[arguments, &["--cache", &cache]].concat());
        command.envs(self.environment()).spawn().unwrap()
    }
}

fn of(model: &str, version: &str) -> Archive {
    Archive::built(model).version(version)
}

/// With a file that takes a while to come and go.
fn large(model: &str, version: &str) -> Archive {
    of(model, version).file("large", content())
}

const LARGE: usize = 6 << 20;

fn content() -> Vec<u8> {
    let mut random = Random::new(7);
    (0..LARGE / 8).flat_map(|_| random.number().to_le_bytes()).collect()
}

fn blobs(s3: &S3) -> Vec<String> {
    s3.names("a/place/blobs")
}

fn record(s3: &S3, model: &str, version: &str) -> Vec<u8> {
    s3.get(&format!("a/place/models/{model}/{version}.json"))
}

fn assert_taken(answer: &Answer) {
    assert_eq!(answer.status, 201, "{answer}");
}

#[test]
fn packages_live_in_a_bucket() {
    let s3 = S3::start();
    let place = Place::new(&s3);
    let server = place.start();
    server.push("iris");
    server.push("iris-native");
    let before = blobs(&s3);
    // Of another version that differs in its manifest alone, the manifest is stored and what describes the component.
    assert_taken(&server.upload("iris", "2", &of("iris", "2").to_tar()));
    let (index, stored) = (server.index(), blobs(&s3));
    assert_eq!(stored.len(), before.len() + 2, "{stored:#?}");
    server.upload("iris", "2", &of("iris", "2").to_tar()).assert_error(409, "exists already");
    server.stop();
    let server = place.start();
    assert_eq!(server.index(), index);
    assert_setosa(&server.infer("iris", &flower()));

    // Another machine, which has nothing of it yet.
    let elsewhere = Place::new(&s3);
    let other = elsewhere.start();
    assert_eq!(other.index(), index);
    assert_setosa(&other.infer("iris", &flower()));
    assert_eq!(other.infer("iris-native", &flower()).status, 200);
    other.upload("iris", "2", &of("iris", "2").to_tar()).assert_error(409, "exists already");
    // What it takes in is there for the first one, when that looks.
    assert_taken(&other.upload("iris", "3", &of("iris", "3").to_tar()));
    let load = server.send("POST", "/v2/repository/models/iris/load", &[], &[]);
    assert_eq!(load.status, 200, "{load}");
    assert_eq!(server.index()[2], "iris 3 READY");

    for (model, version) in [("iris", "3"), ("iris", "1"), ("iris-native", "1")] {
        assert_eq!(server.delete(model, version).status, 204);
    }
    assert_eq!(s3.names("a/place/models"), ["a/place/models/iris/2.json"]);
    // Its manifest, its plugin, its graph and what describes the plugin.
    assert_eq!(blobs(&s3).len(), 4);
    assert_eq!(server.delete("iris", "2").status, 204);
    assert_eq!(s3.names("a"), Vec::<String>::new());
}

#[test]
fn a_bucket_that_cannot_be_used_is_told_at_the_start() {
    let s3 = S3::start();
    let place = Place::new(&s3);
    let cache = place.home.cache();
    let outcome = |store: &str, variable: &str, value: &str| {
        let mut command = serve(Path::new(store), FREE_PORTS);
        command.arg("--cache").arg(&cache).envs(place.environment()).env(variable, value);
        run(command)
    };
    let bucket = s3.url("a/place");
    for (store, variable, value, expected) in [
        (bucket.as_str(), "AWS_SECRET_ACCESS_KEY", "wrong", "access is denied"),
        (&bucket, "AWS_ACCESS_KEY_ID", "nobody", "access is denied"),
        ("s3://no-such-bucket/a", "A", "B", "it is not there"),
        (&bucket, "AWS_ENDPOINT", "http://127.0.0.1:1", "Connection refused"),
        (&bucket, "AWS_ALLOW_HTTP", "false", "URL scheme is not allowed"),
    ] {
        let outcome = outcome(store, variable, value);
        outcome.expect(1);
        let stderr = &outcome.stderr;
        assert!(stderr.contains(&format!("--store {store}")) && stderr.contains(expected), "{stderr}");
    }
    let outcome = outcome("https://models.example/a", "A", "B");
    outcome.expect(2);
    assert!(outcome.stderr.contains("use a folder, file://, s3://, gs:// or az://"), "{}", outcome.stderr);
}

#[test]
fn damage_in_a_bucket_is_told_and_the_good_go_on() {
    let s3 = S3::start();
    let place = Place::new(&s3);
    let server = place.start();
    server.push("iris-native");
    for version in ["2", "3", "4", "5"] {
        let package = of("iris-native", version).file("labels.txt", format!("of {version}"));
        assert_taken(&server.upload("iris-native", version, &package.to_tar()));
    }
    server.push("iris");
    server.stop();

    let labels =
        |version: &str| format!("a/place/{}", blob_path(&record(&s3, "iris-native", version), "labels.txt"));
    s3.put(&labels("2"), b"OF 2");
    s3.put(&labels("3"), b"of");
    s3.delete(&labels("4"));
    s3.put("a/place/models/iris-native/5.json", b"<html>");
    // One that came by hand, whole, and two that did not come whole.
    let simple = Archive::built("simple").manifest("name = \"simple\"", "name = \"by-hand\"");
    for file in ["model.toml", "simple.wasm"] {
        s3.put(&format!("a/place/models/by-hand/1/{file}"), simple.data(file));
    }
    s3.put("a/place/models/by-hand/2/model.toml", simple.clone().version("2").data("model.toml"));
    s3.put("a/place/models/iris-native/1/model.toml", b"half of a manif");

    let place = Place::new(&s3);
    let server = place.start();
    let index = server.index();
    println!("{index:#?}");
    for (line, expected, reason) in [
        (0, "by-hand 1 READY", ""),
        (1, "by-hand 2 UNAVAILABLE", "names 'simple.wasm', which the package does not hold"),
        (2, "iris 1 READY", ""),
        (3, "iris-native 1 READY", ""),
        (4, "iris-native 2 UNAVAILABLE", "'labels.txt' (sha256:"),
        (4, "iris-native 2 UNAVAILABLE", "holds other content, with the digest sha256:"),
        (5, "iris-native 3 UNAVAILABLE", "has 2 bytes in the store, and its record says 4"),
        (6, "iris-native 4 UNAVAILABLE", "is missing in the store"),
        (7, "iris-native 5 UNAVAILABLE", "the record is not a package's: it is not an OCI image manifest"),
    ] {
        assert!(index[line].starts_with(expected) && index[line].contains(reason), "{}", index[line]);
    }
    assert_eq!(index.len(), 8);
    assert_setosa(&server.infer("iris", &flower()));
    let answer = server.infer("iris-native", &flower());
    assert_eq!(answer.json()["model_version"], "1", "{answer}");

    // Mended, and loaded again.
    s3.put(&labels("2"), b"of 2");
    for version in ["3", "4", "5"] {
        assert_eq!(server.delete("iris-native", version).status, 204);
    }
    let load = server.send("POST", "/v2/repository/models/iris-native/load", &[], &[]);
    assert_eq!(load.status, 200, "{load}");
    assert_eq!(server.index()[4], "iris-native 2 READY");
}

#[test]
fn a_download_that_is_cut_goes_on() {
    let s3 = S3::start();
    let place = Place::new(&s3);
    let server = place.start();
    assert_taken(&server.upload("iris", "1", &large("iris", "1").to_tar()));
    server.stop();
    let proxy = s3.proxy();
    let place = Place::by(&s3, &proxy);
    // The connection breaks, more often than a client for buckets tries again: the server goes on by itself.
    proxy.cut_down(LARGE / 10, 8);
    let server = place.start();
    assert_eq!(server.index(), ["iris 1 READY"]);
    assert!(proxy.take_down() < LARGE + LARGE / 4, "what had come came again");
    assert!(server.log().contains("a download goes on"), "{}", server.log());
    server.stop();

    // The server dies: the next one goes on.
    let place = Place::by(&s3, &proxy);
    proxy.stall_down(LARGE / 2);
    let mut server = place.spawn(FREE_PORTS);
    wait::until("half of it has come", || proxy.is_stalled().then_some(()));
    let partial = place.home.cache().join("partial");
    let beginning =
        || fs::read_dir(&partial).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>();
    wait::until("it is on disk", || (beginning() > LARGE as u64 / 4).then_some(()));
    server.kill().unwrap();
    server.wait().unwrap();
    proxy.open();
    let before = proxy.take_down();
    assert!(before <= LARGE / 2 + LARGE / 8, "{before}");
    let server = place.start();
    assert_eq!(server.index(), ["iris 1 READY"]);
    assert_setosa(&server.infer("iris", &flower()));
    assert!(proxy.take_down() < LARGE * 3 / 4 + LARGE / 4, "what had come came again");
    assert_eq!(beginning(), 0);
}

#[test]
fn an_upload_that_ends_in_its_middle_leaves_nothing_to_be_seen() {
    let s3 = S3::start();
    let proxy = s3.proxy();
    let place = Place::by(&s3, &proxy);
    let server = place.start();
    server.push("iris-native");
    proxy.stall_up(LARGE / 2);
    let package = large("iris", "1").to_tar();
    let url = server.url() + &repository_path("iris", "1");
    let upload = std::thread::spawn(move || http::try_send("PUT", &url, &[], &package).map(drop));
    wait::until("half of it has gone", || proxy.is_stalled().then_some(()));
    server.kill();
    assert!(upload.join().unwrap().is_err());
    assert_eq!(s3.names("a/place/models"), ["a/place/models/iris-native/1.json"]);
    proxy.open();

    let server = place.start();
    assert_eq!(server.index(), ["iris-native 1 READY"]);
    assert_taken(&server.upload("iris", "1", &large("iris", "1").to_tar()));
    assert_setosa(&server.infer("iris", &flower()));
    let stored = format!("a/place/{}", blob_path(&record(&s3, "iris", "1"), "large"));
    assert!(s3.get(&stored) == content());
}
