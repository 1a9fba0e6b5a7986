//! Predictions.

use std::time::Duration;

use bytes::Bytes;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};
use vespid_tests::archive::Archive;
use vespid_tests::server::Server;

use super::client::proto::infer_parameter::ParameterChoice;
use super::client::proto::model_infer_request::InferRequestedOutputTensor;
use super::client::proto::*;
use super::client::{Client, Outputs, assert_setosa, assert_status, flower, kind, raw, tensor};

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

#[test]
fn metadata_names_the_version_where_the_message_does_not() {
    let server = Server::with(&["iris"]);
    let answer = server.upload("iris", "2", &Archive::built("iris").version("2").to_tar());
    assert_eq!(answer.status, 201, "{answer}");
    let client = Client::of(&server);
    let ask = |metadata: &'static str, version: &str| {
        let mut request = Request::new(ModelInferRequest { model_version: version.to_owned(), ..flower() });
        request.metadata_mut().insert("vespid-model-version", metadata.parse().unwrap());
        client.infer(request)
    };
    for (metadata, version, expected) in [("1", "", "1"), ("2", "", "2"), ("1", "2", "2")] {
        assert_eq!(ask(metadata, version).unwrap().model_version, expected);
    }
    assert_status(ask("9", ""), Code::NotFound, "version 9 is not found");
    assert_status(ask("first", ""), Code::InvalidArgument, "header vespid-model-version: 'first'");
    let mut ready =
        Request::new(ModelReadyRequest { name: "iris".to_owned(), ..ModelReadyRequest::default() });
    ready.metadata_mut().insert("vespid-model-version", "9".parse().unwrap());
    assert!(!client.wait(client.service().model_ready(ready)).unwrap().ready);
    let mut metadata =
        Request::new(ModelMetadataRequest { name: "iris".to_owned(), ..ModelMetadataRequest::default() });
    metadata.metadata_mut().insert("vespid-model-version", "9".parse().unwrap());
    assert_status(client.wait(client.service().model_metadata(metadata)), Code::NotFound, "version 9");
}

#[test]
fn raw_and_typed_contents_are_answered_alike() {
    let server = Server::with(&["simple", "simple-string"]);
    let client = Client::of(&server);
    let numbers: Vec<i32> = (0..16).collect();
    let bytes: Bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    let inputs = || ["INPUT0", "INPUT1"].map(|name| tensor(name, "INT32", &[1, 16]));
    let raw = ModelInferRequest {
        model_name: "simple".into(),
        id: "four".into(),
        inputs: inputs().to_vec(),
        raw_input_contents: vec![bytes.clone(), bytes],
        ..ModelInferRequest::default()
    };
    let contents = InferTensorContents { int_contents: numbers.clone(), ..InferTensorContents::default() };
    let typed = inputs()
        .map(|input| model_infer_request::InferInputTensor { contents: Some(contents.clone()), ..input });
    let typed = ModelInferRequest { inputs: typed.to_vec(), raw_input_contents: Vec::new(), ..raw.clone() };
    let answer = client.infer(raw).unwrap();
    assert_eq!((&*answer.model_name, &*answer.model_version, &*answer.id), ("simple", "1", "four"));
    assert_eq!(answer.outputs[0].shape, [1, 16]);
    let sums: Bytes = numbers.iter().flat_map(|n| (2 * n).to_le_bytes()).collect();
    assert_eq!(answer.output("OUTPUT0"), &sums);
    assert_eq!(answer.output("OUTPUT1"), &Bytes::from(vec![0; 64]));
    assert_eq!(client.infer(typed).unwrap(), answer);

    let words: Vec<Bytes> = numbers.iter().map(|n| n.to_string().into()).collect();
    let contents = InferTensorContents { bytes_contents: words, ..InferTensorContents::default() };
    let input = |name| model_infer_request::InferInputTensor {
        contents: Some(contents.clone()),
        ..tensor(name, "BYTES", &[1, 16])
    };
    let answer = client.infer(ModelInferRequest {
        model_name: "simple_string".into(),
        inputs: vec![input("INPUT0"), input("INPUT1")],
        outputs: vec![InferRequestedOutputTensor { name: "OUTPUT0".into(), ..Default::default() }],
        ..ModelInferRequest::default()
    });
    let answer = answer.unwrap();
    assert_eq!(answer.outputs.len(), 1);
    assert!(answer.output("OUTPUT0").starts_with(b"\x01\0\0\x000\x01\0\0\x002\x01\0\0\x004"));
}

#[test]
fn failures_have_the_code_and_the_words_that_http_has() {
    let server = Server::with(&["iris", "error", "trap", "loop"]);
    let client = Client::of(&server);
    let named = |name: &str| ModelInferRequest { model_name: name.into(), ..flower() };
    let shaped =
        |shape: &[i64]| ModelInferRequest { inputs: vec![tensor("measurements", "FP32", shape)], ..flower() };
    let asks = |output: &str| ModelInferRequest {
        outputs: vec![InferRequestedOutputTensor { name: output.into(), ..Default::default() }],
        ..flower()
    };
    let timeout = |value| ModelInferRequest {
        parameters: [("timeout".to_owned(), parameter(value))].into(),
        ..flower()
    };
    for (request, code, message) in [
        (named("nothing"), Code::NotFound, "Request for unknown model: 'nothing' is not found"),
        (named("a/b"), Code::InvalidArgument, "'a/b' is not a model name"),
        (shaped(&[4]), Code::InvalidArgument, "'measurements' has shape [4]; the model expects [-1, 4]"),
        (
            shaped(&[1, 5]),
            Code::InvalidArgument,
            "inputs[0] 'measurements': 16 bytes of data; FP32 of shape [1, 5] takes 20",
        ),
        (asks("colour"), Code::InvalidArgument, "output 'colour' is unknown; the model has"),
        (timeout(ParameterChoice::StringParam("1".into())), Code::InvalidArgument, "parameters.timeout"),
        (timeout(ParameterChoice::Int64Param(1)), Code::DeadlineExceeded, "deadline"),
        (kind("error", 0), Code::InvalidArgument, "InvalidArgument, as the caller asked"),
        (kind("error", 1), Code::NotFound, "NotFound, as the caller asked"),
        (kind("error", 2), Code::Unimplemented, "Unsupported, as the caller asked"),
        (kind("error", 3), Code::Unavailable, "Unavailable, as the caller asked"),
        (kind("error", 4), Code::DeadlineExceeded, "DeadlineExceeded, as the caller asked"),
        (kind("error", 5), Code::Internal, "Internal, as the caller asked"),
        (kind("trap", 0), Code::Internal, "the plugin trapped"),
        (kind("loop", 0), Code::DeadlineExceeded, "the plugin did not answer before the deadline"),
    ] {
        assert_status(client.infer(request), code, message);
        assert_setosa(client.infer(flower()));
    }
}

#[test]
fn messages_beyond_the_limit_are_refused_either_way() {
    let server = Server::configured(&["--max-body", "1MiB"], &["simple-identity", "iris"]);
    let client = Client::of(&server);
    let text = |length: usize| {
        let mut data = u32::try_from(length).unwrap().to_le_bytes().to_vec();
        data.resize(length + 4, b'a');
        raw("simple_identity", "INPUT0", "BYTES", &[1, 1], data)
    };
    let most = (1 << 20) - 100;
    assert_eq!(client.infer(text(most)).unwrap().output("OUTPUT0").len(), most + 4);
    // 16 MiB are more than the connection takes before it has been read.
    for length in [1 << 20, 16 << 20] {
        assert_status(
            client.infer(text(length)),
            Code::ResourceExhausted,
            "the message is larger than the limit of 1.0 MiB",
        );
    }
    assert_setosa(client.infer(flower()));

    // Compressed it is small enough, until it is inflated.
    let mut zipping = client.service().send_compressed(CompressionEncoding::Gzip);
    assert_status(client.wait(zipping.model_infer(text(16 << 20))), Code::ResourceExhausted, "limit");
    assert_setosa(client.wait(zipping.model_infer(flower())));
}

#[test]
fn answers_are_compressed_where_requests_were() {
    let server = Server::with(&["simple-identity"]);
    let client = Client::of(&server);
    let mut data = vec![0x10, 0x27, 0, 0];
    data.resize(10_004, b'a');
    let request = || raw("simple_identity", "INPUT0", "BYTES", &[1, 1], data.clone());
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        let accepting = || client.service().accept_compressed(encoding);
        let plain = client.runtime.block_on(accepting().model_infer(request())).unwrap();
        assert_eq!(plain.metadata().get("grpc-encoding"), None);
        let mut zipping = accepting().send_compressed(encoding);
        let zipped = client.runtime.block_on(zipping.model_infer(request())).unwrap();
        assert_eq!(*zipped.metadata().get("grpc-encoding").unwrap(), *encoding.to_string());
        assert_eq!(zipped.into_inner(), plain.into_inner());
    }
}

#[test]
fn a_timeout_that_cannot_be_read_is_refused() {
    let server = Server::with(&["iris"]);
    let client = Client::of(&server);
    let mut request = Request::new(flower());
    request.metadata_mut().insert("grpc-timeout", "1x".parse().unwrap());
    assert_status(client.infer(request), Code::InvalidArgument, "grpc-timeout: expected");
    let mut request = Request::new(flower());
    request.set_timeout(Duration::from_secs(60));
    assert_setosa(client.infer(request));
}
