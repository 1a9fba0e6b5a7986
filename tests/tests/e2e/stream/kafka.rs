//! A consumer group, answers and failures, and what is told of it.

use std::time::Duration;

use rdkafka::Message;
use serde_json::{Value, json};
use vespid_tests::oip;
use vespid_tests::server::Server;
use vespid_tests::wait;

use super::broker::{ASSIGNMENT, Kafka, Sent, account, header, source};
use super::{Desk, flower, measurements, package};

const PARTITIONS: i32 = 4;

fn spec(brokers: &str, more: &Value) -> Value {
    let mut spec = json!({
        "model": package("iris"),
        "source": {"kafka": {"brokers": brokers, "topics": "flowers", "group": "iris", "properties": {
            "partition.assignment.strategy": ASSIGNMENT,
        }}},
        "sink": {"kafka": {"topic": "species", "dead_letter": "failed"}},
        "inputs": measurements(),
        "keep": ["id"],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[test]
fn answers_are_those_of_the_server_and_carry_what_came_with_their_messages() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["flowers", "species", "failed"], PARTITIONS);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let messages = (0..500_u64).map(|id| Sent {
        key: Some(format!("key-{}", id % 7).into()),
        headers: vec![("traceparent", trace.into()), ("kind", b"flower".to_vec())],
        ..Sent::new((id % 4) as i32, flower(id))
    });
    cluster.send("flowers", messages);
    let desk = Desk::default();
    let stream = desk.start(&desk.stream("iris", &spec(&cluster.brokers, &json!({}))));
    stream.wait_for("iris", 500);
    let answers = cluster.read("species", PARTITIONS, 500);
    assert_eq!(account(&answers).len(), 500);
    let sent = cluster.read("flowers", PARTITIONS, 500);

    let server = Server::with(&["iris"]);
    for answer in answers.iter().step_by(25) {
        let (partition, offset) = source(answer);
        let question = sent.iter().find(|m| (m.partition(), m.offset()) == (partition, offset)).unwrap();
        assert_eq!(answer.key(), question.key());
        assert_eq!(answer.timestamp(), question.timestamp());
        assert_eq!(header(answer, "traceparent").as_deref(), Some(trace));
        assert_eq!(header(answer, "kind").as_deref(), Some("flower"));
        assert_eq!(header(answer, "vespid-model").as_deref(), Some("iris"));
        assert_eq!(header(answer, "vespid-version").as_deref(), Some("1"));
        let (asked, answered): (Value, Value) = (
            serde_json::from_slice(question.payload().unwrap()).unwrap(),
            serde_json::from_slice(answer.payload().unwrap()).unwrap(),
        );
        assert_eq!(answered["id"], asked["id"]);
        let values = ["a", "b", "c", "d"].map(|field| asked[field].as_f64().unwrap());
        let online = server.infer("iris", &oip::request("measurements", "FP32", &[1, 4], json!(values)));
        assert_eq!(answered["species"], oip::output(&online, "species")["data"][0]);
        let theirs = oip::numbers(&oip::output(&online, "probabilities")["data"]);
        oip::assert_close(&oip::numbers(&answered["probabilities"]), &theirs, 1e-6);
    }
    assert_eq!(stream.stop(), 0);
}

#[test]
fn a_stream_is_paused_resumed_and_told_of() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["flowers", "species", "failed"], PARTITIONS);
    cluster.send("flowers", (0..100).map(|id| Sent::new((id % 4) as i32, flower(id))));
    let desk = Desk::default();
    let stream = desk.start(&desk.stream("iris", &spec(&cluster.brokers, &json!({"exactly_once": true}))));
    stream.wait_for("iris", 100);
    let paused = stream.ask("POST", "/v2/streams/iris/pause").json();
    assert_eq!((&paused["paused"], &paused["state"]), (&json!(true), &json!("paused")));
    cluster.send("flowers", (0..80).map(|id| Sent::new((id % 4) as i32, flower(id))));
    let lag = wait::until("the lag is not told", || {
        let lag = stream.get("/v2/streams/iris/lag");
        // The end of a transaction takes an offset of a topic that is written to, and this one is only read.
        (lag["lag"] == 80).then_some(lag)
    });
    assert_eq!(lag["partitions"].as_array().unwrap().len(), 4);
    assert_eq!(stream.metric("vespid_stream_lag{partition=\"0\",stream=\"iris\",topic=\"flowers\"}"), 20.0);
    assert_eq!(stream.metric("vespid_stream_committed{stream=\"iris\"}"), 100.0);
    let resumed = stream.ask("POST", "/v2/streams/iris/resume").json();
    assert_eq!(resumed["paused"], json!(false));
    stream.wait_for("iris", 180);
    assert_eq!(stream.status("iris")["state"], json!("running"));
    stream.ask("GET", "/v2/streams/other").assert_error(404, "'iris'");
    assert_eq!(stream.stop(), 0);
    assert_eq!(cluster.read("species", PARTITIONS, 180).len(), 180);
}

#[test]
fn a_member_that_leaves_hands_its_partitions_over() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["flowers", "species", "failed"], PARTITIONS);
    let desk = Desk::default();
    let config = desk.stream("iris", &spec(&cluster.brokers, &json!({})));
    let first = desk.start(&config);
    let owned = |stream: &super::Stream| stream.status("iris")["partitions"].as_array().unwrap().len();
    wait::until("the first has not all", || (owned(&first) == 4).then_some(()));
    let second = desk.start(&config);
    wait::until("they are not shared", || (owned(&first) == 2 && owned(&second) == 2).then_some(()));
    cluster.send("flowers", (0..2000).map(|id| Sent::new((id % 4) as i32, flower(id))));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(first.stop(), 0);
    wait::until("the second has not all", || (owned(&second) == 4).then_some(()));
    cluster.send("flowers", (2000..4000).map(|id| Sent::new((id % 4) as i32, flower(id))));
    wait::until("answers are missing", || {
        (account(&cluster.read("species", PARTITIONS, usize::MAX)).len() == 4000).then_some(())
    });
    // The second's last commit may come too late for this broker, which does not wait for it: some are answered twice then.
    assert_eq!(second.stop(), 0);
}
