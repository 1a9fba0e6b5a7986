//! Damaged requests and packages, many of them: the server answers each, and goes on.

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::http::{Answer, Raw, head};
use vespid_tests::oip::{assert_setosa, flower, input, kind};
use vespid_tests::random::Random;
use vespid_tests::server::Server;

const REQUESTS: usize = 5000;
const PACKAGES: usize = 400;
const GRAPHS: usize = 400;
const COMPONENTS: usize = 60;

/// What a failure says that is the model's and not the server's own.
const OF_THE_MODEL: [&str; 3] = ["the plugin ", "the model's answer", "the backend failed on these inputs"];

/// Checks that an answer is one, and that no failure is the server's own.
fn check(answer: &Answer, what: &str) {
    if answer.status >= 300 {
        let error = answer.error();
        let typed = answer.status == 501 || OF_THE_MODEL.iter().any(|text| error.contains(text));
        assert!(answer.status < 500 || typed, "{what}: {answer}");
    }
}

#[test]
fn damaged_requests() {
    let server = Server::with(&["iris", "iris-native", "simple-identity", "wrong-output", "embed"]);
    let mut random = Random::new(1);
    let requests: [(&str, Value, &[u8]); 9] = [
        ("/v2/models/iris/infer", flower(), b""),
        ("/v2/models/iris-native/infer", binary("measurements", "FP32", &[1, 4], 16), &[0x40; 16]),
        (
            "/v2/models/simple_identity/infer",
            json!({"id": "1", "inputs": [input("INPUT0", "BYTES", &[1, 2], json!([["a", "b"]]))], "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": true}}]}),
            b"",
        ),
        (
            "/v2/models/simple_identity/infer",
            binary("INPUT0", "BYTES", &[2, 1], 10),
            b"\x01\0\0\0a\x01\0\0\0b",
        ),
        ("/v2/models/wrong-output/infer", kind(0), b""),
        ("/v1/models/iris:predict", json!({"instances": [[5.1, 3.5, 1.4, 0.2], {"measurements": [1]}]}), b""),
        (
            "/v1/models/simple_identity:predict",
            json!({"instances": [{"INPUT0": ["a", {"b64": "/w=="}]}, {"INPUT0": ["b", ""]}]}),
            b"",
        ),
        (
            "/v2/models/iris/generate",
            json!({"id": "1", "measurements": [5.1, 3.5, 1.4, 0.2], "parameters": {"t": 0.5}}),
            b"",
        ),
        (
            "/openai/v1/embeddings",
            json!({"model": "embed", "input": ["a", ""], "encoding_format": "base64", "dimensions": 384}),
            b"",
        ),
    ];
    for number in 0..REQUESTS {
        let (path, json, data) = random.of(&requests);
        let json = serde_json::to_vec(json).unwrap();
        let length = json.len().to_string();
        let body = random.damage(&[&json, *data].concat());
        let headers = [("inference-header-content-length", length.as_str())];
        let headers = if data.is_empty() { &[][..] } else { &headers };
        let answer = server.send("POST", path, headers, &body);
        let what = format!("request {number} to {path}: {}", String::from_utf8_lossy(&body));
        if path.starts_with("/openai") {
            let json = answer.json();
            let refused = answer.status < 500 && json["error"]["message"].is_string();
            assert!(answer.status == 200 || refused, "{what}: {answer}");
        } else {
            check(&answer, &what);
        }
    }
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
}

fn binary(name: &str, datatype: &str, shape: &[usize], size: usize) -> Value {
    json!({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}]})
}

#[test]
fn damaged_heads() {
    let server = Server::with(&["iris"]);
    let mut random = Random::new(2);
    let body = serde_json::to_vec(&flower()).unwrap();
    let whole = [head("POST", "/v2/models/iris/infer", body.len()), body].concat();
    for number in 0..500 {
        let request = random.damage(&whole);
        let mut connection = Raw::connect(server.address());
        connection.send(&request);
        connection.finish();
        let answer = connection.read_to_end();
        assert!(!answer.starts_with("HTTP/1.1 5"), "request {number}: {answer}");
    }
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
}

#[test]
fn damaged_packages() {
    let server = Server::with(&["iris"]);
    let mut random = Random::new(3);
    let native = Archive::built("iris-native");
    let tar = native.to_tar();
    for number in 0..PACKAGES {
        upload(&server, &random.damage(&tar), &format!("archive {number}"));
    }
    for number in 0..PACKAGES {
        let manifest = random.damage(native.data("model.toml"));
        let what = format!("manifest {number}: {}", String::from_utf8_lossy(&manifest));
        upload(&server, &native.clone().file("model.toml", manifest).to_tar(), &what);
    }
    for number in 0..GRAPHS {
        let graph = random.damage(native.data("iris.onnx"));
        upload(&server, &native.clone().file("iris.onnx", graph).to_tar(), &format!("graph {number}"));
    }
    let plugin =
        Archive::built("iris").manifest("name = \"iris\"\nversion", "name = \"iris-native\"\nversion");
    for number in 0..COMPONENTS {
        let component = random.damage(plugin.data("iris.wasm"));
        upload(
            &server,
            &plugin.clone().file("iris.wasm", component).to_tar(),
            &format!("component {number}"),
        );
    }
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
}

/// Uploads a package, and where it is taken asks it and removes it.
fn upload(server: &Server, package: &[u8], what: &str) {
    let answer = server.upload("iris-native", "1", package);
    check(&answer, what);
    if answer.status == 201 {
        check(&server.infer("iris-native", &flower()), what);
        assert_eq!(server.delete("iris-native", "1").status, 204, "{what}");
    }
}
