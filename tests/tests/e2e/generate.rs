//! The extension `generate`, and answers in pieces as server-sent events.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::Server;
use vespid_tests::wait;

const PATH: &str = "/v2/models/repeat_int32/generate_stream";

/// A server that has `repeat_int32`, whose calls may take this long, and `iris`.
fn server(arguments: &[&str], timeout: &str) -> Server {
    let server = Server::configured(arguments, &["iris", "simple-identity"]);
    let package =
        Archive::built("repeat-int32").manifest("timeout = \"60s\"", &format!("timeout = \"{timeout}\""));
    assert_eq!(server.upload("repeat_int32", "1", &package.to_tar()).status, 201);
    server
}

/// The events of a stream.
fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.is_empty() || text.ends_with("\n\n"), "{text}");
    let data = |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    text.split_terminator("\n\n").map(data).collect()
}

#[test]
fn each_response_is_an_event() {
    let server = server(&[], "60s");
    let body = serde_json::to_vec(&json!({"IN": [4, 2, 0], "DELAY": [0, 1, 2], "id": "x"})).unwrap();
    // Events are not held back to be compressed.
    let answer = server.send("POST", PATH, &[("accept-encoding", "gzip")], &body);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("content-encoding"), None);
    let event = |out: i32, idx: u32| json!({"model_name": "repeat_int32", "model_version": "1", "id": "x", "OUT": out, "IDX": idx});
    assert_eq!(events(&answer.body), [event(4, 0), event(2, 1), event(0, 2)]);

    let answer = server.post(PATH, &json!({"IN": [], "DELAY": []}));
    assert_eq!((answer.status, events(&answer.body).len()), (200, 0), "{answer}");
    let answer = server.post("/v2/models/simple_identity/generate_stream", &json!({"INPUT0": "a\nb"}));
    assert_eq!(events(&answer.body)[0]["OUTPUT0"], "a\nb");
}

#[test]
fn one_response_is_one_answer_and_others_are_refused() {
    let server = server(&[], "60s");
    let path = "/v2/models/repeat_int32/generate";
    let answer = server.post(path, &json!({"IN": [7], "DELAY": [0]}));
    assert_eq!((answer.status, &answer.json()["OUT"]), (200, &json!(7)), "{answer}");
    for (values, what) in [(json!([1, 2]), "more than one response"), (json!([]), "no response")] {
        let answer = server.post(path, &json!({"IN": values, "DELAY": values}));
        answer.assert_error(400, &format!("the model answered with {what}: ask .../generate_stream"));
    }
}

#[test]
fn what_fails_at_first_has_a_status_and_what_fails_later_is_the_last_event() {
    let server = server(&[], "500ms");
    server.post(PATH, &json!({"IN": [1], "DELAY": [1, 2]})).assert_error(400, "give one each");
    let answer = server.post(PATH, &json!({"IN": [1, 2, 3], "DELAY": [0, 60_000, 0]}));
    assert_eq!(answer.status, 200, "{answer}");
    let events = events(&answer.body);
    assert_eq!((events.len(), &events[0]["OUT"]), (2, &json!(1)), "{answer}");
    assert!(events[1]["error"].as_str().unwrap().contains("deadline"), "{answer}");
    server.post(PATH, &json!({"IN": [1], "DELAY": [60_000]})).assert_error(504, "deadline");
    // A parameter is one of the request's, as elsewhere.
    let timely = json!({"IN": [1], "DELAY": [60_000], "timeout": 1000});
    server.post(PATH, &timely).assert_error(504, "deadline");
}

#[test]
fn a_client_that_leaves_ends_the_call() {
    let server = server(&["--max-in-flight", "1"], "1h");
    let body = json!({"IN": [1, 2], "DELAY": [0, 3_600_000]}).to_string();
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.set_read_timeout(Some(wait::LIMIT)).unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).unwrap();
    // The first event comes while the second is still an hour off.
    let lines = BufReader::new(client.try_clone().unwrap().take(1 << 20)).lines();
    let first = lines.map(Result::unwrap).find(|line| line.starts_with("data: ")).unwrap();
    assert!(first.contains("\"IDX\":0"), "{first}");
    assert_eq!(server.infer("iris", &flower()).status, 503, "there is room for one");
    drop(client);
    wait::until("there is room again", || (server.infer("iris", &flower()).status == 200).then_some(()));
    assert_setosa(&server.infer("iris", &flower()));
}
