//! A server that plugins ask over HTTP. It counts who comes.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use vespid_tests::built;

/// A running server; dropping it ends it.
pub(super) struct Others {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    /// Requests that were given up before they had an answer.
    given_up: AtomicUsize,
}

impl Others {
    /// One that sends who asks for `/redirect` to the path `/hello` of another host.
    pub(super) fn start(elsewhere: &str) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let counts = Arc::new(Counts::default());
        let location = HeaderValue::from_str(&format!("http://{elsewhere}/hello")).unwrap();
        let router = Router::new()
            .route("/", get(|| async { "root" }))
            .route("/hello", get(|headers: HeaderMap| async move { host(&headers) }))
            .route("/echo", post(echo))
            .route("/redirect", get(|| async { (StatusCode::FOUND, [(header::LOCATION, location)]) }))
            .route("/slow", get(slow))
            .route("/stalls", get(|| async { stalls() }))
            .route("/endless", get(|| async { endless() }))
            .with_state(Arc::clone(&counts));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::clone(&counts);
        let listener = axum::serve::ListenerExt::tap_io(listener, move |_| {
            accepted.connections.fetch_add(1, Ordering::SeqCst);
        });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { address, counts, _runtime: runtime }
    }

    /// How many connections were made to it.
    pub(super) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// How many requests were given up before they had an answer.
    pub(super) fn given_up(&self) -> usize {
        self.counts.given_up.load(Ordering::SeqCst)
    }
}

fn host(headers: &HeaderMap) -> String {
    format!("hello from {}", headers[header::HOST].to_str().unwrap())
}

async fn echo(headers: HeaderMap, body: Bytes) -> String {
    let header = |name: &str| headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    format!(
        "{} bytes, x-asked {}, content-length {}",
        body.len(),
        header("x-asked"),
        header("content-length")
    )
}

/// Answers after the end of any test.
async fn slow(State(counts): State<Arc<Counts>>) -> &'static str {
    struct GivenUp(Arc<Counts>);

    impl Drop for GivenUp {
        fn drop(&mut self) {
            self.0.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }

    let _given_up = GivenUp(counts);
    tokio::time::sleep(Duration::from_secs(600)).await;
    "at last"
}

/// Begins to answer, and does not go on.
fn stalls() -> Body {
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"beginning"))]);
    Body::from_stream(futures_util::StreamExt::chain(first, stream::pending()))
}

fn endless() -> Body {
    Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'a'; 64 << 10]))))
}

/// Answers one request after the other over TLS, with a certificate that `tests/cases/tls/ca.pem` has signed, until the test
/// ends; where it listens.
pub(super) fn secure() -> SocketAddr {
    let file = |name: &str| built::repository("tests/cases/tls").join(name);
    let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            // A client that does not trust the certificate leaves here.
            if stream.read(&mut [0; 4096]).is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecure";
                let _ = stream.write_all(answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}
