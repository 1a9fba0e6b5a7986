//! Bodies of requests in JSON.

use std::sync::LazyLock;

use bytes::Bytes;
use vespid_ingress::fuzzing;
use vespid_ingress::wire::openai::EmbeddingsRequest;
use vespid_ingress::wire::{decode, generate, is_request, v1};
use vespid_types::{Parameters, Signature};

use crate::check::{answer, assert_same, is_bounded, model, name, reads_back, refused, signature};

/// `POST /v2/models/MODEL/infer`, JSON alone.
pub fn infer_json(data: &[u8]) {
    match decode(Bytes::copy_from_slice(data), None, model(), &Signature::default()) {
        Ok((request, _)) => {
            assert!(is_request(data));
            is_bounded(&request, data.len());
            reads_back(&request, &request.parameters);
        }
        Err(error) => refused(&error),
    }
}

/// The same with binary tensors. The JSON ends at the first byte that is 0, which JSON has none of, so that the header's number fits
/// however long the JSON becomes. What begins with a digit gives the number itself, up to a line's end.
pub fn infer_binary(data: &[u8]) {
    static MODEL: LazyLock<Signature> = LazyLock::new(|| {
        signature(r#"{"inputs":[{"name":"x","datatype":"INT32","shape":[-1,2]}],"outputs":[]}"#)
    });
    let (length, body) = match data.first() {
        Some(digit) if digit.is_ascii_digit() => match data.iter().position(|byte| *byte == b'\n') {
            Some(at) => (String::from_utf8_lossy(&data[..at]).into_owned(), data[at + 1..].to_vec()),
            None => (String::from_utf8_lossy(data).into_owned(), Vec::new()),
        },
        _ => {
            let json = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
            (json.to_string(), [&data[..json], data.get(json + 1..).unwrap_or_default()].concat())
        }
    };
    let bytes = body.len();
    match decode(Bytes::from(body), Some(&length), model(), &MODEL) {
        Ok((request, _)) => {
            is_bounded(&request, bytes);
            reads_back(&request, &request.parameters);
        }
        Err(error) => refused(&error),
    }
}

/// Models that are asked by the names of their inputs; the first byte of the data chooses one.
static MODELS: LazyLock<Vec<Signature>> = LazyLock::new(|| {
    [
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}],"outputs":[]}"#,
        r#"{"inputs":[{"name":"x","datatype":"BYTES","shape":[-1]}],"outputs":[]}"#,
        r#"{"inputs":[{"name":"x","datatype":"INT64","shape":[-1,-1]},{"name":"y","datatype":"BYTES","shape":[-1,1]}],"outputs":[]}"#,
        r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[-1,2,0]},{"name":"o","datatype":"BOOL","shape":[2],"optional":true}],"outputs":[]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP16","shape":[]}],"outputs":[]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[9223372036854775807,-1,9223372036854775807]}],"outputs":[]}"#,
    ]
    .map(signature)
    .into()
});

fn chosen(data: &[u8]) -> Option<(&'static Signature, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((MODELS.get(usize::from(*first) % MODELS.len())?, rest))
}

/// `POST /v1/models/MODEL:predict`.
pub fn predict(data: &[u8]) {
    let Some((signature, body)) = chosen(data) else { return };
    let request = match v1::decode(body, model(), signature) {
        Ok(request) => request,
        Err(error) => return refused(&error),
    };
    is_bounded(&request, body.len());
    reads_back(&request, &Parameters::new());
    let answer = answer(&request, Parameters::new());
    // Rows of no value at all are told of by the signature.
    if answer.outputs.is_empty() {
        return;
    }
    // The rows of one output are values, which are of the one input that has to be there.
    let mut required = signature.inputs.iter().filter(|input| !input.optional);
    if let [one] = &answer.outputs[..]
        && (required.next().is_none_or(|input| input.name != one.name) || required.next().is_some())
    {
        return;
    }
    // The shape of what is empty is not to be seen, and a single value is no row.
    if answer.outputs.iter().any(|output| output.tensor.is_empty() || output.tensor.shape().is_empty()) {
        return;
    }
    let written = match v1::encode(&answer) {
        Ok(written) => String::from_utf8(written.to_vec()).expect("JSON is text"),
        Err(error) => return refused(&error),
    };
    let rows = written.replacen("predictions", "instances", 1);
    let again = v1::decode(rows.as_bytes(), model(), signature).expect("what was written is read");
    assert_same(&again.inputs, &request.inputs);
}

/// `POST /v2/models/MODEL/generate`.
pub fn generates(data: &[u8]) {
    let Some((signature, body)) = chosen(data) else { return };
    match generate::decode(body, model(), signature) {
        Ok(request) => {
            is_bounded(&request, body.len());
            // `binary_data_output` is a word to `infer` alone.
            reads_back(&request, &Parameters::new());
            let written = generate::encode(&answer(&request, Parameters::new()));
            written.map_or_else(|error| refused(&error), |json| assert!(is_json(&json)));
        }
        Err(error) => refused(&error),
    }
}

/// `POST /v1/embeddings`.
pub fn embeddings(data: &[u8]) {
    static MODEL: LazyLock<Signature> = LazyLock::new(|| {
        signature(
            r#"{"inputs":[{"name":"t","datatype":"BYTES","shape":[-1,1]}],"outputs":[{"name":"e","datatype":"FP32","shape":[-1,2]}]}"#,
        )
    });
    match EmbeddingsRequest::read(data).and_then(|read| read.decode(&MODEL)) {
        Ok((request, _)) => {
            is_bounded(&request, data.len());
            reads_back(&request, &Parameters::new());
        }
        Err(fault) => refused(&fault.error),
    }
}

/// `POST /v2/repository/models/MODEL/load`, and `POST /v2/batches`.
pub fn control(data: &[u8]) {
    if let Err(error) = fuzzing::load(&name(), data) {
        refused(&error);
    }
    if let Err(error) = fuzzing::job(data) {
        refused(&error);
    }
}

fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}
