//! State that is kept for each key, and moves with its partition.

use std::path::PathBuf;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use serde_json::{Value, json};
use vespid_tests::server::Server;
use vespid_tests::wait;

use super::broker::{ASSIGNMENT, Cluster, Kafka, Sent, header};
use super::{Desk, Stream, package};

/// Samples of a message: no multiple of a window's.
const PIECE: usize = 1000;

/// What silero-vad's own package says of the recording.
struct Expected {
    segments: Vec<Vec<i64>>,
    probabilities: Vec<f64>,
}

fn plugin(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../plugins/voice-activity").join(file)
}

fn expected() -> Expected {
    let text = std::fs::read(plugin("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    Expected {
        segments: serde_json::from_value(expected["segments"].clone()).unwrap(),
        probabilities: serde_json::from_value(expected["probabilities"].clone()).unwrap(),
    }
}

/// The samples of the recording, in pieces.
fn pieces() -> Vec<Vec<u8>> {
    let wav = std::fs::read(plugin("assets/speech.wav")).unwrap();
    wav[44..].chunks(2 * PIECE).map(<[u8]>::to_vec).collect()
}

fn spec(desk: &Desk, brokers: &str) -> PathBuf {
    desk.stream(
        "voice",
        &json!({
            "model": package("voice-activity"),
            "source": {
            "kafka": {
                "brokers": brokers,
                "topics": "audio",
                "properties": {"partition.assignment.strategy": ASSIGNMENT},
            },
            "codec": "raw",
        },
            "sink": {"kafka": {"topic": "speech", "dead_letter": "failed"}},
            "sessions": {"snapshots": "snapshots", "every": "500ms", "max": 2},
            "drain": "5s",
        }),
    )
}

fn send(cluster: &Cluster, pieces: &[Vec<u8>], speakers: usize, last: bool) {
    for (index, piece) in pieces.iter().enumerate() {
        let messages = (0..speakers).map(|speaker| {
            let end = last && index + 1 == pieces.len();
            let headers = if end { vec![("vespid-session", b"end".to_vec())] } else { vec![] };
            let key = Some(format!("speaker-{speaker}").into_bytes());
            Sent { key, headers, ..Sent::new((speaker % 2) as i32, piece.clone()) }
        });
        cluster.send("audio", messages);
    }
}

/// The first answer to each message of a key, in their order, and what of them was said of its state.
fn answers(messages: &[OwnedMessage], speaker: usize) -> (Vec<Value>, Vec<String>) {
    let key = format!("speaker-{speaker}");
    let mut last = -1;
    let (mut values, mut told) = (Vec::new(), Vec::new());
    for message in messages.iter().filter(|message| message.key() == Some(key.as_bytes())) {
        let (_, offset) = super::broker::source(message);
        told.extend(header(message, "vespid-session"));
        if offset > last {
            last = offset;
            values.push(serde_json::from_slice(message.payload().unwrap()).unwrap());
        }
    }
    (values, told)
}

fn check(values: &[Value]) {
    let Expected { segments, probabilities } = expected();
    let of =
        |field: &'static str| values.iter().flat_map(move |value| value[field].as_array().unwrap().clone());
    let found: Vec<Vec<i64>> =
        of("segments").map(|segment| serde_json::from_value(segment).unwrap()).collect();
    assert_eq!(found, segments);
    let found: Vec<f64> = of("probability").map(|probability| probability.as_f64().unwrap()).collect();
    assert_eq!(found.len(), probabilities.len());
    for (index, (found, expected)) in found.iter().zip(&probabilities).enumerate() {
        assert!((found - expected).abs() < 1e-3, "window {index}: {found}, not {expected}");
    }
}

fn sequence(server: &Server, piece: &[u8], start: bool, end: bool) -> Value {
    let head = json!({
        "parameters": {"sequence_id": 7, "sequence_start": start, "sequence_end": end},
        "inputs": [{"name": "audio", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": piece.len() + 4}}],
    })
    .to_string();
    let mut body = head.clone().into_bytes();
    body.extend(u32::try_from(piece.len()).unwrap().to_le_bytes());
    body.extend(piece);
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let answer = server.send("POST", "/v2/models/voice-activity/infer", &headers, &body);
    assert_eq!(answer.status, 200, "{answer}");
    let output = |name: &str| vespid_tests::oip::output(&answer, name)["data"].clone();
    let segments: Vec<i64> = serde_json::from_value(output("segments")).unwrap();
    let pairs: Vec<_> = segments.chunks(2).collect();
    json!({"probability": output("probability"), "segments": pairs})
}

#[test]
fn a_recording_has_the_segments_that_silero_finds() {
    let server = Server::with(&["voice-activity"]);
    let pieces = pieces();
    let last = pieces.len() - 1;
    let values: Vec<_> = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| sequence(&server, piece, index == 0, index == last))
        .collect();
    check(&values);
}

/// Four speakers at once, of which two have an instance; members that come, go, and are killed in the middle.
#[test]
fn the_state_of_keys_moves_with_their_partitions() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["audio", "speech", "failed"], 2);
    let desk = Desk::default();
    let config = spec(&desk, &cluster.brokers);
    let pieces = pieces();
    let third = pieces.len() / 3;
    let owned = |stream: &Stream| stream.status("voice")["partitions"].as_array().unwrap().len();

    let first = desk.start(&config);
    send(cluster, &pieces[..third], 4, false);
    first.wait_for("voice", 4);
    let second = desk.start(&config);
    wait::until("they are not shared", || (owned(&first) == 1 && owned(&second) == 1).then_some(()));
    send(cluster, &pieces[third..2 * third], 4, false);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(first.stop(), 0);
    wait::until("the second has not both", || (owned(&second) == 2).then_some(()));
    assert_eq!(second.stop(), 0);
    // Two more, one of which is killed: its state is that of its last snapshot, and what came since is answered once more.
    let named = |name: &str| {
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        spec["name"] = json!("voice");
        spec["source"]["kafka"]["properties"]["group.instance.id"] = json!(name);
        spec["source"]["kafka"]["group"] = json!("voice");
        desk.stream(name, &spec)
    };
    let third_member = desk.start(&named("third"));
    send(cluster, &pieces[2 * third..pieces.len() - 5], 4, false);
    third_member.wait_for("voice", 40);
    drop(third_member);
    let fourth = desk.start(&named("third"));
    send(cluster, &pieces[pieces.len() - 5..], 4, true);
    let all = 4 * pieces.len();
    wait::until("answers are missing", || {
        let answers = cluster.read("speech", 2, usize::MAX);
        let mut distinct: Vec<_> = answers.iter().map(super::broker::source).collect();
        distinct.sort_unstable();
        distinct.dedup();
        (distinct.len() == all).then_some(())
    });
    let messages = cluster.read("speech", 2, usize::MAX);
    for speaker in 0..4 {
        let (values, told) = answers(&messages, speaker);
        assert_eq!(values.len(), pieces.len());
        check(&values);
        assert!(told.contains(&"start".to_owned()) && told.contains(&"resumed".to_owned()), "{told:?}");
        assert!(!told.contains(&"reset".to_owned()), "{told:?}");
    }
    assert_eq!(fourth.metric("vespid_stream_sessions_reset{stream=\"voice\"}"), 0.0);
    assert_eq!(fourth.stop(), 0);
}
