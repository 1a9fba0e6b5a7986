//! ONNX Runtime behind the server, lanes under many callers, and what the server says of both.

use std::fs;
use std::thread;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::built::{onnxruntime, repository};
use vespid_tests::cli;
use vespid_tests::oip::{assert_close, assert_setosa, flower, numbers, output, request};
use vespid_tests::server::{Home, Server};

const CLIENTS: usize = 16;
const REQUESTS: usize = 25;

fn with_onnxruntime(models: &[&str]) -> Server {
    Server::configured(&["--onnxruntime", &onnxruntime()], models)
}

fn platform(server: &Server, model: &str) -> String {
    server.get(&format!("/v2/models/{model}")).json()["platform"].as_str().unwrap().to_owned()
}

fn statistics(server: &Server, model: &str) -> Value {
    let answer = server.get(&format!("/v2/models/{model}/stats"));
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()["model_stats"][0].clone()
}

#[test]
fn a_graph_runs_on_onnx_runtime_unless_it_names_another_backend() {
    let server = with_onnxruntime(&["iris", "iris-native", "file-type"]);
    assert_eq!(platform(&server, "iris"), "vespid_plugin_onnxruntime");
    assert_eq!(platform(&server, "iris-native"), "onnx_onnxruntime");
    assert_eq!(platform(&server, "file-type"), "vespid_plugin_embedded");
    let expected: Value =
        serde_json::from_slice(&fs::read(repository("plugins/iris/expected.json")).unwrap()).unwrap();
    let rows = expected["measurements"].as_array().unwrap().len();
    let expected_rows: Vec<f64> =
        expected["probabilities"].as_array().unwrap().iter().flat_map(numbers).collect();
    for model in ["iris", "iris-native"] {
        let request = request("measurements", "FP32", &[rows, 4], expected["measurements"].clone());
        let answer = server.infer(model, &request);
        assert_close(&numbers(&output(&answer, "probabilities")["data"]), &expected_rows, 1e-5);
    }
}

#[test]
fn a_backend_or_library_that_is_not_there_is_an_error_that_names_it() {
    let server = Server::with(&[]);
    let named = Archive::built("iris-native")
        .manifest("encoding = \"onnx\"", "encoding = \"onnx\"\nbackend = \"onnxruntime\"");
    server
        .upload("iris-native", "1", &named.to_tar())
        .assert_error(501, "the onnxruntime backend is not loaded: start the server with --onnxruntime FILE");
    let folder = tempfile::tempdir().unwrap();
    let missing = ["serve", "--store", "store", "--onnxruntime", "/nonexistent/libonnxruntime.so"];
    let outcome = cli::vespid(folder.path(), &[], &missing);
    outcome.expect(1);
    assert!(
        outcome.stderr.contains("/nonexistent/libonnxruntime.so: it cannot be loaded"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("--onnxruntime off"), "{}", outcome.stderr);
}

#[test]
fn the_doctor_tells_which_backends_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = cli::vespid(folder.path(), &[("VESPID_ONNXRUNTIME", &onnxruntime())], &["doctor"]);
    outcome.expect(0);
    for expected in ["backend embedded", "backend onnxruntime", "ONNX Runtime 1.", "providers", "cpu"] {
        assert!(outcome.stdout.contains(expected), "{expected}: {}", outcome.stdout);
    }
    let outcome = cli::vespid(folder.path(), &[("VESPID_ONNXRUNTIME", "off")], &["doctor"]);
    outcome.expect(0);
    assert!(outcome.stdout.contains("cargo xtask setup --onnxruntime"), "{}", outcome.stdout);
}

/// Many callers at once, each of whom checks the own answer.
fn ask_all(server: &Server, model: &str) {
    let expected: Value =
        serde_json::from_slice(&fs::read(repository("plugins/iris/expected.json")).unwrap()).unwrap();
    let rows = expected["species"].as_array().unwrap().len();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let expected = &expected;
            scope.spawn(move || {
                for asked in 0..REQUESTS {
                    let row = (client + asked) % rows;
                    let measurements = json!([expected["measurements"][row]]);
                    let answer = server.infer(model, &request("measurements", "FP32", &[1, 4], measurements));
                    let got = numbers(&output(&answer, "probabilities")["data"]);
                    assert_close(&got, &numbers(&expected["probabilities"][row]), 1e-5);
                }
            });
        }
    });
}

#[test]
fn callers_at_once_share_runs_and_the_statistics_add_up() {
    for backend in ["off".to_owned(), onnxruntime()] {
        let home = Home::default();
        let server = home.start_with(&["--onnxruntime", &backend]);
        // A wait for others makes batches certain.
        let waiting = |model: &str| {
            let package = Archive::built(model).manifest(
                "encoding = \"onnx\"",
                "encoding = \"onnx\"\nbatching = { max_rows = 8, max_delay = \"50ms\" }",
            );
            assert_eq!(server.upload(model, "1", &package.to_tar()).status, 201);
        };
        for model in ["iris", "iris-native"] {
            waiting(model);
            ask_all(&server, model);
            let stats = statistics(&server, model);
            let count = |path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap();
            let requests = (CLIENTS * REQUESTS) as u64;
            assert_eq!(count("/inference_count"), requests);
            assert_eq!(count("/inference_stats/success/count"), requests);
            assert_eq!(count("/inference_stats/queue/count"), requests);
            assert_eq!(count("/inference_stats/compute_infer/count"), requests);
            assert_eq!(count("/inference_stats/fail/count"), 0);
            let batches = stats["batch_stats"].as_array().unwrap();
            let of = |batch: &Value| {
                (batch["batch_size"].as_u64().unwrap(), batch["compute_infer"]["count"].as_u64().unwrap())
            };
            assert_eq!(batches.iter().map(of).map(|(_, runs)| runs).sum::<u64>(), count("/execution_count"));
            assert_eq!(batches.iter().map(of).map(|(rows, runs)| rows * runs).sum::<u64>(), requests);
            assert!(batches.iter().map(of).all(|(rows, _)| rows <= 8), "{stats}");
            assert!(count("/execution_count") <= requests / 2, "callers share runs: {stats}");
            let plugin = model == "iris";
            assert_eq!(stats.pointer("/vespid/cpu/ns").is_some(), plugin, "{stats}");
            if plugin {
                assert_eq!(count("/vespid/instances/fresh"), requests);
            }
        }
        let all = server.get("/v2/models/stats").json();
        assert_eq!(all["model_stats"].as_array().unwrap().len(), 2, "{all}");
        server.get("/v2/models/none/stats").assert_error(404, "Request for unknown model");
        server.stop();
    }
}

#[test]
fn a_full_lane_refuses_at_once_and_the_rest_are_answered() {
    let home = Home::default();
    let server = home.start();
    // One call waits for others, for longer than the test takes; one more may wait with it.
    let package = Archive::built("iris").manifest(
        "encoding = \"onnx\"",
        "encoding = \"onnx\"\nbatching = { queue_limit = 2, max_rows = 64, max_delay = \"2s\" }",
    );
    let package = package.manifest("timeout = \"1s\"", "timeout = \"60s\"");
    assert_eq!(server.upload("iris", "1", &package.to_tar()).status, 201);
    let answers: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..6).map(|_| scope.spawn(|| server.infer("iris", &flower()))).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let (answered, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((answered.len(), refused.len()), (2, 4));
    answered.into_iter().for_each(assert_setosa);
    for answer in refused {
        answer.assert_error(503, "the queue of the graph is full (2 calls wait); try again later");
        // It comes by way of the plugin, and is still the host's own refusal.
        assert_eq!(answer.header("vespid-retry"), Some("elsewhere"), "{answer}");
    }
}
