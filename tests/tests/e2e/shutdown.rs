//! SIGTERM: what is in flight is answered, and the server ends in good order.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vespid_tests::archive::Archive;
use vespid_tests::http::{Answer, Raw};
use vespid_tests::oip::{flower, kind};
use vespid_tests::server::Server;
use vespid_tests::wait;

#[test]
fn a_request_that_is_in_flight_is_answered() {
    let server = Server::with(&["iris"]);
    let body = serde_json::to_vec(&flower()).unwrap();
    let mut client = Raw::connect(server.address());
    client.send(b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n");
    client.send(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    // The server has begun with it.
    assert_eq!(client.read_some(), "HTTP/1.1 100 Continue\r\n\r\n");
    server.terminate();
    wait::until("new connections are refused", || {
        TcpStream::connect(server.address()).is_err().then_some(())
    });
    client.send(&body);
    let answer = client.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("setosa"), "{answer}");
    assert!(server.log().contains("SIGTERM received, draining"));
    assert!(server.wait().success());
}

/// A server with `loop`, which may take this long, and one call of it in flight.
fn looping(arguments: &[&str], timeout: &str) -> (Server, thread::JoinHandle<Result<Answer, ureq::Error>>) {
    let server = Server::configured(&[&["--max-in-flight", "1"], arguments].concat(), &["empty"]);
    let package = Archive::built("loop").manifest("500ms", timeout).to_tar();
    assert_eq!(server.upload("loop", "1", &package).status, 201);
    let url = format!("{}/v2/models/loop/infer", server.url());
    let body = serde_json::to_vec(&kind(0)).unwrap();
    let caller = thread::spawn(move || vespid_tests::http::try_send("POST", &url, &[], &body));
    let other = vespid_tests::oip::request("input", "FP32", &[1], json!([1.0]));
    wait::until("the one place is taken", || (server.infer("empty", &other).status == 503).then_some(()));
    (server, caller)
}

#[test]
fn a_plugin_that_is_running_is_waited_for() {
    let (server, caller) = looping(&[], "3s");
    server.terminate();
    let answer = caller.join().unwrap().unwrap();
    answer.assert_error(504, "the plugin did not answer before the deadline");
    assert!(server.wait().success());
}

#[test]
fn a_plugin_that_takes_longer_than_the_drain_time_is_not() {
    let (server, caller) = looping(&["--drain", "300ms"], "1h");
    let started = Instant::now();
    server.terminate();
    assert!(caller.join().unwrap().is_err(), "nobody could answer");
    wait::until("the log says why", || {
        server.log().contains("requests were still in flight after 300ms").then_some(())
    });
    assert_eq!(server.wait().code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn connections_without_a_request_do_not_hold_it_up() {
    let server = Server::with(&[]);
    let silent: Vec<Raw> = (0..4).map(|_| Raw::connect(server.address())).collect();
    let mut idle = Raw::connect(server.address());
    idle.send(b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(idle.read_some().starts_with("HTTP/1.1 200 OK"));
    let started = Instant::now();
    server.stop();
    // The drain time, which they would otherwise take up, is 30 s.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    drop((silent, idle));
}
