//! A graph in OpenVINO's own encoding, served by its library, which `cargo xtask setup openvino` fetched.

use std::{fs, thread};

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::built::{self, repository};
use vespid_tests::cli;
use vespid_tests::oip::{assert_close, numbers, output, request};
use vespid_tests::server::Server;

const TOLERANCE: f64 = 1e-5;

fn server(models: &[&str]) -> Server {
    Server::configured(&["--openvino", &built::openvino()], models)
}

/// `plugins/iris/expected.json`.
fn expected() -> Value {
    serde_json::from_slice(&fs::read(repository("plugins/iris/expected.json")).unwrap()).unwrap()
}

fn package() -> Archive {
    Archive::built("iris-openvino")
}

fn probabilities(server: &Server, model: &str, measurements: &Value) -> Vec<f64> {
    let rows = measurements.as_array().unwrap().len();
    let answer = server.infer(model, &request("measurements", "FP32", &[rows, 4], measurements.clone()));
    let probabilities = output(&answer, "probabilities");
    assert_eq!(probabilities["shape"], json!([rows, 3]), "{answer}");
    numbers(&probabilities["data"])
}

#[test]
fn it_predicts_what_the_embedded_backend_and_the_training_code_do() {
    let server = server(&["iris-native", "iris-openvino"]);
    let expected = expected();
    let measurements = &expected["measurements"];
    let got = probabilities(&server, "iris-openvino", measurements);
    assert_close(&got, &numbers(&expected["probabilities"]), TOLERANCE);
    assert_close(&got, &probabilities(&server, "iris-native", measurements), TOLERANCE);
    for (row, measurements) in measurements.as_array().unwrap().iter().enumerate() {
        let got = probabilities(&server, "iris-openvino", &json!([measurements]));
        assert_close(&got, &numbers(&expected["probabilities"][row]), TOLERANCE);
    }
    let none = server.infer("iris-openvino", &request("measurements", "FP32", &[0, 4], json!([])));
    none.assert_error(400, "'measurements' has shape [0, 4] and no elements");
    let metadata = server.get("/v2/models/iris-openvino").json();
    assert_eq!(metadata["platform"], "openvino_openvino");
    let input = json!([{"name": "measurements", "datatype": "FP32", "shape": [-1, 4]}]);
    assert_eq!(metadata["inputs"], input);
    server.stop();
}

#[test]
fn callers_at_once_are_one_batch() {
    const CALLERS: usize = 8;
    let server = server(&[]);
    // The batch is run when all of them are there.
    let batching = format!("batching = {{ max_rows = {CALLERS}, max_delay = \"10s\" }}");
    let package = package()
        .manifest("device = \"cpu\"", &format!("device = \"cpu\"\n{batching}"))
        .manifest("timeout = \"1s\"", "timeout = \"1m\"");
    let answer = server.upload("iris-openvino", "1", &package.to_tar());
    assert_eq!(answer.status, 201, "{answer}");
    let expected = expected();
    thread::scope(|scope| {
        for row in 0..CALLERS {
            let (server, expected) = (&server, &expected);
            scope.spawn(move || {
                let got = probabilities(server, "iris-openvino", &json!([expected["measurements"][row]]));
                assert_close(&got, &numbers(&expected["probabilities"][row]), TOLERANCE);
            });
        }
    });
    let statistics = server.get("/v2/models/iris-openvino/stats").json();
    let batches = statistics["model_stats"][0]["batch_stats"].as_array().unwrap();
    let sizes: Vec<_> = batches.iter().map(|batch| batch["batch_size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [CALLERS as u64], "{statistics:#}");
}

#[test]
fn what_cannot_be_run_is_refused_by_its_name() {
    let server = server(&["iris-openvino"]);
    let xml = String::from_utf8(package().data("iris.xml").to_vec()).unwrap();
    let with_xml = |xml: &str| package().version("2").file("iris.xml", xml);
    let with_key = |line: &str| package().version("2").manifest("device = \"cpu\"", line);
    for (package, status, expected) in [
        (with_key("device = \"gpu\""), 501, "device 'gpu:0' is not available to the openvino backend"),
        (with_key("backend = \"embedded\""), 501, "encoding 'openvino' is not read by the embedded backend"),
        (with_key("backend = \"onnxruntime\""), 501, "the onnxruntime backend is not loaded"),
        (with_key("threads = 2"), 501, "`threads` is not available to the openvino backend"),
        (package().version("2").manifest("weights = \"iris.bin\"", ""), 400, "name it with `weights`"),
        (package().version("2").without("iris.bin"), 400, "graph 'iris': weights names 'iris.bin'"),
        (with_xml(&xml[..xml.len() / 2]), 400, "the file is not an OpenVINO model"),
        (with_xml(""), 400, "the file is not an OpenVINO model"),
        (with_xml(&xml.replace("MatMul", "NoSuchOperator")), 501, "NoSuchOperator"),
        (with_xml(&xml.replace("shape=\"8, 4\"", "shape=\"8, 5\"")), 400, "failed to load"),
        (package().version("2").file("iris.bin", ""), 400, "does not lie within the 0 bytes of weights"),
    ] {
        let answer = server.upload("iris-openvino", "2", &package.to_tar());
        answer.assert_error(status, expected);
    }
    let got = probabilities(&server, "iris-openvino", &json!([[5.1, 3.5, 1.4, 0.2]]));
    assert!(got[0] > 0.9, "{got:?}");
    server.stop();
}

#[test]
fn without_the_library_it_is_named_and_how_to_get_it() {
    let server = Server::with(&[]);
    let answer = server.upload("iris-openvino", "1", &package().to_tar());
    answer.assert_error(501, "the openvino backend is not loaded: start the server with --openvino FILE");
    let folder = tempfile::tempdir().unwrap();
    let doctor = |openvino: &str| {
        let variables = [("VESPID_ONNXRUNTIME", "off"), ("VESPID_OPENVINO", openvino)];
        cli::vespid(folder.path(), &variables, &["doctor"])
    };
    let off = doctor("off");
    let off = &off.expect(0).stdout;
    assert!(off.contains("`cargo xtask setup openvino`"), "{off}");
    let there = doctor(&built::openvino());
    let there = &there.expect(0).stdout;
    assert!(there.contains("OpenVINO 20") && there.contains("devices: CPU"), "{there}");
    let wrong = ["serve", "--store", "store", "--openvino", "/nonexistent.so"];
    let wrong = cli::vespid(folder.path(), &[("VESPID_ONNXRUNTIME", "off")], &wrong);
    let wrong = &wrong.expect(1).stderr;
    assert!(wrong.contains("--openvino: /nonexistent.so: it cannot be loaded"), "{wrong}");
}
