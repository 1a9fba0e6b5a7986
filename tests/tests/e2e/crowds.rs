//! Clients that mean harm, or are very many: long heads, idle connections, streams that are reset as soon as they begin.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use tokio::runtime::Builder;
use vespid_tests::http::Raw;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::Server;
use vespid_tests::wait;

const CROWD: usize = 10_000;

/// What each idle connection may cost at most.
const FOR_EACH: usize = 24 << 10;

/// How many files this process may have open, which its children inherit.
fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

#[test]
fn many_idle_connections_leave_room_for_others() {
    let server = Server::with(&["iris"]);
    assert_setosa(&server.infer("iris", &flower()));
    let before = server.resident();
    let count = CROWD.min(open_files() - 500);
    let crowd: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    // They have all been accepted when the last of them is answered.
    let mut last = Raw::connect(server.address());
    last.send(b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(last.read_some().starts_with("HTTP/1.1 200"));
    for _ in 0..20 {
        assert_setosa(&server.infer("iris", &flower()));
    }
    let taken = server.resident().saturating_sub(before);
    assert!(taken < count * FOR_EACH, "{count} connections took {taken} bytes");
    drop(crowd);
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();
}

#[test]
fn a_head_without_end_is_refused() {
    let server = Server::with(&["iris"]);
    let before = server.resident();
    let line = format!("X-Long: {}\r\n", "x".repeat(8000));
    for _ in 0..4 {
        let mut client = Raw::connect(server.address());
        client.send(b"GET /v2 HTTP/1.1\r\nHost: test\r\n");
        // The server closes the connection before all of it is there.
        let sent = (0..4096).take_while(|_| client.try_send(line.as_bytes())).count();
        assert!(sent < 4096, "32 MiB of headers were taken");
        let answer = client.read_to_end();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert!(server.resident() < before + (32 << 20), "{before} {}", server.resident());
    assert_setosa(&server.infer("iris", &flower()));
}

/// How often streams are begun and reset, on how many connections after another.
const RESETS: usize = 50_000;

#[test]
fn streams_that_are_reset_at_once_take_nothing_along() {
    let server = Server::with(&["iris"]);
    assert_setosa(&server.infer("iris", &flower()));
    let before = server.resident();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for address in [server.address().to_owned(), server.grpc_url().replace("http://", "")] {
        let (mut begun, mut connections) = (0, 0);
        while begun < RESETS {
            begun += runtime.block_on(reset_many(&address, RESETS - begun));
            connections += 1;
            assert!(connections < RESETS, "a connection takes none at all");
        }
        // Others are answered meanwhile and afterwards.
        assert_setosa(&server.infer("iris", &flower()));
    }
    assert!(server.resident() < before + (64 << 20), "{before} {}", server.resident());
    server.stop();
}

/// Begins streams and resets them until the server has enough of it; how many.
async fn reset_many(address: &str, most: usize) -> usize {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let aborted = connection.abort_handle();
    let begun = begin_and_reset(client, most).await;
    // The server says that it has enough, or the connection ends as nobody asks any more. One that stayed, and that nobody reads from,
    // would hold up the server's end.
    if tokio::time::timeout(Duration::from_secs(5).min(wait::LIMIT), connection).await.is_err() {
        aborted.abort();
    }
    begun
}

async fn begin_and_reset(mut client: h2::client::SendRequest<axum::body::Bytes>, most: usize) -> usize {
    let mut begun = 0;
    while begun < most {
        let Ok(ready) = client.ready().await else { break };
        client = ready;
        let request = axum::http::Request::post("http://test/v2/models/iris/infer").body(()).unwrap();
        let Ok((_, mut stream)) = client.send_request(request, false) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        begun += 1;
        tokio::task::yield_now().await;
    }
    begun
}
