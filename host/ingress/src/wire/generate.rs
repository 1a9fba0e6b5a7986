//! Triton's extension `generate`: a model that is asked as a function of named values.
//!
//! Contract: a field of the request's object, or of its `parameters`, that bears the name of an input is the input, a value or
//! a list; every other one is a parameter of the request. A value has no shape: it is given the model's, of whose
//! open dimensions the innermost takes what there is and the others 1. An answer holds the outputs by name, one
//! element as the value that it is and more as a flat list. Cost: one pass over the values. Left out on purpose: schemas
//! by which other servers rename fields.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;
use vespid_types::{
    Error, ErrorCode, Extent, ModelRef, NamedTensor, Parameters, Request, Response, Shape, Signature, Tensor,
    TensorSpec,
};

use super::data;
use super::fault::name;
use super::json::{self, Fields, MAX_RANK, WireParameter};
use super::request;
use super::write::{Style, put, put_data, put_parameter, put_text};

const WHAT: &str = "an object of inputs and parameters, such as {\"text_input\": \"...\"},";

const STYLE: Style = Style {
    nested: false,
    base64: false,
    remedy: "ask .../infer for the output, with the parameter binary_data: true",
};

/// What the answer says itself.
const RESERVED: [&str; 3] = ["model_name", "model_version", "id"];

/// Reads the body of a request to generate, for `target`, which has that signature.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field and the remedy.
pub fn decode(body: &[u8], target: ModelRef, signature: &Signature) -> Result<Request, Error> {
    let Fields(fields) = json::read(body, WHAT)?;
    let mut read = Read { signature, id: None, parameters: Parameters::new(), inputs: Vec::new() };
    for (field, value) in fields {
        match &*field {
            "parameters" if signature.input("parameters").is_none() => {
                let Fields(nested) = serde_json::from_str(value.get()).map_err(|error| {
                    Error::invalid(format!("parameters: expected an object of parameters: {error}"))
                })?;
                for (field, value) in nested {
                    read.take(&format_args!("parameters.{}", name(&field)), &field, value)?;
                }
            }
            "id" if signature.input("id").is_none() => {
                let text = serde_json::from_str(value.get());
                read.id = Some(text.map_err(|_| Error::invalid("id: expected a string"))?);
            }
            _ => read.take(&name(&field), &field, value)?,
        }
    }
    request::new(target, read.id, read.parameters, read.inputs)
}

struct Read<'a> {
    signature: &'a Signature,
    id: Option<String>,
    parameters: Parameters,
    inputs: Vec<NamedTensor>,
}

impl Read<'_> {
    fn take(&mut self, at: &dyn fmt::Display, field: &str, value: &RawValue) -> Result<(), Error> {
        let refuse = |reason: String| Error::invalid(format!("{at}: {reason}"));
        if let Some(input) = self.signature.input(field) {
            self.inputs.push(tensor(input, at, value.get())?);
            return Ok(());
        }
        let WireParameter(parameter) = serde_json::from_str(value.get()).map_err(|_| {
            let inputs: Vec<String> =
                self.signature.inputs.iter().map(|input| format!("'{}'", name(&input.name))).collect();
            refuse(format!(
                "a parameter is true, false, a number or a string, and an input is one of {}",
                inputs.join(", ")
            ))
        })?;
        match self.parameters.insert(field.to_owned(), parameter) {
            None => Ok(()),
            Some(_) => Err(refuse("it is given twice".to_owned())),
        }
    }
}

fn tensor(input: &TensorSpec, at: &dyn fmt::Display, text: &str) -> Result<NamedTensor, Error> {
    let refuse = |reason: String| Error::invalid(format!("{at}: {reason}"));
    let nested =
        data::extents(text, MAX_RANK).ok_or_else(|| refuse(format!("more than {MAX_RANK} dimensions")))?;
    let mut bytes = Vec::new();
    data::append(text, input.datatype, at, &nested, &mut bytes).map_err(Error::invalid)?;
    let shape = match &nested[..] {
        // Somebody who nests values says how they are meant.
        [_, _, ..] => nested,
        flat => {
            let count = flat.first().copied().unwrap_or(1);
            spread(&input.shape, count).ok_or_else(|| {
                let shape: Vec<i64> = input.shape.iter().map(|extent| extent.to_signed()).collect();
                refuse(format!(
                    "{count} values do not fill the model's shape {shape:?} (-1 stands for any extent)"
                ))
            })?
        }
    };
    let tensor =
        Tensor::new(input.datatype, shape, bytes.into()).map_err(|error| refuse(error.to_string()))?;
    Ok(NamedTensor { name: input.name.clone(), tensor })
}

/// The model's shape, filled with so many values.
fn spread(shape: &[Extent], count: u64) -> Option<Shape> {
    let fixed = shape.iter().try_fold(1_u64, |product, extent| match extent {
        Extent::Any => Some(product),
        Extent::Fixed(extent) => product.checked_mul(*extent),
    })?;
    // Nothing fills a shape that holds nothing, however often it is there.
    let rest = count.checked_div(fixed).unwrap_or(1);
    if rest.checked_mul(fixed)? != count {
        return None;
    }
    let innermost = shape.iter().rposition(|extent| *extent == Extent::Any);
    if innermost.is_none() && rest != 1 {
        return None;
    }
    let filled = shape.iter().enumerate().map(|(position, extent)| match extent {
        Extent::Fixed(extent) => *extent,
        Extent::Any if Some(position) == innermost => rest,
        Extent::Any => 1,
    });
    Some(filled.collect())
}

/// Writes an answer.
///
/// # Errors
/// `INVALID_ARGUMENT` where JSON cannot hold a value.
pub fn encode(response: &Response) -> Result<Bytes, Error> {
    let Response { model, version, id, parameters, outputs } = response;
    if let Some(output) = outputs.iter().find(|output| RESERVED.contains(&output.name.as_str())) {
        let message =
            format!("output '{}' has the name of a field of every answer: ask .../infer", output.name);
        return Err(Error::new(ErrorCode::Unsupported, message));
    }
    let mut json = Vec::new();
    // Names and versions of models need no escapes.
    put(
        &mut json,
        &["{\"model_name\":\"", model.as_str(), "\",\"model_version\":\"", &version.to_string(), "\""],
    );
    if let Some(id) = id {
        put(&mut json, &[",\"id\":"]);
        put_text(&mut json, id);
    }
    // A field that is there twice would be read as either.
    let taken = |field: &str| RESERVED.contains(&field) || outputs.iter().any(|output| output.name == field);
    for (field, value) in parameters.iter().filter(|(field, _)| !taken(field)) {
        field_name(&mut json, field);
        put_parameter(&mut json, field, value)?;
    }
    for output in outputs {
        field_name(&mut json, &output.name);
        let list = output.tensor.len() != 1;
        put(&mut json, &[if list { "[" } else { "" }]);
        put_data(&mut json, output, &STYLE)?;
        put(&mut json, &[if list { "]" } else { "" }]);
    }
    put(&mut json, &["}"]);
    Ok(json.into())
}

fn field_name(json: &mut Vec<u8>, field: &str) {
    put(json, &[","]);
    put_text(json, field);
    put(json, &[":"]);
}

/// An answer, or a failure, as a server-sent event.
#[must_use]
pub fn event(json: &[u8]) -> Bytes {
    // JSON has no line of its own within: it is one line of the event.
    [b"data: ", json, b"\n\n"].concat().into()
}

#[cfg(test)]
mod tests {
    use vespid_types::{Datatype, Parameter};

    use super::*;

    fn signature() -> Signature {
        let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
            name: name.into(),
            datatype,
            shape: shape.iter().map(|extent| Extent::from_signed(*extent).unwrap()).collect(),
            optional: false,
        };
        Signature {
            inputs: vec![
                spec("text", Datatype::Bytes, &[-1, 1]),
                spec("x", Datatype::Uint8, &[-1, -1, 2]),
                spec("fixed", Datatype::Uint8, &[2]),
            ],
            outputs: vec![],
        }
    }

    fn read(body: &str) -> Result<Request, String> {
        let target = ModelRef { name: "m".parse().unwrap(), version: None };
        decode(body.as_bytes(), target, &signature()).map_err(|error| error.message().to_owned())
    }

    fn shapes(body: &str) -> Vec<Vec<u64>> {
        read(body).unwrap().inputs.iter().map(|input| input.tensor.shape().to_vec()).collect()
    }

    #[test]
    fn values_take_the_model_s_shape() {
        assert_eq!(shapes(r#"{"text": "a"}"#), [[1, 1]]);
        assert_eq!(shapes(r#"{"text": ["a", "b"]}"#), [[2, 1]]);
        assert_eq!(shapes(r#"{"x": [1, 2, 3, 4, 5, 6]}"#), [[1, 3, 2]]);
        assert_eq!(shapes(r#"{"x": []}"#), [[1, 0, 2]]);
        assert_eq!(shapes(r#"{"x": [[[1, 2]], [[3, 4]]]}"#), [[2, 1, 2]]);
        assert_eq!(shapes(r#"{"fixed": [1, 2]}"#), [[2]]);
        for bad in
            [r#"{"fixed": 1}"#, r#"{"fixed": [1, 2, 3]}"#, r#"{"fixed": [1, 2, 3, 4]}"#, r#"{"x": [1]}"#]
        {
            assert!(read(bad).unwrap_err().contains("do not fill the model's shape"), "{bad}");
        }
    }

    #[test]
    fn other_fields_are_parameters() {
        let request =
            read(r#"{"text": "a", "id": "7", "stream": true, "parameters": {"fixed": [1, 2], "t": 0.5}}"#)
                .unwrap();
        assert_eq!(request.id.as_deref(), Some("7"));
        assert_eq!(request.parameters["stream"], Parameter::Bool(true));
        assert_eq!(request.parameters["t"], Parameter::Double(0.5));
        assert_eq!(request.inputs.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, expected) in [
            ("", "request body is empty"),
            ("[]", "request body is not an object of inputs and parameters"),
            ("{", "request body is not valid JSON"),
            (
                r#"{"other": [1]}"#,
                "other: a parameter is true, false, a number or a string, and an input is one of 'text'",
            ),
            (r#"{"other": null}"#, "other: a parameter"),
            (r#"{"parameters": 1}"#, "parameters: expected an object"),
            (r#"{"parameters": {"x": [1, "2"]}}"#, "parameters.x[1]: expected a UINT8 number"),
            (r#"{"a": 1, "parameters": {"a": 1}}"#, "parameters.a: it is given twice"),
            (r#"{"id": 1}"#, "id: expected a string"),
            (r#"{"x": [[1, 2], [3]]}"#, "x[1] holds 1 value, not 2"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.starts_with(expected), "{body}: {error}");
        }
        let nested = format!("{{\"x\": {}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert!(read(&nested).unwrap_err().contains("more than 64 dimensions"));
    }

    #[test]
    fn answers_hold_outputs_by_name() {
        let output = |name: &str, datatype, shape: &[u64], data: &[u8]| NamedTensor {
            name: name.into(),
            tensor: Tensor::new(datatype, Shape::from(shape), data.to_vec().into()).unwrap(),
        };
        let (model, version) = ("m".parse().unwrap(), "2".parse().unwrap());
        let parameters =
            [("final", Parameter::Bool(true)), ("y", Parameter::Int(1)), ("id", Parameter::Int(2))];
        let response = Response {
            model,
            version,
            id: Some("7".into()),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).into(),
            outputs: vec![
                output("text", Datatype::Bytes, &[1, 1], b"\x01\0\0\0\n"),
                output("y", Datatype::Uint8, &[2, 1], &[1, 2]),
                output("z", Datatype::Uint8, &[0], &[]),
            ],
        };
        let json = encode(&response).unwrap();
        let expected =
            r#"{"model_name":"m","model_version":"2","id":"7","final":true,"text":"\n","y":[1,2],"z":[]}"#;
        assert_eq!(json, expected);
        assert_eq!(event(&json), format!("data: {expected}\n\n"));
    }
}
