//! What is left when a server ends, in good order or not.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::cli::run;
use vespid_tests::http::{Raw, head};
use vespid_tests::oip::{assert_setosa, flower, output, request};
use vespid_tests::server::{FREE, FREE_PORTS, Home, Server, repository_path, serve};
use vespid_tests::wait;

/// What the models of the store answer, as they wrote it.
fn answers(server: &Server) -> Vec<Vec<u8>> {
    let file = request("file", "BYTES", &[1], json!(["#!/bin/sh\nset -e\necho hello\nexit 0\n"]));
    let asked: [(&str, Value); 3] = [("iris", flower()), ("iris-native", flower()), ("file-type", file)];
    let answer = |(model, request): &(&str, Value)| {
        let answer = server.infer(model, request);
        assert_eq!(answer.status, 200, "{answer}");
        answer.body
    };
    asked.iter().map(answer).collect()
}

#[test]
fn packages_survive_the_server_s_end() {
    let home = Home::default();
    let server = home.start();
    for model in ["iris", "iris-native", "file-type"] {
        server.push(model);
    }
    let second = Archive::built("iris").version("2").to_tar();
    assert_eq!(server.upload("iris", "2", &second).status, 201);
    let (index, expected) = (server.index(), answers(&server));
    assert_eq!(index.len(), 4);
    server.stop();
    for end in [Server::stop, Server::kill, Server::stop] {
        let server = home.start();
        assert_eq!(server.index(), index);
        assert_eq!(answers(&server), expected);
        end(server);
    }
    let server = home.start();
    assert_eq!(server.delete("iris", "2").status, 204);
    assert_eq!(server.delete("file-type", "1").status, 204);
    server.kill();
    let server = home.start();
    assert_eq!(server.index(), ["iris 1 READY", "iris-native 1 READY"]);
}

#[test]
fn a_crash_in_mid_upload_leaves_nothing_behind() {
    let home = Home::default();
    let server = home.start();
    server.push("iris-native");
    let package = Archive::built("iris").to_tar();
    let mut connection = Raw::connect(server.address());
    connection.send(&head("PUT", &repository_path("iris", "1"), package.len()));
    connection.send(&package[..package.len() / 2]);
    let staged = || fs::read_dir(home.store().join("staging")).unwrap().count() > 0;
    wait::until("the upload has begun", || staged().then_some(()));
    server.kill();
    assert!(staged());

    let server = home.start();
    assert!(!staged());
    assert_eq!(server.index(), ["iris-native 1 READY"]);
    server.push("iris");
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn damaged_packages_are_listed_with_the_reason_and_the_others_serve() {
    let home = Home::default();
    let server = home.start();
    for model in ["iris", "iris-native", "simple", "simple-string", "empty"] {
        server.push(model);
    }
    server.stop();

    let models = home.store().join("models");
    // As where the disk was full, or a copy of the folder was cut short.
    fs::write(models.join("simple/1.json"), "{").unwrap();
    let wasm = home.blob("simple_string", "1", "simple_string.wasm");
    truncate(&home.blob("iris-native", "1", "iris.onnx"));
    overwrite(&wasm);
    fs::remove_file(home.blob("empty", "1", "empty.wasm")).unwrap();
    fs::remove_dir_all(home.store().join("packages")).unwrap();
    // And a folder that was put there by hand, not all of it.
    fs::create_dir(models.join("iris/3")).unwrap();
    fs::write(models.join("iris/3/iris.wasm"), "").unwrap();
    // What is not the store's own is passed over.
    fs::write(models.join("README"), "hands off").unwrap();
    fs::write(models.join("iris").join("2"), "").unwrap();
    fs::create_dir(models.join("no model's name")).unwrap();
    fs::write(home.store().join("staging").join("file"), "").unwrap();

    let server = home.start();
    let index = server.index();
    println!("{index:#?}");
    for (line, expected, reason) in [
        (0, "empty 1 UNAVAILABLE failed to load: 'empty.wasm' (sha256:", ") is missing"),
        (1, "iris 1 READY", ""),
        (2, "iris 3 UNAVAILABLE failed to load: the package holds no model.toml", ""),
        (3, "iris-native 1 UNAVAILABLE failed to load: 'iris.onnx' (sha256:", " bytes, and its record says "),
        (4, "simple 1 UNAVAILABLE failed to load: the record is not a package's: ", "EOF while parsing"),
        (
            5,
            "simple_string 1 UNAVAILABLE failed to load: 'simple_string.wasm' (sha256:",
            "holds other content, with the digest sha256:",
        ),
    ] {
        assert!(index[line].starts_with(expected) && index[line].contains(reason), "{}", index[line]);
    }
    assert_eq!(index.len(), 6);
    let ready = server.post("/v2/repository/index", &json!({"ready": true})).json();
    assert_eq!(ready, json!([{"name": "iris", "version": "1", "state": "READY", "reason": ""}]));
    assert_setosa(&server.infer("iris", &flower()));
    let refused = server.infer("iris-native", &flower());
    refused.assert_error(503, "model 'iris-native' is not ready: failed to load");
    assert_eq!(server.get("/v2/models/iris-native/ready").status, 503);

    // They are mended by what mends them.
    for model in ["iris-native", "simple_string"] {
        assert_eq!(server.delete(model, "1").status, 204);
    }
    for model in ["iris-native", "simple-string"] {
        server.push(model);
    }
    assert_eq!(server.index()[5], "simple_string 1 READY");
    assert!(!output(&server.infer("iris-native", &flower()), "probabilities").is_null());
    server.stop();
}

/// What is stored cannot be written to but by root.
fn open(file: &Path) -> File {
    let mut permissions = fs::metadata(file).unwrap().permissions();
    permissions.set_mode(0o644);
    fs::set_permissions(file, permissions).unwrap();
    File::options().write(true).open(file).unwrap()
}

fn truncate(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    open(file).set_len(length / 2).unwrap();
}

fn overwrite(file: &Path) {
    open(file).write_all(b"#!/bin/sh").unwrap();
}

#[test]
fn a_damaged_code_cache_is_made_anew() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    server.stop();
    let cached = files(&home.store().join("code-cache"));
    assert!(!cached.is_empty(), "compiled code is kept");
    for file in cached {
        truncate(&file);
    }
    let server = home.start();
    assert_setosa(&server.infer("iris", &flower()));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let home = Home::default();
    let server = home.start();
    let file = home.store().join("lock");
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = ["--http", server.address(), "--grpc", FREE, "--admin", FREE];
    for (store, arguments, code, message) in [
        (&*home.store(), FREE_PORTS, 1, "in use by another server"),
        (elsewhere.path(), &taken, 1, "cannot listen on"),
        (&file, &[], 1, "create"),
        (elsewhere.path(), &["--max-body", "much"], 2, "--max-body"),
        (elsewhere.path(), &["--max-instances", "0"], 2, "--max-instances"),
    ] {
        let outcome = run(serve(store, arguments));
        outcome.expect(code);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
    server.push("iris");
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
}
