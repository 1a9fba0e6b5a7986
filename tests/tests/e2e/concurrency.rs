//! Many callers at once, and callers that leave.

use std::fs;
use std::thread;

use serde_json::json;
use vespid_tests::built::repository;
use vespid_tests::http::{Raw, head};
use vespid_tests::oip::{assert_close, assert_setosa, flower, kind, numbers, output, request};
use vespid_tests::server::Server;
use vespid_tests::wait;

const CLIENTS: usize = 64;
const REQUESTS: usize = 10;

#[test]
fn many_clients_each_get_their_own_answer() {
    let server = Server::with(&["iris", "iris-native"]);
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(repository("plugins/iris/expected.json")).unwrap()).unwrap();
    let rows = expected["species"].as_array().unwrap().len();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, expected) = (&server, &expected);
            scope.spawn(move || {
                for asked in 0..REQUESTS {
                    let row = (client + asked) % rows;
                    let measurements = expected["measurements"][row].clone();
                    let mut request = request("measurements", "FP32", &[1, 4], json!([measurements]));
                    let id = format!("{client}-{asked}");
                    request["id"] = json!(id);
                    let answer = server.infer(if client % 4 == 0 { "iris-native" } else { "iris" }, &request);
                    let got = numbers(&output(&answer, "probabilities")["data"]);
                    assert_close(&got, &numbers(&expected["probabilities"][row]), 1e-5);
                    assert_eq!(answer.json()["id"], id);
                }
            });
        }
    });
}

#[test]
fn more_than_the_server_takes_are_told_so() {
    let server = Server::configured(&["--max-in-flight", "2"], &["iris", "loop"]);
    let answers: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| server.infer("loop", &kind(0)))).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    for answer in &answers {
        match answer.status {
            503 => {
                answer.assert_error(503, "the server is busy: 2 requests are in flight; try again later");
                assert_eq!(answer.header("vespid-retry"), Some("elsewhere"));
            }
            _ => answer.assert_error(504, "deadline"),
        }
    }
    assert!(answers.iter().any(|answer| answer.status == 503));
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn fewer_instances_than_callers_are_shared() {
    let server = Server::configured(&["--max-instances", "2"], &["iris"]);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_setosa(&server.infer("iris", &flower())));
        }
    });
}

#[test]
fn clients_that_leave_in_mid_call_do_no_harm() {
    // With two places, callers who left would keep the next ones out.
    let server = Server::configured(&["--max-in-flight", "2"], &["iris", "loop"]);
    let body = serde_json::to_vec(&kind(0)).unwrap();
    for _ in 0..20 {
        let mut connection = Raw::connect(server.address());
        connection.send(&head("POST", "/v2/models/loop/infer", body.len()));
        connection.send(&body);
        drop(connection);
    }
    // In the middle of a body.
    for sent in 0..body.len() {
        let mut connection = Raw::connect(server.address());
        connection.send(&head("POST", "/v2/models/loop/infer", body.len()));
        connection.send(&body[..sent]);
    }
    // In the middle of a head.
    for _ in 0..20 {
        Raw::connect(server.address()).send(b"POST /v2/models/loop/infer HTTP/1.1\r\nHost: te");
    }
    let answer = wait::until("there is room again", || {
        let answer = server.infer("iris", &flower());
        (answer.status != 503).then_some(answer)
    });
    assert_setosa(&answer);
    server.stop();
}

#[test]
fn what_is_not_http_is_answered_and_does_no_harm() {
    let server = Server::with(&["iris"]);
    for nonsense in [
        &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ] {
        let mut connection = Raw::connect(server.address());
        connection.send(nonsense);
        connection.finish();
        let answer = connection.read_to_end();
        let shown = String::from_utf8_lossy(nonsense);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{shown}: {answer}");
        assert_setosa(&server.infer("iris", &flower()));
    }
    let mut long = Raw::connect(server.address());
    long.send(b"GET /v2 HTTP/1.1\r\nX-Long: ");
    long.send(&vec![b'x'; 256 << 10]);
    long.finish();
    let answer = long.read_to_end();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_setosa(&server.infer("iris", &flower()));
}
