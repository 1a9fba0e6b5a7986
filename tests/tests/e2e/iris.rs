//! The classifier, against what the code that trained it predicts.

use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};
use vespid_tests::built::repository;
use vespid_tests::http::Answer;
use vespid_tests::oip::{assert_close, numbers, output, request};
use vespid_tests::server::Server;

const TOLERANCE: f64 = 1e-5;

/// `plugins/iris/expected.json`, which `train.py` writes.
#[derive(Deserialize)]
struct Expected {
    measurements: Vec<Vec<f64>>,
    species: Vec<String>,
    probabilities: Vec<Vec<f64>>,
}

impl Expected {
    fn read() -> Self {
        let text = fs::read(repository("plugins/iris/expected.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn check(&self, answer: &Answer, rows: std::ops::Range<usize>) {
        let probabilities = output(answer, "probabilities");
        assert_eq!(probabilities["shape"], json!([rows.len(), 3]), "{answer}");
        let expected = self.probabilities[rows].concat();
        assert_close(&numbers(&probabilities["data"]), &expected, TOLERANCE);
    }
}

fn measurements(rows: usize, data: impl Into<Value>) -> Value {
    request("measurements", "FP32", &[rows, 4], data)
}

#[test]
fn the_plugins_and_the_native_graph_predict_what_the_training_code_does() {
    let models = ["iris", "iris-python", "iris-js", "iris-native"];
    let server = Server::with(&models);
    let expected = Expected::read();
    let rows = expected.measurements.len();
    assert!(rows > 10, "there are flowers of all kinds");
    for model in models {
        let nested = json!(expected.measurements);
        let flat = json!(expected.measurements.concat());
        for data in [nested, flat] {
            expected.check(&server.infer(model, &measurements(rows, data)), 0..rows);
        }
        for row in 0..rows {
            let data = json!([expected.measurements[row]]);
            expected.check(&server.infer(model, &measurements(1, data)), row..row + 1);
        }
    }
    for plugin in ["iris", "iris-python", "iris-js"] {
        let answer = server.infer(plugin, &measurements(rows, json!(expected.measurements)));
        assert_eq!(output(&answer, "species")["data"], json!(expected.species));
    }
}
