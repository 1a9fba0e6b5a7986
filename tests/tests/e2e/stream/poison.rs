//! Messages that no model answers.

use rdkafka::Message;
use serde_json::{Value, json};
use vespid_tests::wait;

use super::broker::{Kafka, Sent, account, header};
use super::{Desk, flower, measurements, package};

#[test]
fn what_cannot_be_read_or_is_refused_goes_where_failed_messages_go() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["flowers", "species", "failed"], 1);
    let bad: [(&[u8], &str, &str); 5] = [
        (b"{\"a\": 1", "decode", "it is not one JSON object"),
        (b"\xff\xfe", "decode", "it is not one JSON object"),
        (br#"{"a": 1, "b": 2, "c": 3}"#, "refused", "'d': there is no value"),
        (br#"{"a": 1, "b": 2, "c": 3, "d": "four"}"#, "refused", "'d'"),
        (br#"{"a": [1], "b": 2, "c": 3, "d": 4}"#, "refused", "'a'"),
    ];
    let mut messages = Vec::new();
    for (id, (text, ..)) in bad.iter().enumerate() {
        messages.push(Sent::new(0, flower(id as u64)));
        let headers = vec![("kind", b"bad".to_vec())];
        messages.push(Sent { key: Some(b"k".to_vec()), headers, ..Sent::new(0, *text) });
    }
    // A tombstone.
    messages.push(Sent { key: Some(b"k".to_vec()), ..Sent::default() });
    cluster.send("flowers", messages);
    let desk = Desk::default();
    let spec = json!({
        "model": package("iris"),
        "source": {"kafka": {"brokers": cluster.brokers, "topics": "flowers"}},
        "sink": {"kafka": {"topic": "species", "dead_letter": "failed"}},
        "inputs": measurements(),
    });
    let stream = desk.start(&desk.stream("iris", &spec));
    stream.wait_for("iris", 11);
    assert_eq!(account(&cluster.read("species", 1, 5)).len(), 5);
    let failed = cluster.read("failed", 1, 6);
    assert_eq!(failed.len(), 6);
    for (index, (message, (text, class, reason))) in failed.iter().zip(bad).enumerate() {
        assert_eq!(message.payload(), Some(text));
        assert_eq!(message.key(), Some(&b"k"[..]));
        let header = |name: &str| header(message, name).unwrap_or_default();
        assert_eq!((header("kind").as_str(), header("vespid-topic").as_str()), ("bad", "flowers"));
        assert_eq!(
            (header("vespid-partition"), header("vespid-offset")),
            ("0".to_owned(), (2 * index + 1).to_string())
        );
        assert_eq!(
            (header("vespid-error-class").as_str(), header("vespid-error-code").as_str()),
            (class, "INVALID_ARGUMENT")
        );
        assert!(header("vespid-error").contains(reason), "{}", header("vespid-error"));
    }
    assert_eq!(header(&failed[5], "vespid-error").unwrap(), "the message has no value");
    assert_eq!(stream.metric("vespid_stream_dead_letters{class=\"decode\",stream=\"iris\"}"), 3.0);
    assert_eq!(stream.metric("vespid_stream_dead_letters{class=\"refused\",stream=\"iris\"}"), 3.0);
}

/// The plugin traps over what is negative, and runs for ever over a thousand; a call may take half a second.
#[test]
fn a_message_that_traps_or_loops_costs_its_own_call() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["in", "out", "failed"], 2);
    let value = |index: usize| match index {
        100 | 1300 => -1,
        500 | 1700 => 1000,
        _ => 1,
    };
    let messages =
        (0..2000).map(|index| Sent::new((index % 2) as i32, json!({ INPUT: value(index) }).to_string()));
    cluster.send("in", messages);
    let desk = Desk::default();
    let spec = json!({
        "model": package("some-rows"),
        "source": {"kafka": {"brokers": cluster.brokers, "topics": "in"}},
        "sink": {"kafka": {"topic": "out", "dead_letter": "failed"}},
        "max_rows": 50,
        "keep": "none",
    });
    let stream = desk.start(&desk.stream("rows", &spec));
    stream.wait_for("rows", 2000);
    assert_eq!(account(&cluster.read("out", 2, 1996)).len(), 1996);
    let failed = cluster.read("failed", 2, 4);
    let mut told: Vec<_> = failed
        .iter()
        .map(|message| {
            let value: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
            (
                value[INPUT].as_i64().unwrap(),
                header(message, "vespid-error-class").unwrap(),
                header(message, "vespid-error-code").unwrap(),
            )
        })
        .collect();
    told.sort();
    let one = |value, class: &str, code: &str| (value, class.to_owned(), code.to_owned());
    let (trap, late) = (one(-1, "failed", "PLUGIN_FAILED"), one(1000, "timeout", "DEADLINE_EXCEEDED"));
    assert_eq!(told, [trap.clone(), trap, late.clone(), late]);
}

#[test]
fn a_stream_stops_before_a_message_or_skips_it_as_it_is_told() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["flowers", "species"], 1);
    cluster.send("flowers", [Sent::new(0, flower(0)), Sent::new(0, "bad"), Sent::new(0, flower(1))]);
    let desk = Desk::default();
    let spec = |on_error: Value| {
        json!({
            "model": package("iris"),
            "source": {"kafka": {"brokers": cluster.brokers, "topics": "flowers"}},
            "sink": {"kafka": {"topic": "species"}},
            "inputs": measurements(),
            "max_rows": 1,
            "on_error": on_error,
        })
    };
    let config = desk.stream("iris", &spec(json!({})));
    for _ in 0..2 {
        let ended = desk.command(&config).output().unwrap();
        let text = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{text}");
        assert!(
            text.contains("flowers/0@1 failed (INVALID_ARGUMENT") && text.contains("on_error.decode is stop"),
            "{text}"
        );
    }
    let config = desk.stream("iris", &spec(json!({"decode": "skip"})));
    let stream = desk.start(&config);
    wait::until("the message is not skipped", || {
        (stream.metric("vespid_stream_skipped{class=\"decode\",stream=\"iris\"}") == 1.0).then_some(())
    });
    wait::until("answers are missing", || (account(&cluster.read("species", 1, 9)).len() == 2).then_some(()));
    assert!(stream.log().contains("skipped: it is not one JSON object"), "{}", stream.log());
}

const INPUT: &str = "kind";
