//! OpenAI's API, as far as it is about what is served here: embeddings of texts, and the list of models.
//!
//! Contract: a model answers embeddings if it has one required input, of BYTES in one dimension or in rows of one, and one
//! output alone that is FP32 of two dimensions. Texts are strings; tokens are refused, for they are one model's own. What a
//! model counts as tokens it says in the response parameter `prompt_tokens`; where it says nothing, `usage` is 0. Cost:
//! one pass over the texts, one over the embeddings. Left out on purpose: `user`, which is nobody's business here.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use vespid_types::{
    Datatype, Error, ErrorCode, Extent, ModelName, ModelRef, NamedTensor, Parameter, Parameters, Request,
    Response, Shape, Signature, Tensor, TensorSpec,
};

use super::data;
use super::element::Got;
use super::fault::name;
use super::json::{self, Object};
use super::request;
use super::rows::Rows;
use super::write::{Style, put, put_base64, put_data, put_list, put_text, put_whole};

const WHAT: &str = "a request for embeddings, such as {\"model\": \"...\", \"input\": \"...\"},";

const FLOATS: Style =
    Style { nested: true, base64: false, remedy: "ask for them with encoding_format: \"base64\"" };

/// The response parameter in which a model counts.
const TOKENS: &str = "prompt_tokens";

/// What is wrong with a request, and with which of its fields.
#[derive(Debug)]
pub struct Fault {
    /// The refusal.
    pub error: Error,
    /// The field, where it is one in particular.
    pub field: Option<&'static str>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, field: None }
    }
}

fn in_field(field: &'static str, reason: impl fmt::Display) -> Fault {
    Fault { error: Error::invalid(format!("{field}: {reason}")), field: Some(field) }
}

/// A request for embeddings, as it was read.
pub struct EmbeddingsRequest<'a> {
    /// The model that is asked.
    pub model: ModelName,
    input: &'a str,
    encoding: Encoding,
    dimensions: Option<u64>,
}

/// How an embedding is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    Float,
    Base64,
}

#[derive(Deserialize)]
struct EmbeddingsBody<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    encoding_format: Option<Cow<'a, str>>,
    dimensions: Option<json::Count>,
}

impl<'a> EmbeddingsRequest<'a> {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(body: &'a [u8]) -> Result<Self, Fault> {
        let Object(EmbeddingsBody { model, input, encoding_format, dimensions }) = json::read(body, WHAT)?;
        let model = model.ok_or_else(|| in_field("model", "there is none: name the model"))?;
        let model = model.parse().map_err(|error| in_field("model", error))?;
        let input =
            input.ok_or_else(|| in_field("input", "there is none: send a text, or an array of texts"))?;
        let encoding = match encoding_format.as_deref() {
            None => Encoding::default(),
            Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(other) => {
                let reason = format!("'{}' is not supported: use 'float' or 'base64'", name(other));
                return Err(in_field("encoding_format", reason));
            }
        };
        let dimensions = dimensions.map(|json::Count(dimensions)| dimensions);
        Ok(Self { model, input: input.get(), encoding, dimensions })
    }

    /// The request for a model of that signature, and how its answer is to be written.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn decode(&self, signature: &Signature) -> Result<(Request, Answer), Fault> {
        let (input, output) = embedder(signature).ok_or_else(|| {
            in_field("model", format!("'{}' does not answer embeddings: {RULE}", self.model))
        })?;
        let width = output.shape.get(1).copied();
        if let (Some(asked), Some(Extent::Fixed(width))) = (self.dimensions, width)
            && asked != width
        {
            return Err(in_field("dimensions", format!("{asked} is not supported: the model's are {width}")));
        }
        if self.dimensions.is_some() && width == Some(Extent::Any) {
            return Err(in_field("dimensions", "is not supported: the model does not say how many it has"));
        }
        let (texts, bytes) = read_texts(self.input).map_err(|error| Fault { error, field: Some("input") })?;
        let shape: Shape = [texts].into_iter().chain(input.shape.iter().skip(1).map(|_| 1)).collect();
        let tensor =
            Tensor::new(Datatype::Bytes, shape, bytes.into()).map_err(|error| in_field("input", error))?;
        let inputs = vec![NamedTensor { name: input.name.clone(), tensor }];
        let target = ModelRef { name: self.model.clone(), version: None };
        let mut request = request::new(target, None, Parameters::new(), inputs)?;
        request.outputs.push(output.name.clone());
        Ok((request, Answer { texts, encoding: self.encoding }))
    }
}

const RULE: &str = "one required input, of BYTES in one dimension, and one FP32 output of two dimensions make a model that does";

/// The input and the output of a model that answers embeddings.
fn embedder(signature: &Signature) -> Option<(&TensorSpec, &TensorSpec)> {
    let mut required = signature.inputs.iter().filter(|input| !input.optional);
    let (Some(input), None) = (required.next(), required.next()) else { return None };
    let takes_texts = match input.shape[..] {
        [_] => true,
        [_, width] => matches!(width, Extent::Any | Extent::Fixed(1)),
        _ => false,
    };
    let mut embeddings = signature
        .outputs
        .iter()
        .filter(|output| output.datatype == Datatype::Fp32 && output.shape.len() == 2);
    match (embeddings.next(), embeddings.next()) {
        (Some(output), None) if takes_texts && input.datatype == Datatype::Bytes => Some((input, output)),
        _ => None,
    }
}

/// How many texts there are, and their bytes.
fn read_texts(input: &str) -> Result<(u64, Vec<u8>), Error> {
    const NO_TOKENS: &str = "tokens are not supported: send the text itself";
    let mut bytes = Vec::new();
    if !data::is_array(input) {
        let input = input.trim_start();
        if !input.starts_with('"') {
            return Err(Error::invalid(format!(
                "input: expected a text or an array of texts, got {}",
                Got(input)
            )));
        }
        data::append(input, Datatype::Bytes, &"input", &[], &mut bytes).map_err(Error::invalid)?;
        return Ok((1, bytes));
    }
    let mut texts = 0;
    for value in data::values(input) {
        match value {
            Ok(text) if text.starts_with('"') => {
                let at = format_args!("input[{texts}]");
                data::append(text, Datatype::Bytes, &at, &[], &mut bytes).map_err(Error::invalid)?;
            }
            Ok(other) if !other.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                return Err(Error::invalid(format!("input[{texts}]: expected a text, got {}", Got(other))));
            }
            _ => return Err(Error::invalid(format!("input[{texts}]: {NO_TOKENS}"))),
        }
        texts += 1;
    }
    match texts {
        0 => Err(Error::invalid("input: the array is empty: send a text at least")),
        _ => Ok((texts, bytes)),
    }
}

/// How the answer to a request for embeddings is written.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    texts: u64,
    encoding: Encoding,
}

impl Answer {
    /// Writes the answer.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` where JSON cannot hold a value, `PLUGIN_FAILED` where there is not an embedding for each text.
    pub fn encode(self, response: &Response) -> Result<Bytes, Error> {
        let [output] = &response.outputs[..] else {
            return Err(Error::internal("embeddings are one output"));
        };
        let rows = output.tensor.shape().first().copied().unwrap_or_default();
        if rows != self.texts {
            let message = format!("the model's answer: {rows} embeddings for {} texts", self.texts);
            return Err(Error::new(ErrorCode::PluginFailed, message));
        }
        let mut json = Vec::new();
        let mut failed = None;
        put(&mut json, &["{\"object\":\"list\",\"data\":["]);
        put_list(&mut json, Rows::of(&output.tensor).enumerate(), |json, (index, tensor)| {
            put(json, &["{\"object\":\"embedding\",\"index\":"]);
            put_whole(json, index);
            put(json, &[",\"embedding\":"]);
            match self.encoding {
                Encoding::Base64 => put_base64(json, tensor.data()),
                Encoding::Float => {
                    let row = NamedTensor { name: output.name.clone(), tensor };
                    if let Err(error) = put_data(json, &row, &FLOATS) {
                        failed.get_or_insert(error);
                    }
                }
            }
            put(json, &["}"]);
        });
        let tokens = match response.parameters.get(TOKENS) {
            Some(Parameter::Int(tokens)) => (*tokens).max(0),
            _ => 0,
        };
        put(&mut json, &["],\"model\":"]);
        put_text(&mut json, response.model.as_str());
        put(&mut json, &[",\"usage\":{\"prompt_tokens\":"]);
        put_whole(&mut json, tokens);
        put(&mut json, &[",\"total_tokens\":"]);
        put_whole(&mut json, tokens);
        put(&mut json, &["}}"]);
        failed.map_or(Ok(json.into()), Err)
    }
}

/// A model as OpenAI lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelObject {
    id: ModelName,
    object: &'static str,
    /// When, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
}

impl ModelObject {
    /// A model that became ready then.
    #[must_use]
    pub fn new(name: ModelName, created: u64) -> Self {
        Self { id: name, object: "model", created, owned_by: "vespid" }
    }
}

/// A list of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelList {
    object: &'static str,
    data: Vec<ModelObject>,
}

impl ModelList {
    /// The list of these.
    #[must_use]
    pub fn new(data: Vec<ModelObject>) -> Self {
        Self { object: "list", data }
    }
}

/// The body for a failure: `{"error": {...}}`.
#[must_use]
pub fn error_body(error: &Error, field: Option<&str>) -> Bytes {
    let kind = match error.code() {
        ErrorCode::Internal
        | ErrorCode::PluginFailed
        | ErrorCode::Unavailable
        | ErrorCode::DeadlineExceeded => "server_error",
        ErrorCode::Unauthenticated => "authentication_error",
        ErrorCode::PermissionDenied => "permission_error",
        ErrorCode::ResourceExhausted => "rate_limit_error",
        _ => "invalid_request_error",
    };
    let code = match error.code() {
        ErrorCode::NotFound => "model_not_found".to_owned(),
        code => code.as_str().to_ascii_lowercase(),
    };
    let mut json = Vec::with_capacity(error.message().len() + 96);
    put(&mut json, &["{\"error\":{\"message\":"]);
    put_text(&mut json, error.message());
    put(&mut json, &[",\"type\":\"", kind, "\",\"param\":"]);
    match field {
        Some(field) => put_text(&mut json, field),
        None => put(&mut json, &["null"]),
    }
    put(&mut json, &[",\"code\":\"", &code, "\"}}"]);
    json.into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn signature(inputs: &Value, outputs: &Value) -> Signature {
        serde_json::from_value(json!({"inputs": inputs, "outputs": outputs})).unwrap()
    }

    fn embed() -> Signature {
        signature(
            &json!([{"name": "text", "datatype": "BYTES", "shape": [-1]}]),
            &json!([{"name": "embedding", "datatype": "FP32", "shape": [-1, 2]}]),
        )
    }

    fn read(
        body: &Value,
        signature: &Signature,
    ) -> Result<(Request, Answer), (String, Option<&'static str>)> {
        let body = serde_json::to_vec(body).unwrap();
        let read = EmbeddingsRequest::read(&body).and_then(|request| request.decode(signature));
        read.map_err(|Fault { error, field }| (error.message().to_owned(), field))
    }

    #[test]
    fn a_text_and_several_are_read() {
        let read =
            |input: Value| read(&json!({"model": "m", "input": input, "user": 7}), &embed()).unwrap().0;
        let request = read(json!("a"));
        assert_eq!(request.inputs[0].tensor.shape()[..], [1]);
        assert_eq!(request.outputs, ["embedding"]);
        let request = read(json!(["a", "", "ä\n"]));
        let texts: Vec<_> = request.inputs[0].tensor.elements().contents().collect();
        assert_eq!(texts, [b"a", &b""[..], "ä\n".as_bytes()]);
        let rows = signature(
            &json!([{"name": "t", "datatype": "BYTES", "shape": [-1, 1]}]),
            &json!([{"name": "e", "datatype": "FP32", "shape": [-1, 2]}, {"name": "n", "datatype": "INT64", "shape": [-1, 1]}]),
        );
        let (request, _) = super::tests::read(&json!({"model": "m", "input": ["a", "b"]}), &rows).unwrap();
        assert_eq!(request.inputs[0].tensor.shape()[..], [2, 1]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let with = |field: &str, value: Value| {
            let mut body = json!({"model": "m", "input": "a"});
            body[field] = value;
            read(&body, &embed()).unwrap_err()
        };
        for (field, value, expected) in [
            ("input", json!([1, 2]), "input[0]: tokens are not supported"),
            ("input", json!([[1, 2]]), "input[0]: tokens are not supported"),
            ("input", json!(["a", 1]), "input[1]: tokens are not supported"),
            ("input", json!([null]), "input[0]: expected a text, got null"),
            ("input", json!([{"b64": ""}]), "input[0]: expected a text, got an object"),
            ("input", json!({}), "input: expected a text or an array of texts, got an object"),
            ("input", json!([]), "input: the array is empty"),
            ("input", Value::Null, "input: there is none"),
            ("encoding_format", json!("int8"), "encoding_format: 'int8' is not supported"),
            ("dimensions", json!(3), "dimensions: 3 is not supported: the model's are 2"),
            ("model", json!("a/b"), "model: 'a/b' is not a model name"),
            ("model", Value::Null, "model: there is none"),
        ] {
            let (message, at) = with(field, value);
            assert!(message.starts_with(expected) && at == Some(field), "{message} {at:?}");
        }
        assert!(read(&json!({"model": "m", "input": "a", "dimensions": 2}), &embed()).is_ok());
        assert!(read(&json!([]), &embed()).unwrap_err().0.contains("not a request for embeddings"));
    }

    #[test]
    fn models_that_do_not_embed_are_refused() {
        let text = json!({"name": "t", "datatype": "BYTES", "shape": [-1]});
        let vector = json!({"name": "e", "datatype": "FP32", "shape": [-1, 2]});
        for (inputs, outputs) in [
            (json!([text, {"name": "u", "datatype": "BYTES", "shape": [-1]}]), json!([vector])),
            (json!([{"name": "t", "datatype": "FP32", "shape": [-1]}]), json!([vector])),
            (json!([{"name": "t", "datatype": "BYTES", "shape": [-1, 2]}]), json!([vector])),
            (json!([text]), json!([vector, {"name": "f", "datatype": "FP32", "shape": [-1, 3]}])),
            (json!([text]), json!([{"name": "e", "datatype": "FP32", "shape": [-1]}])),
            (json!([text]), json!([])),
        ] {
            let error =
                read(&json!({"model": "m", "input": "a"}), &signature(&inputs, &outputs)).unwrap_err();
            assert!(error.0.starts_with("model: 'm' does not answer embeddings") && error.1 == Some("model"));
        }
    }

    #[test]
    fn embeddings_are_numbers_or_base64() {
        let answer = |encoding: &str, rows: u64, values: &[f32], parameters: Parameters| {
            let texts: Vec<String> = (0..2).map(|n| n.to_string()).collect();
            let body = json!({"model": "m", "input": texts, "encoding_format": encoding});
            let (_, answer) = read(&body, &embed()).unwrap();
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let tensor = Tensor::new(Datatype::Fp32, Shape::from(&[rows, 2][..]), data.into()).unwrap();
            let outputs = vec![NamedTensor { name: "embedding".into(), tensor }];
            let (model, version) = ("m".parse().unwrap(), "1".parse().unwrap());
            answer.encode(&Response { model, version, id: None, parameters, outputs })
        };
        let counted = Parameters::from([(TOKENS.to_owned(), Parameter::Int(7))]);
        let json: Value =
            serde_json::from_slice(&answer("float", 2, &[0.5, 1.0, -0.1, 2.0], counted).unwrap()).unwrap();
        assert_eq!(
            json,
            json!({
                "object": "list",
                "data": [
                    {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]},
                    {"object": "embedding", "index": 1, "embedding": [-0.1, 2.0]},
                ],
                "model": "m",
                "usage": {"prompt_tokens": 7, "total_tokens": 7},
            })
        );
        let nan = [1.0, f32::NAN, 0.0, 0.0];
        let json: Value =
            serde_json::from_slice(&answer("base64", 2, &nan, Parameters::new()).unwrap()).unwrap();
        assert_eq!(json["data"][0]["embedding"], "AACAPwAAwH8=");
        assert_eq!(json["usage"]["total_tokens"], 0);
        assert!(answer("float", 2, &nan, Parameters::new()).unwrap_err().message().contains("base64"));
        let error = answer("float", 1, &[0.0, 0.0], Parameters::new()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::PluginFailed);
    }

    #[test]
    fn errors_have_openai_s_shape() {
        let error = Error::new(ErrorCode::NotFound, "no \"x\"");
        let body: Value = serde_json::from_slice(&error_body(&error, Some("model"))).unwrap();
        let expected = json!({
            "error": {"message": "no \"x\"", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        });
        assert_eq!(body, expected);
        let body = error_body(&Error::exhausted("x", None), None);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["error"]["type"], &body["error"]["code"]),
            (&json!("rate_limit_error"), &json!("resource_exhausted"))
        );
    }
}
