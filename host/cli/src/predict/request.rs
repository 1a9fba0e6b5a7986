//! A request of the Open Inference Protocol: the JSON text, then the tensors' bytes; or all of it as JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use vespid_ingress::wire::{self, OutputFormat};
use vespid_types::{ModelName, NamedTensor, Parameters, Response};

use crate::failure::{Failure, Hint};

/// A request's body.
pub(crate) struct Encoded {
    pub(crate) body: Vec<u8>,
    /// The length of the JSON text at its beginning.
    pub(crate) header: usize,
}

/// Puts a request together. The time limit goes along, so that the server too knows when nobody waits any more.
pub(crate) fn encode(
    inputs: &[NamedTensor],
    parameters: &[(String, Value)],
    timeout: Option<Duration>,
) -> Result<Encoded, Failure> {
    let all = with_timeout(parameters, timeout);
    let tensors: Vec<Value> = inputs
        .iter()
        .map(|NamedTensor { name, tensor }| {
            json!({
                "name": name,
                "datatype": tensor.datatype(),
                "shape": tensor.shape().to_vec(),
                "parameters": { "binary_data_size": tensor.data().len() },
            })
        })
        .collect();
    let mut request = Map::from_iter([("inputs".to_owned(), Value::Array(tensors))]);
    if !all.is_empty() {
        request.insert("parameters".to_owned(), Value::Object(all));
    }
    let mut body =
        serde_json::to_vec(&request).hint("the request cannot be written as JSON", "report this")?;
    let header = body.len();
    for input in inputs {
        body.extend_from_slice(input.tensor.data());
    }
    Ok(Encoded { body, header })
}

/// The same as JSON alone. A request's tensors are written as an answer's are, so that the server's own code writes them.
pub(crate) fn encode_json(
    inputs: &[NamedTensor],
    parameters: &[(String, Value)],
    timeout: Option<Duration>,
    model: &ModelName,
) -> Result<Vec<u8>, Failure> {
    const UNFIT: &str = "the inputs cannot be written as JSON";
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        outputs: &'a RawValue,
    }
    #[derive(Serialize)]
    struct Request<'a> {
        #[serde(skip_serializing_if = "Map::is_empty")]
        parameters: Map<String, Value>,
        inputs: &'a RawValue,
    }
    let answer = Response {
        model: model.clone(),
        version: "1".parse().hint(UNFIT, "report this")?,
        id: None,
        parameters: Parameters::new(),
        outputs: inputs.to_vec(),
    };
    let answer = wire::encode(&answer, &OutputFormat::json())
        .hint(UNFIT, "send them in binary: leave --json-request out")?;
    let Answer { outputs } = serde_json::from_slice(&answer.head).hint(UNFIT, "report this")?;
    let request = Request { parameters: with_timeout(parameters, timeout), inputs: outputs };
    serde_json::to_vec(&request).hint(UNFIT, "report this")
}

fn with_timeout(parameters: &[(String, Value)], timeout: Option<Duration>) -> Map<String, Value> {
    let mut all: Map<String, Value> = parameters.iter().cloned().collect();
    if let Some(timeout) = timeout {
        let microseconds = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX).max(1);
        all.entry("timeout").or_insert(microseconds.into());
    }
    all
}

/// Reads `NAME=VALUE`. What is neither true, false nor a number is text; quotes make text of those too.
pub(crate) fn parameter(argument: &str) -> Result<(String, Value), String> {
    let (name, text) = argument
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| "write NAME=VALUE".to_owned())?;
    let value = match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::from(text),
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use vespid_types::{Datatype, Shape, Tensor};

    use super::*;

    #[test]
    fn tensors_follow_the_text() {
        let tensor = |data: &'static [u8]| {
            Tensor::new(Datatype::Uint8, Shape::from_iter([data.len() as u64]), data.into()).unwrap()
        };
        let inputs = [("a", &b"12"[..]), ("b", b"345")]
            .map(|(name, data)| NamedTensor { name: name.into(), tensor: tensor(data) });
        let parameters = [("priority".to_owned(), Value::from(1))];
        let Encoded { body, header } = encode(&inputs, &parameters, Some(Duration::from_millis(2))).unwrap();
        assert_eq!(&body[header..], b"12345");
        let text: Value = serde_json::from_slice(&body[..header]).unwrap();
        assert_eq!(
            text,
            json!({
                "parameters": {"priority": 1, "timeout": 2000},
                "inputs": [
                    {"name": "a", "datatype": "UINT8", "shape": [2], "parameters": {"binary_data_size": 2}},
                    {"name": "b", "datatype": "UINT8", "shape": [3], "parameters": {"binary_data_size": 3}},
                ]
            })
        );
    }

    #[test]
    fn tensors_can_be_part_of_the_text() {
        let tensor = Tensor::new(
            Datatype::Fp32,
            Shape::from_iter([1, 2]),
            [0.1_f32, -3.0].map(f32::to_le_bytes).concat().into(),
        );
        let text = Tensor::from_elements(Shape::from_iter([1]), &["a\"b"]);
        let inputs = [("x", tensor.unwrap()), ("t", text.unwrap())]
            .map(|(name, tensor)| NamedTensor { name: name.into(), tensor });
        let model = "m".parse().unwrap();
        let encoded = encode_json(&inputs, &[], Some(Duration::from_secs(1)), &model).unwrap();
        let text: Value = serde_json::from_slice(&encoded).unwrap();
        assert_eq!(
            text,
            json!({
                "parameters": {"timeout": 1_000_000},
                "inputs": [
                    {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.1, -3.0]},
                    {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["a\"b"]},
                ]
            })
        );
        assert_eq!(encode_json(&[], &[], None, &model).unwrap(), br#"{"inputs":[]}"#);
        let nan = Tensor::new(Datatype::Fp64, Shape::default(), f64::NAN.to_le_bytes().to_vec().into());
        let nan = NamedTensor { name: "n".into(), tensor: nan.unwrap() };
        assert!(encode_json(&[nan], &[], None, &model).is_err());
    }

    #[test]
    fn parameters_have_types() {
        let value = |text: &str| parameter(&format!("p={text}")).unwrap().1;
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!(value("3"), json!(3));
        assert_eq!(value("0.5"), json!(0.5));
        assert_eq!(value("a=b"), json!("a=b"));
        assert_eq!(value("\"3\""), json!("3"));
        assert_eq!(value("[1]"), json!("[1]"));
        assert_eq!(value(""), json!(""));
        assert!(parameter("p").is_err() && parameter("=1").is_err());
    }
}
