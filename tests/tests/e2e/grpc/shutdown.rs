//! SIGTERM, with clients that speak gRPC.

use std::net::TcpStream;

use tonic::Code;
use vespid_tests::archive::Archive;
use vespid_tests::http::Raw;
use vespid_tests::server::Server;
use vespid_tests::wait;

use super::client::{Client, assert_status};

#[test]
fn a_call_that_is_in_flight_is_answered() {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris"]);
    let package = Archive::built("loop").manifest("500ms", "3s").to_tar();
    assert_eq!(server.upload("loop", "1", &package).status, 201);
    let client = Client::of(&server);
    let call = client.looping();
    server.wait_until_busy();
    server.terminate();
    let address = server.grpc_url();
    let refused = || TcpStream::connect(address.trim_start_matches("http://")).is_err().then_some(());
    wait::until("new connections are refused", refused);
    let answer = client.runtime.block_on(call).unwrap();
    assert_status(answer, Code::DeadlineExceeded, "the plugin did not answer before the deadline");
    assert!(server.wait().success());
}

#[test]
fn connections_without_a_call_do_not_hold_it_up() {
    // So long that the test fails where they take up the drain time.
    let server = Server::configured(&["--drain", "1h"], &["iris"]);
    let idle = Client::of(&server);
    let address = server.grpc_url().trim_start_matches("http://").to_owned();
    let silent: Vec<Raw> = (0..4).map(|_| Raw::connect(&address)).collect();
    let mut half = Raw::connect(&address);
    half.send(b"PRI * HTTP/2.0\r\n");
    server.stop();
    drop((idle, silent, half));
}
