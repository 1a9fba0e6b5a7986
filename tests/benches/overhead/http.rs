//! A server on one core and its clients on another, in one process.
//!
//! The server's runtime has one thread; the threads that it starts (the lane's among them) inherit its core. So what is
//! compared between two servers is the work that each does for the same number of requests.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::ListenerExt;
use core_affinity::CoreId;
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// Puts the calling thread on a core; where there is but one, it stays there.
pub(crate) fn pin(index: usize) {
    // Asked for once, before anything is pinned: a pinned thread, and those that it starts, see their own core alone.
    static CORES: LazyLock<Vec<CoreId>> = LazyLock::new(|| core_affinity::get_core_ids().unwrap_or_default());
    if let Some(core) = CORES.get(index % CORES.len().max(1)) {
        assert!(core_affinity::set_for_current(*core));
    }
}

/// Serves the router that `build` makes, on core 0, until the process ends.
pub(crate) fn serve<F: Future<Output = Router>>(build: impl FnOnce() -> F + Send + 'static) -> SocketAddr {
    let (address, bound) = channel();
    std::thread::spawn(move || {
        pin(0);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let router = build().await;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
            axum::serve(listener, router).await.unwrap();
        });
    });
    bound.recv().unwrap()
}

/// Connections that each send a request as soon as the last is answered, from one thread.
pub(crate) struct Clients {
    runtime: Runtime,
    connections: Vec<BufReader<TcpStream>>,
    request: Vec<u8>,
}

impl Clients {
    pub(crate) fn new(server: SocketAddr, count: usize, path: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let connections = (0..count).map(|_| runtime.block_on(connect(server))).collect();
        Self { runtime, connections, request: [head.as_bytes(), body.as_bytes()].concat() }
    }

    /// Sends `requests` in all; the time from the first to the last answer, and an answer.
    pub(crate) fn run(&mut self, requests: u64) -> (Duration, String) {
        let Self { runtime, connections, request } = self;
        let left = Cell::new(requests);
        let started = Instant::now();
        let answer = runtime.block_on(async {
            let answers = connections.iter_mut().map(|connection| ask(connection, request, &left));
            join_all(answers).await.into_iter().max().unwrap()
        });
        (started.elapsed(), answer)
    }
}

async fn connect(server: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// Asks until there are no requests left; the last answer's body.
async fn ask(connection: &mut BufReader<TcpStream>, request: &[u8], left: &Cell<u64>) -> String {
    let (mut line, mut body) = (String::new(), Vec::new());
    while let Some(after) = left.get().checked_sub(1) {
        left.set(after);
        connection.write_all(request).await.unwrap();
        line.clear();
        connection.read_line(&mut line).await.unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        let mut length = 0;
        loop {
            line.clear();
            connection.read_line(&mut line).await.unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        body.resize(length, 0);
        connection.read_exact(&mut body).await.unwrap();
    }
    String::from_utf8(body).unwrap()
}
