//! Requests that belong together, and answers in pieces.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use vespid_limits::{Limits, LimitsConfig, TenantsBy};
use vespid_nn::Backends;
use vespid_serving::{Reason, Times};
use vespid_tests::archive::Archive;
use vespid_types::{
    Datatype, Error, ErrorCode, ModelRef, NamedTensor, Parameters, Priority, Request, Response, Sequence,
    SequenceId, Shape, Tensor,
};

use crate::Host;

fn integers(name: &str, datatype: Datatype, shape: &[u64], values: &[i32]) -> NamedTensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensor = Tensor::new(datatype, Shape::from(shape), data.into()).unwrap();
    NamedTensor { name: name.to_owned(), tensor }
}

fn request(model: &str, inputs: Vec<NamedTensor>, sequence: Option<Sequence>) -> Request {
    Request {
        model: target(model),
        id: None,
        parameters: Parameters::new(),
        inputs,
        outputs: Vec::new(),
        deadline: None,
        priority: Priority::ONLINE,
        sequence,
    }
}

fn target(model: &str) -> ModelRef {
    ModelRef { name: model.parse().unwrap(), version: None }
}

fn value(response: &Response) -> i32 {
    i32::from_le_bytes(response.outputs[0].tensor.data()[..4].try_into().unwrap())
}

const START: (bool, bool) = (true, false);
const ON: (bool, bool) = (false, false);
const END: (bool, bool) = (false, true);

/// The running sum, with the value added.
async fn add(host: &Host, id: &SequenceId, (start, end): (bool, bool), number: i32) -> Result<i32, Error> {
    let sequence = Sequence { id: id.clone(), start, end };
    let inputs = vec![integers("INPUT", Datatype::Int32, &[1, 1], &[number])];
    let model = host.predictor.model(&target("simple_sequence"))?;
    let answer = host.predictor.predict(&model, request("simple_sequence", inputs, Some(sequence))).await;
    answer.map(|response| value(&response))
}

#[tokio::test]
async fn each_sequence_has_its_own_sum() {
    let host = Host::with(Backends::embedded(), &["simple-sequence"]).await;
    let [a, b] = [SequenceId::Number(7), SequenceId::Text("7".into())];
    assert_eq!(add(&host, &a, START, 1).await.unwrap(), 1);
    assert_eq!(add(&host, &b, START, 100).await.unwrap(), 100);
    assert_eq!(add(&host, &a, ON, 2).await.unwrap(), 3);
    assert_eq!(add(&host, &b, END, 5).await.unwrap(), 105);
    assert_eq!(add(&host, &a, START, 10).await.unwrap(), 10, "what is begun again begins anew");
    assert_eq!(add(&host, &a, ON, 10).await.unwrap(), 20);
    let ended = add(&host, &b, ON, 1).await.unwrap_err();
    assert_eq!(ended.code(), ErrorCode::InvalidArgument);
    assert!(ended.message().contains("sequence 7 is not open"), "{ended}");
}

#[tokio::test]
async fn the_requests_of_a_sequence_are_answered_in_their_order() {
    let host = Arc::new(Host::with(Backends::embedded(), &["simple-sequence"]).await);
    let id = SequenceId::Number(1);
    add(&host, &id, START, 0).await.unwrap();
    let adding = (1..=20).map(|number| add(&host, &id, ON, number));
    let sums: Vec<i32> =
        futures_util::future::join_all(adding).await.into_iter().map(Result::unwrap).collect();
    let expected: Vec<i32> = (1..=20).map(|n| n * (n + 1) / 2).collect();
    assert_eq!(sums, expected);
}

#[tokio::test]
async fn sequences_end_when_they_are_idle_and_are_limited_in_number() {
    let package = Archive::built("simple-sequence").manifest("\"5s\"", "\"100ms\"\nmax = 2");
    let host = Host::with(Backends::embedded(), &[]).await;
    host.push("simple_sequence", package.to_tar()).await.unwrap();
    let ids: Vec<SequenceId> = (1..=3).map(SequenceId::Number).collect();
    for id in &ids[..2] {
        add(&host, id, START, 1).await.unwrap();
    }
    let refused = add(&host, &ids[2], START, 1).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable, "{refused}");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(add(&host, &ids[0], ON, 1).await.is_err(), "it was idle for too long");
    add(&host, &ids[2], START, 1).await.unwrap();
}

#[tokio::test]
async fn a_sequence_model_wants_a_sequence_and_no_other_takes_one() {
    let host = Host::with(Backends::embedded(), &["simple-sequence", "simple"]).await;
    let model = host.predictor.model(&target("simple_sequence")).unwrap();
    let inputs = vec![integers("INPUT", Datatype::Int32, &[1, 1], &[1])];
    let refused = host.predictor.predict(&model, request("simple_sequence", inputs, None)).await.unwrap_err();
    assert!(refused.message().contains("give the parameter sequence_id"), "{refused}");
    let sequence = Sequence { id: SequenceId::Number(1), start: true, end: false };
    let inputs = ["INPUT0", "INPUT1"].map(|name| integers(name, Datatype::Int32, &[1, 16], &[1; 16]));
    let model = host.predictor.model(&target("simple")).unwrap();
    let request = request("simple", inputs.into(), Some(sequence));
    let refused = host.predictor.predict(&model, request).await.unwrap_err();
    assert!(refused.message().contains("keeps no sequences"), "{refused}");
}

fn repeated(values: &[i32], delays: &[i32]) -> Request {
    let inputs = vec![
        integers("IN", Datatype::Int32, &[values.len() as u64], values),
        integers("DELAY", Datatype::Uint32, &[delays.len() as u64], delays),
    ];
    request("repeat_int32", inputs, None)
}

#[tokio::test]
async fn a_plugin_answers_in_pieces_and_is_counted_once() {
    let host = Host::with(Backends::embedded(), &["repeat-int32"]).await;
    let model = host.predictor.model(&target("repeat_int32")).unwrap();
    assert!(model.is_decoupled());
    let responses = host.predictor.predict_stream(Arc::clone(&model), repeated(&[4, 2, 0], &[0, 1, 0])).await;
    let values: Vec<i32> =
        responses.unwrap().map_ok(|response| value(&response)).try_collect().await.unwrap();
    assert_eq!(values, [4, 2, 0]);
    let unary = host.predictor.predict(&model, repeated(&[1], &[0])).await.unwrap_err();
    assert_eq!(unary.code(), ErrorCode::Unsupported);
    let refused = host.predictor.predict_stream(Arc::clone(&model), repeated(&[1], &[])).await.err().unwrap();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    let counted = host.statistics("repeat_int32");
    assert_eq!((counted.success.count, counted.fail.count), (1, 2));
    let Times { total, queue, input, infer, output, .. } = counted.success;
    assert!(infer > 0 && queue + input + infer + output <= total, "{counted:?}");
    // Without graphs, an answer is an execution.
    assert_eq!(counted.execution_count, 1);
}

#[tokio::test]
async fn who_leaves_a_stream_ends_it() {
    let host = Host::with_room(1, Backends::embedded(), &["repeat-int32"]).await;
    let model = host.predictor.model(&target("repeat_int32")).unwrap();
    let mut responses =
        host.predictor.predict_stream(Arc::clone(&model), repeated(&[1, 2], &[0, 3_600_000])).await.unwrap();
    assert_eq!(value(&responses.next().await.unwrap().unwrap()), 1);
    assert!(tokio::time::timeout(Duration::from_millis(50), responses.next()).await.is_err());
    drop(responses);
    let counted = host.statistics("repeat_int32");
    assert_eq!((counted.success.count, counted.failures[1]), (0, (Reason::Canceled, 1)));
    // There is room for one instance: it was the stream's.
    let again = host.predictor.predict_stream(model, repeated(&[3], &[0])).await.unwrap();
    assert_eq!(again.map_ok(|response| value(&response)).try_collect::<Vec<_>>().await.unwrap(), [3]);
}

#[tokio::test]
async fn an_answer_in_pieces_is_in_flight_until_it_ends_or_its_deadline_passes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "models: [{ match: '*', concurrent: 1 }]").unwrap();
    let limits = Limits::new(LimitsConfig::read(file.path(), TenantsBy::Patterns).unwrap());
    let host = Host::limited(limits, 8, Backends::embedded(), &[]).await;
    let package = Archive::built("repeat-int32").manifest("\"60s\"", "\"300ms\"");
    host.push("repeat_int32", package.to_tar()).await.unwrap();
    let model = host.predictor.model(&target("repeat_int32")).unwrap();
    let ask = || host.predictor.predict_stream(Arc::clone(&model), repeated(&[1, 2], &[0, 0]));
    let mut responses = ask().await.unwrap();
    assert_eq!(value(&responses.next().await.unwrap().unwrap()), 1);
    let refused = ask().await.err().unwrap();
    assert_eq!(refused.code(), ErrorCode::ResourceExhausted);
    assert!(
        refused.message().starts_with("model 'repeat_int32' is at its limit of 1 concurrent"),
        "{refused}"
    );
    drop(responses);
    assert_eq!(ask().await.unwrap().count().await, 2);
    // One whose caller stays and reads no further holds no place for ever.
    let mut idle = ask().await.unwrap();
    idle.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ask().await.unwrap().count().await, 2);
    drop(idle);
    let counted = host.statistics("repeat_int32");
    assert_eq!(counted.failures[0], (Reason::Rejected, 1));
}

#[tokio::test]
async fn who_does_not_ask_for_the_next_piece_gives_the_instance_back_at_the_deadline() {
    let package = Archive::built("repeat-int32").manifest("\"60s\"", "\"300ms\"");
    let host = Host::with_room(1, Backends::embedded(), &[]).await;
    host.push("repeat_int32", package.to_tar()).await.unwrap();
    let model = host.predictor.model(&target("repeat_int32")).unwrap();
    let asked = host.predictor.predict_stream(Arc::clone(&model), repeated(&[1, 2], &[0, 0])).await;
    let mut responses = asked.unwrap();
    assert_eq!(value(&responses.next().await.unwrap().unwrap()), 1);
    tokio::time::sleep(Duration::from_millis(400)).await;
    // There is room for one instance, and the first caller is still there.
    let others = host.predictor.predict_stream(model, repeated(&[3], &[0])).await.unwrap();
    assert_eq!(others.map_ok(|response| value(&response)).try_collect::<Vec<_>>().await.unwrap(), [3]);
    let late = responses.next().await.unwrap().unwrap_err();
    assert_eq!(late.code(), ErrorCode::DeadlineExceeded);
    assert!(responses.next().await.is_none());
    drop(responses);
    assert_eq!(host.statistics("repeat_int32").success.count, 1);
}

#[tokio::test]
async fn who_comes_after_the_end_is_refused() {
    let package = Archive::built("simple-sequence").manifest("\"5s\"", "\"5s\"\nmax = 1");
    let host = Host::with(Backends::embedded(), &[]).await;
    host.push("simple_sequence", package.to_tar()).await.unwrap();
    let id = SequenceId::Number(1);
    add(&host, &id, START, 1).await.unwrap();
    let (ended, late) = tokio::join!(add(&host, &id, END, 1), add(&host, &id, ON, 1));
    assert_eq!(ended.unwrap(), 2);
    assert_eq!(late.unwrap_err().code(), ErrorCode::InvalidArgument);
    assert_eq!(add(&host, &SequenceId::Number(2), START, 4).await.unwrap(), 4, "there is a place again");
}
