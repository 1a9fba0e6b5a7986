//! Requests and answers of the Open Inference Protocol.

use serde_json::{Value, json};

use crate::http::Answer;

/// A request with one input.
#[must_use]
pub fn request(name: &str, datatype: &str, shape: &[usize], data: impl Into<Value>) -> Value {
    json!({"inputs": [input(name, datatype, shape, data)]})
}

/// An input of a request.
#[must_use]
pub fn input(name: &str, datatype: &str, shape: &[usize], data: impl Into<Value>) -> Value {
    json!({"name": name, "datatype": datatype, "shape": shape, "data": data.into()})
}

/// A request to one of the hostile plugins.
#[must_use]
pub fn kind(kind: i32) -> Value {
    request("kind", "INT32", &[1], vec![kind])
}

/// The flower that the `iris` models are asked about where any will do.
#[must_use]
pub fn flower() -> Value {
    request("measurements", "FP32", &[1, 4], vec![5.1, 3.5, 1.4, 0.2])
}

/// Checks that the answer to [`flower`] is right.
pub fn assert_setosa(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(output(answer, "species")["data"], json!(["setosa"]), "{answer}");
}

/// An output of an answer.
#[must_use]
pub fn output(answer: &Answer, name: &str) -> Value {
    assert_eq!(answer.status, 200, "{answer}");
    let json = answer.json();
    let outputs = json["outputs"].as_array().unwrap_or_else(|| panic!("no outputs: {answer}"));
    let output = outputs.iter().find(|output| output["name"] == name);
    output.unwrap_or_else(|| panic!("no output '{name}': {answer}")).clone()
}

/// The names of an answer's outputs, in order.
#[must_use]
pub fn output_names(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let outputs = json["outputs"].as_array().unwrap_or_else(|| panic!("no outputs: {answer}"));
    outputs.iter().map(|output| output["name"].as_str().unwrap().to_owned()).collect()
}

/// The numbers of a tensor's data, nested or not.
#[must_use]
pub fn numbers(data: &Value) -> Vec<f64> {
    match data {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))],
    }
}

/// Checks that numbers are equal but for rounding.
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    let close = |(got, expected): (&f64, &f64)| (got - expected).abs() <= tolerance;
    assert!(
        got.len() == expected.len() && got.iter().zip(expected).all(close),
        "not within {tolerance}:\n     got {got:?}\nexpected {expected:?}"
    );
}
