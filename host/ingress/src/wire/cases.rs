//! Requests and answers as recorded cases have them: the protocol's JSON, and files in the place of an input's data.
//!
//! Contract: a case is a person's own file, so that keys are checked where a client's are ignored. Cost: a request is read
//! twice, once for the files that it names.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use vespid_types::{Datatype, Error, NamedTensor, Parameters, Tensor};

use super::data;
use super::fault::name;
use super::json::{Fields, RequestParameters, WireShape};

/// What a response is to hold.
pub(crate) struct Answer {
    pub(crate) outputs: Vec<NamedTensor>,
    pub(crate) parameters: Parameters,
}

#[derive(Deserialize)]
struct WireAnswer<'a> {
    #[serde(borrow)]
    outputs: Vec<WireOutput<'a>>,
    parameters: Option<RequestParameters>,
}

#[derive(Deserialize)]
struct WireOutput<'a> {
    name: String,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: WireShape,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct WireFiles<'a> {
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    files: Vec<Cow<'a, str>>,
}

/// Reads the JSON of a response.
pub(crate) fn answer(json: &str) -> Result<Answer, Error> {
    let WireAnswer { outputs, parameters } = serde_json::from_str(json)
        .map_err(|error| Error::invalid(format!("not an inference response in JSON: {error}")))?;
    let output = |(index, output): (usize, WireOutput<'_>)| -> Result<NamedTensor, Error> {
        let WireOutput { name: output, datatype, shape: WireShape(shape), data } = output;
        let at = |reason: String| Error::invalid(format!("outputs[{index}] '{}': {reason}", name(&output)));
        let datatype: Datatype = datatype.parse().map_err(|error| at(format!("{error}")))?;
        let bytes = data::parse(data.get(), datatype, &shape).map_err(at)?;
        let tensor = Tensor::new(datatype, shape, bytes.into()).map_err(|error| at(error.to_string()))?;
        Ok(NamedTensor { name: output, tensor })
    };
    Ok(Answer {
        outputs: outputs.into_iter().enumerate().map(output).collect::<Result<_, _>>()?,
        parameters: parameters.map(|parameters| parameters.0).unwrap_or_default(),
    })
}

/// The body of a request in which `files` of inputs are binary data after the JSON: the JSON, and what follows it. `read`
/// gives what a file brings to a tensor of that datatype.
pub(crate) fn without_files(
    json: &str,
    mut read: impl FnMut(&str, Datatype) -> Result<Vec<u8>, Error>,
) -> Result<(String, Vec<u8>), Error> {
    let mut binary = Vec::new();
    let Ok(Fields(fields)) = serde_json::from_str(json) else {
        // What is wrong with it is said by what reads requests.
        return Ok((json.to_owned(), binary));
    };
    let mut body = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        let value = match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(inputs) if field == "inputs" => {
                let inputs = inputs.into_iter().enumerate();
                let inputs =
                    inputs.map(|(index, input)| without_file(index, input.get(), &mut binary, &mut read));
                Cow::Owned(format!("[{}]", inputs.collect::<Result<Vec<_>, _>>()?.join(",")))
            }
            _ => Cow::Borrowed(value.get()),
        };
        body.push(format!("{}:{value}", serde_json::Value::from(field)));
    }
    Ok((format!("{{{}}}", body.join(",")), binary))
}

fn without_file<'a>(
    index: usize,
    input: &'a str,
    binary: &mut Vec<u8>,
    read: &mut impl FnMut(&str, Datatype) -> Result<Vec<u8>, Error>,
) -> Result<Cow<'a, str>, Error> {
    let fields = match serde_json::from_str(input) {
        Ok(Fields(fields)) if fields.iter().any(|(field, _)| field == "files") => fields,
        _ => return Ok(Cow::Borrowed(input)),
    };
    let at = |reason: String| Error::invalid(format!("inputs[{index}]: {reason}"));
    if let Some((other, _)) = fields.iter().find(|(field, _)| field == "data" || field == "parameters") {
        return Err(at(format!("both 'files' and '{other}' are given: leave one out")));
    }
    let WireFiles { datatype, files } =
        serde_json::from_str(input).map_err(|error| at(format!("expected \"files\": [...]: {error}")))?;
    let datatype = datatype.parse().map_err(|error| at(format!("{error}")))?;
    let before = binary.len();
    for file in &files {
        binary
            .extend(read(file, datatype).map_err(|error| error.context(format!("inputs[{index}]: files")))?);
    }
    let rest = fields.iter().filter(|(field, _)| field != "files");
    let mut rest: Vec<String> =
        rest.map(|(field, value)| format!("{}:{value}", serde_json::Value::from(&**field))).collect();
    rest.push(format!("\"parameters\":{{\"binary_data_size\":{}}}", binary.len() - before));
    Ok(Cow::Owned(format!("{{{}}}", rest.join(","))))
}

/// Of a response's JSON what a case keeps, an output a line: neither the version nor the request's id is the model's.
pub(crate) fn recorded(json: &[u8]) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Written<'a> {
        #[serde(borrow)]
        outputs: Vec<&'a RawValue>,
        #[serde(borrow)]
        parameters: Option<&'a RawValue>,
    }
    let Written { outputs, parameters } = serde_json::from_slice(json)
        .map_err(|error| Error::internal("the answer's own JSON cannot be read").with_source(error))?;
    let outputs: Vec<String> = outputs.iter().map(|output| format!("\n      {output}")).collect();
    let parameters = parameters.map(|parameters| format!(",\n    \"parameters\": {parameters}"));
    Ok(format!("{{\n    \"outputs\": [{}\n    ]{}\n  }}", outputs.join(","), parameters.unwrap_or_default()))
}
