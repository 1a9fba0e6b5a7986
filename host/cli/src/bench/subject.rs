//! The request that is measured: read as `vespid predict` reads it, or made.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vespid_types::{Extent, NamedTensor, Signature};

use super::{BenchArgs, made};
use crate::client::{Client, Prepared};
use crate::failure::Failure;
use crate::oip::{self, Metadata};
use crate::predict::request;
use crate::ui;

/// A request, ready to be sent, and what is known of it.
pub(super) struct Subject {
    /// The model's path.
    pub(super) model: String,
    pub(super) request: Prepared,
    /// The length of its body.
    pub(super) bytes: usize,
    pub(super) encoding: Encoding,
    pub(super) inputs: Vec<Input>,
    /// The extent of the first dimension, where the model takes batches.
    pub(super) rows: Option<u64>,
    /// What was made, where the user gave no inputs.
    pub(super) made: Option<String>,
}

/// How the inputs travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    Binary,
    Json,
}

/// An input as the report names it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Input {
    name: String,
    datatype: String,
    shape: Vec<u64>,
}

struct Body {
    bytes: Vec<u8>,
    header: Option<usize>,
    encoding: Encoding,
    inputs: Vec<Input>,
    made: Option<String>,
}

impl Subject {
    /// Asks the server about the model, so that one that it has not shows before anything is measured.
    pub(super) fn new(args: &BenchArgs, client: &Client) -> anyhow::Result<Self> {
        let model = oip::model_path(&args.model, args.version);
        let signature = Signature::from(client.get::<Metadata>(&model)?);
        let Body { bytes, header, encoding, inputs, made } = match args.input.whole()? {
            Some(text) => whole(text),
            None => tensors(args, &signature)?,
        };
        let rows = rows(&signature, &inputs);
        let length = bytes.len();
        let request = client.prepare(&format!("{model}/infer"), Bytes::from(bytes), header)?;
        Ok(Self { model, request, bytes: length, encoding, inputs, rows, made })
    }

    /// For people, a line.
    pub(super) fn describe(&self) -> String {
        let mut text = self.made.as_ref().map(|made| format!("{}; ", ui::clean(made))).unwrap_or_default();
        let encoding = if self.encoding == Encoding::Json { "JSON" } else { "binary tensors" };
        text.push_str(&format!("a request is {} of {encoding}", ui::size(self.bytes as u64)));
        match self.rows {
            Some(1) => text + ", 1 row",
            Some(rows) => format!("{text}, {rows} rows"),
            None => text,
        }
    }
}

/// A request that was written before.
fn whole(text: Vec<u8>) -> Body {
    #[derive(Deserialize)]
    struct Request {
        inputs: Vec<Input>,
    }
    // It is sent as it is; where it is wrong the server says so.
    let inputs = serde_json::from_slice(&text).map(|Request { inputs }| inputs).unwrap_or_default();
    Body { bytes: text, header: None, encoding: Encoding::Json, inputs, made: None }
}

fn tensors(args: &BenchArgs, signature: &Signature) -> Result<Body, Failure> {
    let (tensors, made) = if args.input.is_empty() {
        let tensors = made::make(signature, &args.shapes, args.data, args.seed)?;
        let made = made::describe(&tensors, args.data, args.seed);
        (tensors, Some(made))
    } else {
        (args.input.tensors(signature)?, None)
    };
    let inputs = tensors.iter().map(input).collect();
    let mut parameters = args.input.parameters.clone();
    if args.json_request {
        let bytes = request::encode_json(&tensors, &parameters, args.timeout, &args.model)?;
        return Ok(Body { bytes, header: None, encoding: Encoding::Json, inputs, made });
    }
    const BINARY_OUTPUT: &str = "binary_data_output";
    if parameters.iter().all(|(name, _)| name != BINARY_OUTPUT) {
        parameters.push((BINARY_OUTPUT.to_owned(), Value::Bool(true)));
    }
    let encoded = request::encode(&tensors, &parameters, args.timeout)?;
    let header = Some(encoded.header);
    Ok(Body { bytes: encoded.body, header, encoding: Encoding::Binary, inputs, made })
}

fn input(NamedTensor { name, tensor }: &NamedTensor) -> Input {
    Input {
        name: name.clone(),
        datatype: tensor.datatype().as_str().to_owned(),
        shape: tensor.shape().to_vec(),
    }
}

/// The extent that all inputs have first, where the model leaves it open for each of them.
fn rows(signature: &Signature, inputs: &[Input]) -> Option<u64> {
    let rows = *inputs.first()?.shape.first()?;
    let batch = |input: &Input| {
        let spec = signature.input(&input.name);
        input.shape.first() == Some(&rows)
            && spec.is_some_and(|spec| spec.shape.first() == Some(&Extent::Any))
    };
    inputs.iter().all(batch).then_some(rows)
}

#[cfg(test)]
mod tests {
    use vespid_types::{Datatype, TensorSpec};

    use super::*;

    #[test]
    fn rows_are_an_open_first_dimension_that_all_inputs_share() {
        let spec = |name: &str, shape: &[Extent]| TensorSpec {
            name: name.into(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
            optional: false,
        };
        let inputs = vec![
            spec("a", &[Extent::Any, Extent::Fixed(4)]),
            spec("b", &[Extent::Any]),
            spec("c", &[Extent::Fixed(3)]),
            spec("d", &[]),
        ];
        let signature = Signature { inputs, outputs: vec![] };
        let rows = |inputs: &[(&str, &[u64])]| {
            let input = |(name, shape): &(&str, &[u64])| Input {
                name: (*name).to_owned(),
                datatype: "FP32".into(),
                shape: shape.to_vec(),
            };
            super::rows(&signature, &inputs.iter().map(input).collect::<Vec<_>>())
        };
        assert_eq!(rows(&[("a", &[8, 4]), ("b", &[8])]), Some(8));
        assert_eq!(rows(&[("a", &[8, 4]), ("b", &[7])]), None);
        assert_eq!(rows(&[("c", &[3])]), None);
        assert_eq!(rows(&[("d", &[])]), None);
        assert_eq!(rows(&[("e", &[1])]), None);
        assert_eq!(rows(&[]), None);
    }

    #[test]
    fn a_written_request_tells_its_inputs() {
        let body =
            whole(br#"{"inputs":[{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#.to_vec());
        assert_eq!(body.inputs[0].shape, [1, 2]);
        assert!(whole(b"not json".to_vec()).inputs.is_empty());
    }
}
