//! Calls that their clients give up, and connections that nobody hears of again.

use vespid_tests::archive::Archive;
use vespid_tests::server::Server;
use vespid_tests::wait;

use super::client::{Client, assert_setosa, flower};

/// A server that takes one call at a time, and has `loop`, which would take an hour.
fn one_at_a_time() -> Server {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris"]);
    let package = Archive::built("loop").manifest("500ms", "1h").to_tar();
    assert_eq!(server.upload("loop", "1", &package).status, 201);
    server
}

#[test]
fn a_call_that_is_cancelled_ends() {
    let server = one_at_a_time();
    let client = Client::of(&server);
    for _ in 0..3 {
        let call = client.looping();
        server.wait_until_busy();
        call.abort();
        // The connection is as before, and there is room for the next.
        wait::until("the call has ended", || client.infer(flower()).ok());
    }
    assert_setosa(client.infer(flower()));
}

#[test]
fn a_client_that_leaves_ends_its_calls() {
    let server = one_at_a_time();
    let client = Client::of(&server);
    let leaving = Client::of(&server);
    let call = leaving.looping();
    server.wait_until_busy();
    drop((call, leaving));
    wait::until("the call has ended", || client.infer(flower()).ok());
}
