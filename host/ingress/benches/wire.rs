//! What reading and writing a body costs: `cargo bench -p vespid-ingress --bench wire`.
//!
//! Prints the best of several rounds, for on a busy machine the rest measures the neighbours.
#![allow(clippy::unwrap_used, reason = "a bench, which serves nobody")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vespid_ingress::wire::{OutputFormat, decode, encode};
use vespid_types::{Datatype, ModelRef, NamedTensor, Parameters, Response, Shape, Signature, Tensor};

fn main() {
    let row =
        r#"{"id":"7","inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}"#;
    decoding("decode [1,4] FP32 as JSON", &Bytes::from_static(row.as_bytes()), None);
    let json = r#"{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true}}"#;
    let mut body = json.as_bytes().to_vec();
    body.extend_from_slice(&[0; 16]);
    decoding("decode [1,4] FP32 as binary", &body.into(), Some(&json.len().to_string()));

    let floats: Vec<f32> = (0..1_000_000_u32).map(|n| (n as f32 * 0.731).sin()).collect();
    let shortest: Vec<String> = floats.iter().map(f32::to_string).collect();
    let widened: Vec<String> = floats.iter().map(|value| f64::from(*value).to_string()).collect();
    let whole: Vec<String> = (0..1_000_000_i64).map(|n| (n * 7919).to_string()).collect();
    let texts: Vec<String> = (0..200_000).map(|n| format!("\"word {n} of a text\"")).collect();
    decoding("decode FP32, shortest digits", &tensor("FP32", &shortest), None);
    decoding("decode FP32, as Python prints them", &tensor("FP32", &widened), None);
    decoding("decode FP64, as Python prints them", &tensor("FP64", &widened), None);
    decoding("decode INT64", &tensor("INT64", &whole), None);
    decoding("decode BYTES", &tensor("BYTES", &texts), None);

    encoding("encode [1,4] FP32 as JSON", floats.get(..4).unwrap_or_default(), &OutputFormat::json());
    encoding("encode [1,4] FP32 as binary", floats.get(..4).unwrap_or_default(), &OutputFormat::binary());
    encoding("encode FP32 as JSON", &floats, &OutputFormat::json());
    encoding("encode FP32 as binary", &floats, &OutputFormat::binary());
}

fn tensor(datatype: &str, data: &[String]) -> Bytes {
    let (rows, data) = (data.len(), data.join(","));
    format!(r#"{{"inputs":[{{"name":"x","shape":[{rows}],"datatype":"{datatype}","data":[{data}]}}]}}"#)
        .into()
}

fn decoding(what: &str, body: &Bytes, header: Option<&str>) {
    let target = ModelRef { name: "m".parse().unwrap(), version: None };
    let signature = Signature::default();
    measure(what, body.len(), || {
        decode(body.clone(), header, target.clone(), &signature).unwrap();
    });
}

fn encoding(what: &str, values: &[f32], format: &OutputFormat) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = Shape::from_iter([1, values.len() as u64]);
    let tensor = Tensor::new(Datatype::Fp32, shape, bytes.into()).unwrap();
    let response = Response {
        model: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        id: None,
        parameters: Parameters::new(),
        outputs: vec![NamedTensor { name: "y".into(), tensor }],
    };
    let length = encode(&response, format).unwrap().len();
    measure(what, length, || {
        black_box(encode(black_box(&response), format).unwrap());
    });
}

fn measure(what: &str, bytes: usize, mut run: impl FnMut()) {
    let repeats = (4_000_000 / bytes.max(1)).clamp(1, 20_000) as u32;
    let mut best = Duration::MAX;
    for _ in 0..25 {
        let start = Instant::now();
        for _ in 0..repeats {
            run();
        }
        best = best.min(start.elapsed() / repeats);
    }
    let rate = bytes as f64 / best.as_secs_f64() / 1e6;
    println!("{what:<36} {:>12} ns {rate:>8.0} MB/s of body", best.as_nanos());
}
