//! SIGTERM: what is in flight is answered, and the server ends in good order.

use std::net::TcpStream;
use std::thread;

use serde_json::json;
use vespid_tests::archive::Archive;
use vespid_tests::http::{self, Raw};
use vespid_tests::oip::flower;
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

/// A server that answers one call at a time, and has `loop`, which may take this long.
fn one_at_a_time(arguments: &[&str], timeout: &str) -> Server {
    let server = Server::configured(&[&["--max-in-flight", "1"], arguments].concat(), &["iris"]);
    let package = Archive::built("loop").manifest("500ms", timeout).to_tar();
    assert_eq!(server.upload("loop", "1", &package).status, 201);
    server
}

#[test]
fn a_plugin_that_is_running_is_waited_for() {
    let server = one_at_a_time(&[], "3s");
    thread::scope(|scope| {
        let looping = scope.spawn(|| server.looping());
        server.wait_until_busy();
        let probe = |path: &str| http::send("GET", &(server.admin_url() + path), &[], &[]);
        assert_eq!(probe("/v2/health/ready").status, 200);
        server.terminate();
        // Probes hear of it to the last, for as long as the plugin runs.
        let ready = wait::until("the server is not ready", || {
            Some(probe("/v2/health/ready")).filter(|answer| answer.status != 200)
        });
        assert_eq!((ready.status, ready.json()), (503, json!({"live": true, "ready": false})));
        assert_eq!(probe("/v2/health/live").status, 200);
        looping.join().unwrap().assert_error(504, "the plugin did not answer before the deadline");
    });
    assert!(server.wait().success());
}

#[test]
fn a_plugin_that_takes_longer_than_the_drain_time_is_not() {
    let server = one_at_a_time(&["--drain", "300ms"], "1h");
    thread::scope(|scope| {
        let looping = scope.spawn(|| server.try_looping());
        server.wait_until_busy();
        server.terminate();
        assert!(looping.join().unwrap().is_err(), "nobody could answer");
    });
    let reason = "requests were still in flight after 300ms";
    wait::until("the log says why", || server.log().contains(reason).then_some(()));
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn connections_without_a_request_do_not_hold_it_up() {
    // So long that the test fails where they take up the drain time.
    let server = Server::configured(&["--drain", "1h"], &[]);
    let silent: Vec<Raw> = (0..4).map(|_| Raw::connect(server.address())).collect();
    let mut idle = Raw::connect(server.address());
    idle.send(b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(idle.read_some().starts_with("HTTP/1.1 200 OK"));
    server.stop();
    drop((silent, idle));
}
