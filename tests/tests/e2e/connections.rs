//! What carries requests: versions of HTTP, slow clients, compressed bodies, and the ids of requests.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tonic::transport::Endpoint;
use tower::ServiceExt as _;
use vespid_tests::http::{Raw, head};
use vespid_tests::oip::{assert_setosa, flower, output, request};
use vespid_tests::server::Server;
use vespid_tests::wait;

#[test]
fn http_2_is_spoken_on_the_same_port() {
    let server = Server::with(&["iris"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (version, answer) = runtime.block_on(async {
        // A client of HTTP/2 without TLS, whose requests may be any.
        let channel = Endpoint::from_shared(server.url()).unwrap().connect().await.unwrap();
        let body = serde_json::to_vec(&flower()).unwrap();
        let request = axum::http::Request::post(server.url() + "/v2/models/iris/infer")
            .body(tonic::body::Body::new(Full::from(body).map_err(|never| match never {})))
            .unwrap();
        let response = channel.oneshot(request).await.unwrap();
        let version = response.version();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (version, serde_json::from_slice::<Value>(&body).unwrap())
    });
    assert_eq!(version, axum::http::Version::HTTP_2);
    assert_eq!(answer["outputs"][0]["data"], json!(["setosa"]), "{answer}");
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn who_is_slow_to_ask_is_cut_off() {
    let server = Server::configured(&["--idle-timeout", "300ms"], &["iris"]);
    let began = Instant::now();
    let silent = Raw::connect(server.address());
    let mut slow = Raw::connect(server.address());
    slow.send(b"GET /v2/health/live HTTP/1.1\r\nHost");
    let mut done = Raw::connect(server.address());
    done.send(b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(done.read_some().starts_with("HTTP/1.1 200"));
    for mut client in [silent, slow, done] {
        let _ = client.read_to_end();
    }
    assert!(began.elapsed() < wait::LIMIT, "a connection was not closed");
    // A body has the time that it needs.
    let body = serde_json::to_vec(&flower()).unwrap();
    let mut patient = Raw::connect(server.address());
    patient.send(&head("POST", "/v2/models/iris/infer", body.len()));
    std::thread::sleep(Duration::from_millis(900));
    patient.send(&body);
    assert!(patient.read_some().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_body_that_inflates_beyond_the_limit_is_refused() {
    let server = Server::configured(&["--max-body", "1MiB"], &["iris"]);
    let bomb = zeros(200 << 20);
    assert!(bomb.len() < 2 << 20);
    for (method, path) in [("POST", "/v2/models/iris/infer"), ("POST", "/v2/repository/index")] {
        let before = server.resident();
        let answer = server.send(method, path, &[("content-encoding", "deflate")], &bomb);
        assert!(answer.status == 413 || path.ends_with("index"), "{answer}");
        assert!(answer.status >= 400, "{answer}");
        assert!(server.resident() < before + (64 << 20), "{before} {}", server.resident());
    }
    assert_setosa(&server.infer("iris", &flower()));
}

/// So many zeros as a stream of zlib: a block of codes that repeat the one before 258 times, 13 bits each.
fn zeros(count: usize) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], used: 8 };
    bits.push(0b011, 3);
    bits.push_code(0b0011_0000, 8);
    for _ in 0..count / 258 {
        bits.push_code(0b1100_0101, 8);
        bits.push(0, 5);
    }
    bits.bytes
}

struct Bits {
    bytes: Vec<u8>,
    /// Of the last byte.
    used: u32,
}

impl Bits {
    /// Numbers begin with their lowest bit.
    fn push(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.used == 8 {
                self.bytes.push(0);
                self.used = 0;
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << self.used;
            self.used += 1;
        }
    }

    /// Codes begin with their highest.
    fn push_code(&mut self, code: u32, count: u32) {
        (0..count).rev().for_each(|bit| self.push(code >> bit & 1, 1));
    }
}

#[test]
fn answers_are_compressed_where_it_is_asked_for_and_worth_it() {
    let server = Server::with(&["simple-identity", "iris"]);
    let ask = |model: &str, body: &Value, accepted: &str| {
        let body = serde_json::to_vec(body).unwrap();
        let path = format!("/v2/models/{model}/infer");
        server.send("POST", &path, &[("accept-encoding", accepted)], &body)
    };
    let large = request("INPUT0", "BYTES", &[1, 1], vec!["x".repeat(10_000)]);
    for (accepted, encoding, magic) in [
        ("gzip", Some("gzip"), &[0x1f, 0x8b][..]),
        ("deflate", Some("deflate"), &[0x78][..]),
        ("br;q=1, gzip;q=0.5", Some("gzip"), &[0x1f, 0x8b][..]),
        ("br", None, b"{"),
        ("identity", None, b"{"),
    ] {
        let answer = ask("simple_identity", &large, accepted);
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.header("content-encoding"), encoding, "{accepted}");
        assert!(answer.body.starts_with(magic), "{accepted}");
        assert!(answer.body.len() < 1000 || encoding.is_none(), "{accepted}");
        assert_eq!(answer.header("etag"), None);
    }
    // Not what describes models, however large: there are clients that do not undo it there.
    let document = server.send("GET", "/v2/docs/dataplane.json", &[("accept-encoding", "gzip")], b"");
    assert_eq!((document.status, document.header("content-encoding")), (200, None));
    assert!(document.body.len() > 10_000);
    let answer = ask("iris", &flower(), "gzip");
    assert_eq!(answer.header("content-encoding"), None, "it is small");
    assert_setosa(&answer);
}

#[test]
fn every_answer_has_the_request_s_id() {
    let server = Server::with(&["iris"]);
    let id = |path: &str, headers: &[(&str, &str)]| {
        let answer = server.send("GET", path, headers, &[]);
        answer.header("x-request-id").map(str::to_owned).unwrap()
    };
    assert_eq!(id("/v2", &[("x-request-id", "of-the-client")]), "of-the-client");
    assert_eq!(id("/nowhere", &[("x-request-id", "x")]), "x");
    let (one, other) = (id("/v2", &[]), id("/v2", &[]));
    assert!(one.len() == 16 && other.len() == 16 && one != other);
    assert_eq!(id("/v2", &[("x-request-id", &"x".repeat(1000))]).len(), 16);
    // The body's `id` is another matter.
    let mut body = flower();
    body["id"] = json!("mine");
    let answer = server.infer("iris", &body);
    assert_eq!(answer.json()["id"], "mine");
    assert_ne!(answer.header("x-request-id"), Some("mine"));
    assert_eq!(output(&answer, "species")["data"], json!(["setosa"]));
}

#[test]
fn paths_end_without_a_slash_and_methods_are_named() {
    let server = Server::with(&["iris"]);
    let answer = server.send("POST", "/v2/health/live", &[], b"");
    answer.assert_error(405, "does not take that method");
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    assert_eq!(server.send("GET", "/v2/models/iris/infer", &[], b"").header("allow"), Some("POST"));

    let mut client = Raw::connect(server.address());
    client.send(b"GET /v2/models/iris/?a=b HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = client.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains("location: /v2/models/iris?a=b\r\n"), "{answer}");
    let mut client = Raw::connect(server.address());
    client.send(b"GET //elsewhere/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(client.read_to_end().starts_with("HTTP/1.1 404 "));

    let mut client = Raw::connect(server.address());
    client.send(b"HEAD /v2/models/iris HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let answer = client.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}
