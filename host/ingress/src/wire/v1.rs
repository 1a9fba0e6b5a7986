//! Version 1 of the protocol, TensorFlow Serving's and KServe's: rows of values in, rows out.
//!
//! Contract: `{"instances": [...]}` holds a row each; of a model with one required input the row's values, else an object by
//! the names of the inputs. The datatype is the signature's, the shape that of the rows, of which all are alike. BYTES are
//! strings, or `{"b64": ...}` where they are no text, both ways. Cost: two passes over the rows, and one over the
//! answer's. Left out on purpose: columns (`inputs`), and the `signature_name` of models with several signatures.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use vespid_types::{
    Datatype, Error, ErrorCode, Extent, ModelRef, NamedTensor, Parameters, Request, Response, Shape,
    Signature, Tensor, TensorSpec,
};

use super::data;
use super::element::{Got, is_base64};
use super::fault::name;
use super::json::{self, Fields, MAX_RANK, Object};
use super::request;
use super::rows::Rows;
use super::write::{Style, put, put_data, put_list, put_text};

const WHAT: &str = "a prediction request, such as {\"instances\": [[1.0, 2.0]]},";

const STYLE: Style = Style {
    nested: true,
    base64: true,
    remedy: "ask /v2/models/MODEL/infer for the output, with the parameter binary_data: true",
};

/// More rows without a value than anybody has use for: each takes text in the answer.
const MAX_EMPTY_ROWS: u64 = 1 << 20;

#[derive(Deserialize)]
struct PredictBody<'a> {
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    inputs: Option<IgnoredAny>,
    #[serde(borrow)]
    signature_name: Option<Cow<'a, str>>,
}

/// Reads the body of a prediction request for `target`, which has that signature.
///
/// # Errors
/// `INVALID_ARGUMENT` with the field and the remedy.
pub fn decode(body: &[u8], target: ModelRef, signature: &Signature) -> Result<Request, Error> {
    let Object(PredictBody { instances, inputs, signature_name }) = json::read(body, WHAT)?;
    if let Some(other) = signature_name.filter(|name| name != "serving_default") {
        let message =
            format!("signature_name: '{}': a model has one signature, 'serving_default'", name(&other));
        return Err(Error::invalid(message));
    }
    if inputs.is_some() {
        return Err(Error::invalid("inputs: columns are not supported: send the rows as 'instances'"));
    }
    let rows = instances
        .map(RawValue::get)
        .ok_or_else(|| Error::invalid("instances: there is none: send an array of rows"))?;
    if !data::is_array(rows) {
        let got = Got(rows.trim_start());
        return Err(Error::invalid(format!("instances: expected an array of rows, got {got}")));
    }
    let only = only_input(signature);
    let named = match data::values(rows).next() {
        Some(Ok(first)) if first.starts_with('{') => {
            // Of an input of BYTES an object can be a value, too.
            !(only.is_some_and(|input| input.datatype == Datatype::Bytes) && is_base64(first))
        }
        _ => false,
    };
    let inputs = match only {
        _ if named => by_name(rows, signature)?,
        Some(input) => vec![plain(rows, input)?],
        None => {
            let names: Vec<String> =
                signature.inputs.iter().map(|input| format!("'{}'", name(&input.name))).collect();
            return Err(Error::invalid(format!(
                "instances[0]: expected an object with a value for each of the model's inputs: {}",
                names.join(", ")
            )));
        }
    };
    request::new(target, None, Parameters::new(), inputs)
}

/// The input that rows of values are for.
fn only_input(signature: &Signature) -> Option<&TensorSpec> {
    let mut required = signature.inputs.iter().filter(|input| !input.optional);
    match (required.next(), required.next()) {
        (Some(input), None) => Some(input),
        _ => None,
    }
}

/// Rows that are values of one input.
fn plain(rows: &str, input: &TensorSpec) -> Result<NamedTensor, Error> {
    let nested = nesting(rows, &"instances")?;
    let mut bytes = Vec::new();
    data::append(rows, input.datatype, &"instances", &nested, &mut bytes).map_err(Error::invalid)?;
    // What nothing looks like is not to be seen in it.
    let unseen = input.shape.iter().skip(if nested.contains(&0) { nested.len() } else { usize::MAX });
    let unseen = unseen.map(|extent| match extent {
        Extent::Any => 0,
        Extent::Fixed(extent) => *extent,
    });
    tensor(input, nested.iter().copied().chain(unseen).collect(), bytes)
}

fn nesting(text: &str, at: &dyn std::fmt::Display) -> Result<Shape, Error> {
    data::extents(text, MAX_RANK)
        .ok_or_else(|| Error::invalid(format!("{at}: more than {MAX_RANK} dimensions")))
}

fn tensor(input: &TensorSpec, shape: Shape, bytes: Vec<u8>) -> Result<NamedTensor, Error> {
    let tensor = Tensor::new(input.datatype, shape, bytes.into())
        .map_err(|error| Error::invalid(format!("instances: input '{}': {error}", name(&input.name))))?;
    Ok(NamedTensor { name: input.name.clone(), tensor })
}

/// What the rows have had for one input.
struct Column<'a> {
    input: &'a TensorSpec,
    /// The shape in one row.
    row: Shape,
    rows: u64,
    bytes: Vec<u8>,
}

/// Rows that are objects by the names of the inputs.
fn by_name(rows: &str, signature: &Signature) -> Result<Vec<NamedTensor>, Error> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    let mut count = 0;
    for row in data::values(rows) {
        let fields = fields(row).map_err(|reason| Error::invalid(format!("instances[{count}]: {reason}")))?;
        for (field, value) in fields {
            let at = format_args!("instances[{count}].{}", name(&field));
            let column = match columns.iter_mut().position(|column| column.input.name == field) {
                Some(position) => columns.get_mut(position),
                None if count == 0 => {
                    let input = signature.input(&field);
                    let input =
                        input.ok_or_else(|| Error::invalid(format!("{at}: the model has no such input")))?;
                    columns.push(Column {
                        input,
                        row: nesting(value.get(), &at)?,
                        rows: 0,
                        bytes: Vec::new(),
                    });
                    columns.last_mut()
                }
                None => None,
            };
            let column =
                column.ok_or_else(|| Error::invalid(format!("{at}: the rows before have no such value")))?;
            if column.rows > count {
                return Err(Error::invalid(format!("{at}: it is given twice")));
            }
            let Column { input, row, bytes, .. } = column;
            data::append(value.get(), input.datatype, &at, row, bytes).map_err(Error::invalid)?;
            column.rows += 1;
        }
        count += 1;
        if let Some(short) = columns.iter().find(|column| column.rows < count) {
            return Err(Error::invalid(format!(
                "instances[{}]: it lacks '{}', which the rows before have",
                count - 1,
                name(&short.input.name)
            )));
        }
    }
    let whole = |Column { input, row, rows, bytes }: Column<'_>| {
        tensor(input, [rows].into_iter().chain(row.iter().copied()).collect(), bytes)
    };
    columns.into_iter().map(whole).collect()
}

fn fields<'a>(row: Result<&'a str, &'static str>) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>, String> {
    let expected = "expected an object by the names of the inputs, as the first row is; got";
    let row = row.map_err(|kind| format!("{expected} {kind}"))?;
    if !row.starts_with('{') {
        return Err(format!("{expected} {}", Got(row)));
    }
    let Fields(fields) = serde_json::from_str(row).map_err(|error| error.to_string())?;
    Ok(fields)
}

/// Writes the answer: a row each, of several outputs an object.
///
/// # Errors
/// `INVALID_ARGUMENT` where JSON cannot hold a value, `UNSUPPORTED` where the outputs are not rows.
pub fn encode(response: &Response) -> Result<Bytes, Error> {
    let rows = count_rows(&response.outputs)?;
    let mut json = Vec::new();
    let mut failed = None;
    put(&mut json, &["{\"predictions\":["]);
    let mut outputs: Vec<_> =
        response.outputs.iter().map(|output| (output.name.as_str(), Rows::of(&output.tensor))).collect();
    let single = outputs.len() == 1;
    put_list(&mut json, 0..rows, |json, _| {
        put(json, &[if single { "" } else { "{" }]);
        put_list(json, outputs.iter_mut(), |json, (name, rows)| {
            if !single {
                put_text(json, name);
                put(json, &[":"]);
            }
            if let Some(tensor) = rows.next() {
                let row = NamedTensor { name: (*name).to_owned(), tensor };
                if let Err(error) = put_data(json, &row, &STYLE) {
                    failed.get_or_insert(error);
                }
            }
        });
        put(json, &[if single { "" } else { "}" }]);
    });
    put(&mut json, &["]}"]);
    failed.map_or(Ok(json.into()), Err)
}

fn count_rows(outputs: &[NamedTensor]) -> Result<u64, Error> {
    let unsupported =
        |what: String| Error::new(ErrorCode::Unsupported, format!("{what}: ask /v2/models/MODEL/infer"));
    let mut rows = None;
    for NamedTensor { name: output, tensor } in outputs {
        let output = name(output);
        match tensor.shape().first() {
            None => return Err(unsupported(format!("output '{output}' has no dimension for rows"))),
            Some(count) if *rows.get_or_insert(*count) != *count => {
                return Err(unsupported(format!(
                    "output '{output}' has another number of rows than the others"
                )));
            }
            Some(count) if tensor.is_empty() && *count > MAX_EMPTY_ROWS => {
                return Err(unsupported(format!("output '{output}' has {count} rows without a value")));
            }
            Some(_) => {}
        }
    }
    Ok(rows.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(outputs: Vec<(&str, Tensor)>) -> Result<String, String> {
        let outputs =
            outputs.into_iter().map(|(name, tensor)| NamedTensor { name: name.to_owned(), tensor }).collect();
        let (model, version) = ("m".parse().unwrap(), "1".parse().unwrap());
        let response = Response { model, version, id: None, parameters: Parameters::new(), outputs };
        encode(&response)
            .map(|json| String::from_utf8(json.to_vec()).unwrap())
            .map_err(|error| error.message().to_owned())
    }

    fn tensor(datatype: Datatype, shape: &[u64], data: &[u8]) -> Tensor {
        Tensor::new(datatype, Shape::from(shape), data.to_vec().into()).unwrap()
    }

    #[test]
    fn rows_of_one_output_are_its_values() {
        let one = tensor(Datatype::Uint8, &[2, 2], &[1, 2, 3, 4]);
        assert_eq!(encoded(vec![("y", one)]).unwrap(), r#"{"predictions":[[1,2],[3,4]]}"#);
        let texts = Tensor::from_elements(Shape::from(&[2][..]), &[&b"a"[..], b"\xff"]).unwrap();
        assert_eq!(encoded(vec![("y", texts)]).unwrap(), r#"{"predictions":["a",{"b64":"/w=="}]}"#);
        assert_eq!(encoded(vec![]).unwrap(), r#"{"predictions":[]}"#);
    }

    #[test]
    fn rows_of_several_outputs_are_objects() {
        let one = tensor(Datatype::Uint8, &[2], &[1, 2]);
        let texts = Tensor::from_elements(Shape::from(&[2, 2][..]), &["a", "b", "", "d"]).unwrap();
        assert_eq!(
            encoded(vec![("y", one.clone()), ("z", texts)]).unwrap(),
            r#"{"predictions":[{"y":1,"z":["a","b"]},{"y":2,"z":["","d"]}]}"#
        );
        let other = tensor(Datatype::Uint8, &[1], &[1]);
        assert!(encoded(vec![("y", one), ("z", other)]).unwrap_err().contains("another number of rows"));
    }

    #[test]
    fn what_is_no_rows_is_refused() {
        assert!(
            encoded(vec![("y", tensor(Datatype::Uint8, &[], &[1]))]).unwrap_err().contains("no dimension")
        );
        let nothing = tensor(Datatype::Uint8, &[1 << 40, 0], &[]);
        assert!(encoded(vec![("y", nothing)]).unwrap_err().contains("rows without a value"));
        let nothing = tensor(Datatype::Uint8, &[2, 0], &[]);
        assert_eq!(encoded(vec![("y", nothing)]).unwrap(), r#"{"predictions":[[],[]]}"#);
        let nan = tensor(Datatype::Fp32, &[1], &f32::NAN.to_le_bytes());
        assert!(encoded(vec![("y", nan)]).unwrap_err().contains("binary_data"));
    }
}
