//! The gRPC routes without a client, which would keep deadlines by itself, and hide what is copied.

use axum::body::{Body, Bytes};
use axum::http::{Request, Version};
use futures_util::stream;
use http_body_util::BodyExt as _;
use prost::Message;
use tower::ServiceExt as _;
use vespid_nn::Backends;
use vespid_tests::archive::Archive;
use vespid_types::copied_bytes;

use crate::Host;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]
mod proto {
    tonic::include_proto!("inference");
}

use proto::model_infer_request::InferInputTensor;
use proto::{ModelInferRequest, ModelInferResponse};

/// What a call came to: the status, its message, and the answer where there is one.
struct Outcome {
    status: String,
    message: String,
    answer: Option<ModelInferResponse>,
}

/// Asks with a message that comes in frames of 16 kB, as a socket gives it.
async fn infer(host: &Host, headers: &[(&str, &str)], request: &ModelInferRequest) -> Outcome {
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(request.encoded_len()).unwrap().to_be_bytes());
    request.encode(&mut body).unwrap();
    let frames: Vec<_> =
        body.chunks(16 << 10).map(|frame| Ok::<_, std::io::Error>(Bytes::copy_from_slice(frame))).collect();
    let mut request = Request::post("/inference.GRPCInferenceService/ModelInfer")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from_stream(stream::iter(frames))).unwrap();
    let response = host.grpc.clone().oneshot(request).await.unwrap();
    let headers = response.headers().clone();
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or(headers);
    let of =
        |name: &str| trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let bytes = body.to_bytes();
    let answer = bytes.get(5..).map(|message| ModelInferResponse::decode(message).unwrap());
    Outcome { status: of("grpc-status"), message: of("grpc-message"), answer }
}

fn request(model: &str, input: &str, datatype: &str, shape: i64, data: Vec<u8>) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        inputs: vec![InferInputTensor {
            name: input.to_owned(),
            datatype: datatype.to_owned(),
            shape: vec![shape],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![data.into()],
        ..ModelInferRequest::default()
    }
}

#[tokio::test]
async fn tensors_are_copied_where_messages_are_put_together_and_nowhere_else() {
    let host = Host::with(Backends::embedded(), &["empty"]).await;
    let data: Vec<u8> = [5.1_f32, 3.5, 1.4, 0.2].map(f32::to_le_bytes).concat().repeat(10_000);
    let request = request("empty", "input", "FP32", 40_000, data.clone());
    let before = copied_bytes();
    let outcome = infer(&host, &[], &request).await;
    let copied = usize::try_from(copied_bytes() - before).unwrap();
    let answer = outcome.answer.unwrap_or_else(|| panic!("{} {}", outcome.status, outcome.message));
    assert_eq!(answer.raw_output_contents, [data.as_slice()]);
    // On the way in the frames of the message are joined, on the way out the message is written.
    assert_eq!(copied, 2 * data.len());
}

const DEADLINE_EXCEEDED: &str = "4";

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_call_is_that_of_the_request() {
    let host = Host::with(Backends::embedded(), &[]).await;
    host.push("loop", Archive::built("loop").manifest("500ms", "1h").to_tar()).await.unwrap();
    let request = request("loop", "kind", "INT32", 1, vec![0; 4]);
    for headers in
        [&[("grpc-timeout", "200m")][..], &[("grpc-timeout", "200000u"), ("grpc-encoding", "identity")]]
    {
        let outcome = infer(&host, headers, &request).await;
        assert_eq!(outcome.status, DEADLINE_EXCEEDED, "{}", outcome.message);
        assert_eq!(outcome.message, "the%20plugin%20did%20not%20answer%20before%20the%20deadline");
    }
    let outcome = infer(&host, &[("grpc-timeout", "0n")], &request).await;
    assert_eq!(outcome.status, DEADLINE_EXCEEDED, "{}", outcome.message);
    assert_eq!(host.statistics("loop").fail.count, 3);
}
