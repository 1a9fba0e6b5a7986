//! Uploads: what is refused and why, what is left of it, and which version answers.

use std::fs;
use std::path::Path;
use std::thread;

use vespid_tests::archive::{Archive, EntryType};
use vespid_tests::http::{Raw, head};
use vespid_tests::oip::{assert_setosa, flower, kind};
use vespid_tests::server::{Server, repository_path};
use vespid_tests::wait;

const FILE: EntryType = EntryType::Regular;

/// What is uploaded as `iris-native` version 1, and a part of what the server says to it.
fn bad_packages() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let native = || Archive::built("iris-native");
    let iris =
        || Archive::built("iris").manifest("name = \"iris\"\nversion", "name = \"iris-native\"\nversion");
    let with_code = |code: &[u8]| iris().file("iris.wasm", code).to_tar();
    let with_graph = |graph: &[u8]| native().file("iris.onnx", graph).to_tar();
    let graph = native().data("iris.onnx").to_vec();
    let whole = native().to_tar();
    vec![
        (
            "path upwards",
            native().entry("../evil", FILE, "x").to_tar(),
            "'../evil' is refused: '../evil' is not a plain relative path",
        ),
        ("path upwards within", native().entry("a/../../evil", FILE, "x").to_tar(), "plain relative path"),
        (
            "absolute path",
            native().entry("/tmp/evil", FILE, "x").to_tar(),
            "'/tmp/evil' is refused: '/tmp/evil' is not a plain relative path",
        ),
        (
            "symbolic link",
            native().entry("link", EntryType::Symlink, "/etc/passwd").to_tar(),
            "'link' is refused: links are not allowed",
        ),
        (
            "hard link",
            native().entry("link", EntryType::Link, "iris.onnx").to_tar(),
            "'link' is refused: links are not allowed",
        ),
        (
            "link in a model's place",
            native().without("iris.onnx").entry("iris.onnx", EntryType::Symlink, "/etc/passwd").to_tar(),
            "links are not allowed",
        ),
        (
            "device",
            native().entry("null", EntryType::Char, "").to_tar(),
            "only files and folders are allowed",
        ),
        ("fifo", native().entry("pipe", EntryType::Fifo, "").to_tar(), "only files and folders are allowed"),
        (
            "a file twice",
            native().entry("iris.onnx", FILE, "x").to_tar(),
            "'iris.onnx' is refused: it is there twice",
        ),
        (
            "a file below a file",
            native().entry("iris.onnx/x", FILE, "x").to_tar(),
            "'iris.onnx/x' is refused",
        ),
        (
            "a folder in a file's place",
            native().entry("iris.onnx/", EntryType::Directory, "").to_tar(),
            "'iris.onnx/' is refused",
        ),
        ("no manifest", native().without("model.toml").to_tar(), "holds no model.toml"),
        (
            "a folder for a manifest",
            native().without("model.toml").entry("model.toml/", EntryType::Directory, "").to_tar(),
            "holds no model.toml",
        ),
        (
            "a manifest that is not text",
            native().file("model.toml", [0xff]).to_tar(),
            "model.toml: it is not UTF-8",
        ),
        ("a manifest that is not TOML", native().file("model.toml", "[model").to_tar(), "model.toml:"),
        (
            "unknown manifest key",
            native().manifest("[limits]", "[limits]\nmemroy = \"1MiB\"").to_tar(),
            "memroy",
        ),
        ("unknown manifest section", native().manifest("[limits]", "[limit]").to_tar(), "limit"),
        ("a limit out of range", native().manifest("\"1s\"", "\"2h\"").to_tar(), "limits.timeout"),
        (
            "a missing graph",
            native().without("iris.onnx").to_tar(),
            "graph 'iris' names 'iris.onnx', which the package does not hold",
        ),
        (
            "a missing component",
            iris().without("iris.wasm").to_tar(),
            "model.plugin names 'iris.wasm', which the package does not hold",
        ),
        (
            "another model",
            Archive::built("simple").to_tar(),
            "the package is 'simple' version 1; the request names 'iris-native' version 1",
        ),
        (
            "another version",
            native().version("2").to_tar(),
            "the package is 'iris-native' version 2; the request names 'iris-native' version 1",
        ),
        ("gzip", GZIP.to_vec(), "compressed with gzip; send the tar itself"),
        (
            "no tar",
            b"not a tar, but long enough to be taken for one".repeat(20),
            "not a readable tar archive",
        ),
        ("nothing", Vec::new(), "not a readable tar archive: it is empty"),
        ("an archive cut off", whole[..whole.len() / 2].to_vec(), "not a readable tar archive"),
        ("no WebAssembly", with_code(b"#!/bin/sh\n"), "failed to load: not a valid WebAssembly component"),
        ("empty component", with_code(b""), "failed to load: not a valid WebAssembly component"),
        (
            "a core module that is no command",
            with_code(b"\0asm\x01\0\0\0"),
            "the core module is no command: it exports no function '_start'",
        ),
        (
            "a damaged component",
            with_code(&damaged(iris().data("iris.wasm"))),
            "failed to load: not a valid WebAssembly component",
        ),
        ("a graph that is none", with_graph(b"not a graph"), "failed to load"),
        ("an empty graph", with_graph(b""), "failed to load"),
        ("a graph cut off", with_graph(&graph[..graph.len() / 2]), "failed to load"),
        (
            "a signature that is not the model's",
            native().manifest("[limits]", SIGNATURE).to_tar(),
            "the model itself says",
        ),
    ]
}

const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

const SIGNATURE: &str = "\
[[input]]
name = \"measurements\"
datatype = \"FP32\"
shape = [-1, 5]
[[output]]
name = \"probabilities\"
datatype = \"FP32\"
shape = [-1, 3]
[limits]";

fn damaged(component: &[u8]) -> Vec<u8> {
    let mut damaged = component.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    damaged
}

#[test]
fn bad_packages_are_refused_and_leave_nothing_behind() {
    let server = Server::with(&["iris"]);
    for (what, package, message) in bad_packages() {
        println!("{what}");
        server.upload("iris-native", "1", &package).assert_error(400, message);
        assert_eq!(server.index(), ["iris 1 READY"], "{what}");
        assert_setosa(&server.infer("iris", &flower()));
    }
    nothing_is_staged(&server);
    assert!(!Path::new("/tmp/evil").exists() && !server.store().join("evil").exists());
    server.push("iris-native");
}

#[test]
fn models_that_the_server_cannot_run_are_refused() {
    let server = Server::with(&["iris"]);
    let unknown_operator = Archive::built("iris-native");
    let graph = unknown_operator.data("iris.onnx").to_vec();
    let position = graph.windows(7).position(|window| window == b"Softmax").unwrap();
    let graph = [&graph[..position], b"Softmix", &graph[position + 7..]].concat();
    for (model, package, status, message) in [
        ("no-export", Archive::built("no-export"), 400, "does not export vespid:model/model"),
        (
            "forbidden-import",
            Archive::built("forbidden-import"),
            400,
            "imports 'hostile:outside/files@1.0.0', which is not granted",
        ),
        (
            "describe-trap",
            Archive::built("describe-trap"),
            400,
            "the plugin does not describe itself: the plugin trapped",
        ),
        (
            "iris-native",
            Archive::built("iris-native").manifest("\"cpu\"", "\"gpu\""),
            501,
            "device 'gpu:0' is not available to the embedded backend",
        ),
        ("iris-native", unknown_operator.file("iris.onnx", graph), 501, "Softmix operator not supported"),
    ] {
        let answer = server.upload(model, "1", &package.to_tar());
        answer.assert_error(status, message);
        answer.assert_error(status, &format!("model '{model}' version 1 failed to load"));
        assert_eq!(server.index(), ["iris 1 READY"]);
    }
    nothing_is_staged(&server);
    assert_setosa(&server.infer("iris", &flower()));
}

fn nothing_is_staged(server: &Server) {
    wait::until("nothing is staged", || {
        fs::read_dir(server.store().join("staging")).unwrap().next().is_none().then_some(())
    });
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing_behind() {
    let server = Server::with(&[]);
    let package = Archive::built("iris").to_tar();
    let path = repository_path("iris", "1");
    for sent in [0, 1, 512, package.len() / 2, package.len() - 1] {
        let mut connection = Raw::connect(server.address());
        connection.send(&head("PUT", &path, package.len()));
        connection.send(&package[..sent]);
        if sent > 0 {
            let staging = server.store().join("staging");
            wait::until("the upload has begun", || fs::read_dir(&staging).unwrap().next().map(drop));
        }
        drop(connection);
        nothing_is_staged(&server);
        assert_eq!(server.index(), [""; 0]);
    }
    server.push("iris");
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn packages_and_bodies_over_the_limits_are_refused() {
    let server = Server::configured(&["--max-package", "64KiB", "--max-body", "1KiB"], &["iris"]);
    let too_large = Archive::built("iris-native").file("more", vec![0; 100 << 10]).to_tar();
    let answer = server.upload("iris-native", "1", &too_large);
    answer.assert_error(413, "the package is larger than the limit of 64.0 KiB");
    // Of unknown length, so that the limit shows only on the way.
    let answer = chunked(&server, "PUT", &repository_path("iris-native", "1"), &too_large);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("the limit of 64.0 KiB"), "{answer}");
    server.push("iris-native");

    let large = vec![b' '; 2 << 10];
    let answer = server.send("POST", "/v2/models/iris/infer", &[], &large);
    answer.assert_error(413, "the request body is larger than the limit of 1.0 KiB");
    let answer = chunked(&server, "POST", "/v2/models/iris/infer", &large);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("the limit of 1.0 KiB"), "{answer}");
    assert_setosa(&server.infer("iris", &flower()));
    nothing_is_staged(&server);
}

/// Sends a body without saying how long it is.
fn chunked(server: &Server, method: &str, path: &str, body: &[u8]) -> String {
    let mut connection = Raw::connect(server.address());
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.send(head.as_bytes());
    for chunk in body.chunks(1 << 10) {
        connection.send(format!("{:x}\r\n", chunk.len()).as_bytes());
        connection.send(chunk);
        connection.send(b"\r\n");
    }
    connection.send(b"0\r\n\r\n");
    connection.read_to_end()
}

#[test]
fn an_archive_cannot_make_the_server_hold_much_of_it() {
    let server = Server::with(&["iris"]);
    let before = server.resident();
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        let package = Archive::default().entry("long", kind, vec![b'x'; 200 << 20]);
        let package = package.and(Archive::built("iris-native")).to_tar();
        assert_eq!(server.upload("iris-native", "1", &package).status, 400, "{kind:?}");
        assert!(server.resident() < before + (100 << 20), "{kind:?}");
    }
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn the_greatest_version_answers_where_none_is_named() {
    let server = Server::with(&[]);
    let iris = Archive::built("iris");
    for version in ["2", "10", "1"] {
        let answer = server.upload("iris", version, &iris.clone().version(version).to_tar());
        assert_eq!(answer.status, 201, "{answer}");
        assert_eq!(answer.json()["version"], version);
    }
    let again = server.upload("iris", "2", &iris.clone().version("2").to_tar());
    again.assert_error(409, "model 'iris' version 2 exists already");
    assert_eq!(server.index(), ["iris 1 READY", "iris 2 READY", "iris 10 READY"]);
    let answered = |path: &str| {
        let answer = server.post(path, &flower());
        assert_setosa(&answer);
        answer.json()["model_version"].as_str().unwrap().to_owned()
    };
    assert_eq!(answered("/v2/models/iris/infer"), "10");
    assert_eq!(answered("/v2/models/iris/versions/2/infer"), "2");
    assert_eq!(server.get("/v2/models/iris").json()["versions"], serde_json::json!(["1", "2", "10"]));

    assert_eq!(server.delete("iris", "10").status, 204);
    assert_eq!(answered("/v2/models/iris/infer"), "2");
    let gone = server.post("/v2/models/iris/versions/10/infer", &flower());
    gone.assert_error(
        404,
        "Request for unknown model: 'iris' version 10 is not found; its versions are 1, 2",
    );
    server.delete("iris", "10").assert_error(404, "no model 'iris' version 10");
    assert_eq!(server.delete("iris", "1").status, 204);
    assert_eq!(server.delete("iris", "2").status, 204);
    server.infer("iris", &flower()).assert_error(404, "Request for unknown model: 'iris' is not found");
    assert_eq!(server.index(), [""; 0]);
    // What is gone may come again.
    server.push("iris");
    assert_eq!(answered("/v2/models/iris/infer"), "1");
}

#[test]
fn of_equal_uploads_at_once_one_is_taken() {
    let server = Server::with(&[]);
    let package = Archive::built("iris").to_tar();
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let uploads: Vec<_> = (0..6).map(|_| scope.spawn(|| server.upload("iris", "1", &package))).collect();
        uploads.into_iter().map(|upload| upload.join().unwrap().status).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
    assert_setosa(&server.infer("iris", &flower()));
    nothing_is_staged(&server);
}

#[test]
fn a_version_that_is_removed_ends_the_calls_that_it_has() {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris", "loop"]);
    thread::scope(|scope| {
        let looping = scope.spawn(|| server.looping());
        server.wait_until_busy();
        assert_eq!(server.delete("loop", "1").status, 204);
        looping.join().unwrap().assert_error(504, "the plugin did not answer before the deadline");
    });
    server.infer("loop", &kind(0)).assert_error(404, "Request for unknown model");
    assert_eq!(server.index(), ["iris 1 READY"]);
}
