//! Requests and responses over one stream.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use vespid_tests::archive::Archive;
use vespid_tests::server::Server;
use vespid_tests::wait;

use super::client::proto::infer_parameter::ParameterChoice;
use super::client::proto::*;
use super::client::{Client, Outputs, assert_setosa, assert_status, flower, kind, raw, tensor};

/// A stream that is open.
pub(crate) struct Stream<'a> {
    client: &'a Client,
    requests: Option<mpsc::UnboundedSender<ModelInferRequest>>,
    responses: Streaming<ModelStreamInferResponse>,
}

impl<'a> Stream<'a> {
    fn open(client: &'a Client) -> Self {
        Self::with(client, &[])
    }

    pub(crate) fn with(client: &'a Client, metadata: &[(&'static str, &str)]) -> Self {
        let (requests, sent) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(sent));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let responses = client.wait(client.service().model_stream_infer(request)).unwrap();
        Self { client, requests: Some(requests), responses }
    }

    pub(crate) fn send(&self, request: ModelInferRequest) {
        self.requests.as_ref().unwrap().send(request).unwrap();
    }

    /// Says that no more requests come.
    fn finish(&mut self) {
        self.requests = None;
    }

    fn next(&mut self) -> Result<Option<ModelStreamInferResponse>, Status> {
        let next = async { tokio::time::timeout(wait::LIMIT, self.responses.message()).await };
        self.client.runtime.block_on(next).expect("a response in time")
    }

    /// A response that is there already, or almost.
    fn soon(&mut self) -> Option<ModelStreamInferResponse> {
        let next = async { tokio::time::timeout(Duration::from_millis(50), self.responses.message()).await };
        self.client.runtime.block_on(next).ok()?.unwrap()
    }

    pub(crate) fn answer(&mut self) -> ModelInferResponse {
        let response = self.next().unwrap().expect("a response");
        assert_eq!(response.error_message, "");
        response.infer_response.unwrap()
    }

    /// The id of the request that failed, and why.
    pub(crate) fn failure(&mut self) -> (String, String) {
        let response = self.next().unwrap().expect("a response");
        assert_ne!(response.error_message, "");
        (response.infer_response.unwrap().id, response.error_message)
    }
}

fn named(id: impl Into<String>, request: ModelInferRequest) -> ModelInferRequest {
    ModelInferRequest { id: id.into(), ..request }
}

fn with(request: ModelInferRequest, name: &str, value: ParameterChoice) -> ModelInferRequest {
    let mut request = request;
    request.parameters.insert(name.to_owned(), InferParameter { parameter_choice: Some(value) });
    request
}

/// A request for a response for each value, `delay` milliseconds before each.
fn repeat(values: &[i32], delay: u32) -> ModelInferRequest {
    let count = i64::try_from(values.len()).unwrap();
    let delays: Vec<u8> = values.iter().flat_map(|_| delay.to_le_bytes()).collect();
    let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    ModelInferRequest {
        model_name: "repeat_int32".into(),
        inputs: vec![tensor("IN", "INT32", &[count]), tensor("DELAY", "UINT32", &[count])],
        raw_input_contents: vec![values.into(), delays.into()],
        ..ModelInferRequest::default()
    }
}

fn is_final(response: &ModelInferResponse) -> bool {
    match response.parameters["triton_final_response"].parameter_choice {
        Some(ParameterChoice::BoolParam(is_final)) => is_final,
        _ => panic!("{response:?}"),
    }
}

fn number(response: &ModelInferResponse, output: &str) -> i32 {
    i32::from_le_bytes(response.output(output)[..].try_into().unwrap())
}

#[test]
fn each_request_is_answered_in_order() {
    let server = Server::with(&["iris", "error"]);
    let client = Client::of(&server);
    let mut stream = Stream::open(&client);
    // More than are answered at once.
    let count = 300;
    for id in 0..count {
        stream.send(match id % 10 {
            3 => named(id.to_string(), ModelInferRequest { model_name: "nothing".into(), ..flower() }),
            7 => named(id.to_string(), kind("error", 0)),
            _ => named(id.to_string(), flower()),
        });
    }
    stream.finish();
    for id in 0..count {
        match id % 10 {
            3 => {
                let (failed, reason) = stream.failure();
                assert_eq!(failed, id.to_string());
                assert!(reason.starts_with("Request for unknown model: 'nothing'"), "{reason}");
            }
            7 => assert_eq!(
                stream.failure(),
                (id.to_string(), "InvalidArgument, as the caller asked".to_owned())
            ),
            _ => {
                let answer = stream.answer();
                assert!(answer.id == id.to_string() && is_final(&answer), "{answer:?}");
                assert_setosa(Ok(answer));
            }
        }
    }
    assert!(stream.next().unwrap().is_none());
}

#[test]
fn metadata_names_the_version_of_each_request_that_names_none() {
    let server = Server::with(&["iris"]);
    let answer = server.upload("iris", "2", &Archive::built("iris").version("2").to_tar());
    assert_eq!(answer.status, 201, "{answer}");
    let client = Client::of(&server);
    let mut stream = Stream::with(&client, &[("vespid-model-version", "1")]);
    stream.send(flower());
    assert_eq!(stream.answer().model_version, "1");
    stream.send(ModelInferRequest { model_version: "2".to_owned(), ..flower() });
    assert_eq!(stream.answer().model_version, "2");
}

#[test]
fn who_asks_for_a_status_gets_one_and_the_stream_ends() {
    let server = Server::with(&["iris"]);
    let client = Client::of(&server);
    let mut stream = Stream::with(&client, &[("triton_grpc_error", "true")]);
    stream.send(flower());
    assert_setosa(Ok(stream.answer()));
    stream.send(ModelInferRequest { model_name: "nothing".into(), ..flower() });
    assert_status(stream.next(), Code::NotFound, "Request for unknown model");
}

#[test]
fn a_decoupled_model_has_several_responses() {
    let server = Server::with(&["repeat-int32", "iris"]);
    let client = Client::of(&server);
    let mut stream = Stream::open(&client);
    stream.send(named("a", repeat(&[4, -1, 9], 0)));
    for (index, value) in [4, -1, 9].into_iter().enumerate() {
        let answer = stream.answer();
        assert_eq!((&*answer.id, number(&answer, "OUT"), number(&answer, "IDX")), ("a", value, index as i32));
        assert!(!is_final(&answer));
    }
    // The end is told to those who want to know.
    let tell =
        |request| with(request, "triton_enable_empty_final_response", ParameterChoice::BoolParam(true));
    for values in [&[7][..], &[]] {
        stream.send(tell(named("b", repeat(values, 0))));
        for value in values {
            assert_eq!(number(&stream.answer(), "OUT"), *value);
        }
        let end = stream.answer();
        assert!(is_final(&end) && end.outputs.is_empty());
        assert_eq!((&*end.model_name, &*end.model_version, &*end.id), ("repeat_int32", "1", "b"));
    }
    // A response to each request is told to be the last as it is.
    stream.send(tell(flower()));
    assert!(is_final(&stream.answer()));
    stream
        .send(named("c", ModelInferRequest { inputs: vec![], raw_input_contents: vec![], ..repeat(&[], 0) }));
    assert_eq!(
        stream.failure(),
        ("c".to_owned(), "input 'IN' is missing; the model expects 'IN', 'DELAY', 'WAIT'".to_owned())
    );
    stream.finish();
    assert!(stream.next().unwrap().is_none());
    // Outside of a stream there is room for one response.
    assert_status(client.infer(repeat(&[1], 0)), Code::Unimplemented, "ask for a stream of responses");
}

#[test]
fn responses_come_as_they_are_made() {
    let server = Server::with(&["repeat-int32", "iris"]);
    let client = Client::of(&server);
    let mut stream = Stream::open(&client);
    let began = Instant::now();
    stream.send(named("slow", repeat(&[1, 2], 2000)));
    stream.send(named("quick", repeat(&[3], 0)));
    stream.send(flower());
    let answers = [stream.answer(), stream.answer()].map(|answer| answer.id);
    assert!(answers.contains(&"quick".to_owned()) && answers.contains(&String::new()), "{answers:?}");
    assert_eq!(number(&stream.answer(), "OUT"), 1);
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(number(&stream.answer(), "OUT"), 2);
    assert!(began.elapsed() >= Duration::from_secs(4));
}

#[test]
fn requests_of_a_sequence_are_answered_one_after_another() {
    let server = Server::with(&["simple-sequence"]);
    let client = Client::of(&server);
    let mut stream = Stream::open(&client);
    let length = 50;
    for step in 1..=length {
        for sequence in [1_i64, 2, 3] {
            let value = i32::try_from(sequence * step).unwrap();
            let request =
                raw("simple_sequence", "INPUT", "INT32", &[1, 1], Bytes::from(value.to_le_bytes().to_vec()));
            let request = with(request, "sequence_id", ParameterChoice::Int64Param(sequence));
            let request = with(request, "sequence_start", ParameterChoice::BoolParam(step == 1));
            let request = with(request, "sequence_end", ParameterChoice::BoolParam(step == length));
            stream.send(named(format!("{sequence}-{step}"), request));
        }
    }
    stream.finish();
    for step in 1..=length {
        for sequence in [1, 2, 3] {
            let answer = stream.answer();
            assert_eq!(answer.id, format!("{sequence}-{step}"));
            assert_eq!(i64::from(number(&answer, "OUTPUT")), sequence * step * (step + 1) / 2);
        }
    }
    assert!(stream.next().unwrap().is_none());
}

#[test]
fn a_stream_that_is_given_up_ends_its_calls() {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris", "repeat-int32"]);
    let package = Archive::built("loop").manifest("500ms", "1h").to_tar();
    assert_eq!(server.upload("loop", "1", &package).status, 201);
    let client = Client::of(&server);
    for endless in [kind("loop", 0), repeat(&[0; 1000], 60_000)] {
        let mut stream = Stream::open(&client);
        stream.send(endless.clone());
        wait::until("the server is busy with it", || match client.infer(flower()) {
            Err(_) => Some(()),
            Ok(_) => {
                // This one may have been in its way.
                if stream.soon().is_some() {
                    stream.send(endless.clone());
                }
                None
            }
        });
        drop(stream);
        wait::until("the call has ended", || client.infer(flower()).ok());
    }
}

#[test]
fn the_deadline_of_the_stream_is_that_of_each_request() {
    let server = Server::with(&["repeat-int32"]);
    let client = Client::of(&server);
    let mut stream = Stream::with(&client, &[("grpc-timeout", "500m")]);
    stream.send(named("a", repeat(&[0; 1000], 200)));
    let failed = loop {
        let response = stream.next().unwrap().unwrap();
        if !response.error_message.is_empty() {
            break response;
        }
    };
    assert!(failed.error_message.contains("deadline"), "{failed:?}");
}

#[test]
fn a_message_beyond_the_limit_ends_the_stream_when_the_others_are_answered() {
    let server = Server::configured(&["--max-body", "1MiB"], &["iris"]);
    let client = Client::of(&server);
    let mut stream = Stream::open(&client);
    stream.send(flower());
    stream.send(raw("iris", "measurements", "UINT8", &[2 << 20], vec![0; 2 << 20]));
    assert_setosa(Ok(stream.answer()));
    assert_status(stream.next(), Code::ResourceExhausted, "the message is larger than the limit of 1.0 MiB");
}

#[test]
fn open_streams_end_with_the_server() {
    // So long that the test fails where one takes up the drain time.
    let server = Server::configured(&["--drain", "1h"], &["iris", "repeat-int32"]);
    let client = Client::of(&server);
    let mut idle = Stream::open(&client);
    idle.send(flower());
    assert_setosa(Ok(idle.answer()));
    let mut busy = Stream::open(&client);
    busy.send(repeat(&[1, 2, 3], 300));
    assert_eq!(number(&busy.answer(), "OUT"), 1);
    server.terminate();
    // What has begun is answered to its end.
    assert_eq!([busy.answer(), busy.answer()].map(|answer| number(&answer, "OUT")), [2, 3]);
    for stream in [&mut idle, &mut busy] {
        assert_status(stream.next(), Code::Unavailable, "the server is shutting down");
    }
    assert!(server.wait().success());
}
