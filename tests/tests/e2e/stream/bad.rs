//! Streams that are wrong: told by the setting, before anything is read.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::{Desk, measurements, package};

fn told(more: &Value) -> (i32, String) {
    let desk = Desk::default();
    let mut spec = json!({
        "model": package("iris"),
        "source": {"file": {"path": "in.jsonl"}},
        "sink": {"file": {"path": "out.jsonl"}},
        "inputs": measurements(),
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    std::fs::write(desk.path("in.jsonl"), "").unwrap();
    let ended = desk.command(&desk.stream("s", &spec)).output().unwrap();
    (ended.status.code().unwrap(), String::from_utf8(ended.stderr).unwrap())
}

/// Of which a cluster must not take it for one that hangs, and which it may end.
#[test]
fn a_stream_whose_package_does_not_come_answers_probes_and_ends_when_it_is_told_to() {
    // It takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let desk = Desk::default();
    let spec = json!({
        "name": "s",
        "model": format!("http://{}/iris.tar", silent.local_addr().unwrap()),
        "source": {"file": {"path": "in.jsonl"}},
        "sink": {"file": {"path": "out.jsonl"}},
        "inputs": measurements(),
    });
    let stream = desk.open(&desk.stream("s", &spec));
    assert_eq!(stream.ask("GET", "/v2/health/live").status, 200);
    assert_eq!(stream.ask("GET", "/v2/health/ready").status, 503);
    stream.ask("GET", "/v2/streams").assert_error(503, "the models of the streams are being loaded");
    assert_eq!(stream.stop(), 0);
}

#[test]
fn what_is_wrong_is_told_by_its_setting() {
    let kafka = |more: Value| {
        let mut kafka = json!({"brokers": "127.0.0.1:1", "topics": "t"});
        kafka.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "kafka": kafka })
    };
    let cases = [
        (json!({"sauce": 1}), "unknown field"),
        (json!({"source": {"codec": "json"}}), "source has one of kafka, nats and file"),
        (json!({"max_rows": 0}), "max_rows: use 1 to 65536"),
        (json!({"concurrency": 300}), "concurrency: use 1 to 256"),
        (json!({"exactly_once": true}), "exactly_once: it takes kafka as source and sink"),
        (json!({"on_error": {"decode": "dead_letter"}}), "on_error.decode: the sink has no dead_letter"),
        (json!({"inputs": {"measurements": []}}), "inputs.measurements: it is empty"),
        (
            json!({"inputs": {"petals": ["a"]}}),
            "inputs.petals: the model has no such input; it has 'measurements'",
        ),
        (json!({"inputs": {"measurements": ["a", "b"]}}), "inputs.measurements: 2 columns do not make"),
        (json!({"outputs": {"colour": "c"}}), "outputs.colour: the model has no such output"),
        (
            json!({"source": {"file": {"path": "in.jsonl"}, "codec": "raw"}}),
            "source.codec: raw is the element of one input",
        ),
        (
            json!({"sink": {"file": {"path": "out"}, "codec": "raw"}}),
            "sink.codec: raw is the value of one output",
        ),
        (json!({"sessions": {}}), "sessions: the model keeps no state"),
        (json!({"source": {"file": {"path": "none.jsonl"}}}), "source.file.path: none.jsonl cannot be read"),
        (
            json!({"sink": {"file": {"path": "no/such/folder"}}}),
            "sink.file.path: no/such/folder cannot be written",
        ),
        (
            json!({"source": kafka(json!({"properties": {"group.id": "x"}}))}),
            "source.kafka.properties.group.id: the stream sets it itself: see source.kafka.group",
        ),
        (json!({"source": kafka(json!({"properties": {"no.such": 1}}))}), "source.kafka.properties.no.such"),
        (
            json!({"source": kafka(json!({"properties": {"sasl.password": {"env": "NOT_SET_HERE"}}}))}),
            "source.kafka.properties.sasl.password: the variable NOT_SET_HERE is not set",
        ),
    ];
    for (more, reason) in cases {
        let (code, text) = told(&more);
        assert!(code == 2 && text.contains(reason), "{more}: {code}\n{text}");
    }
    let (code, text) = told(&json!({"model": package("simple-sequence"), "inputs": {}}));
    assert!(
        code == 2 && text.contains("sessions: the model keeps state for each sequence"),
        "{code}\n{text}"
    );
}
