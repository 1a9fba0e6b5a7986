//! A server on one core and its clients on another, in one process.
//!
//! The server's runtime has one thread; the threads that it starts (the lane's among them) inherit its core. So what is
//! compared between two servers is the work that each does for the same number of requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::ListenerExt;
use core_affinity::CoreId;
use tokio::runtime::Builder;

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

/// Connections that each send a request as soon as the last is answered. Their one thread never sleeps: waking it would
/// cost a server that is slower than its clients, and only that, an interrupt for each answer.
pub(crate) struct Clients {
    connections: Vec<Connection>,
    request: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    waiting: bool,
}

impl Clients {
    pub(crate) fn new(server: SocketAddr, count: usize, path: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let connect = |_| {
            let stream = TcpStream::connect(server).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_nonblocking(true).unwrap();
            Connection { stream, received: Vec::new(), waiting: false }
        };
        Self {
            connections: (0..count).map(connect).collect(),
            request: [head.as_bytes(), body.as_bytes()].concat(),
        }
    }

    /// Sends `requests` in all; the time from the first to the last answer, and the last answer's body.
    pub(crate) fn run(&mut self, requests: u64) -> (Duration, String) {
        let (mut unsent, mut unanswered) = (requests, requests);
        let mut last = String::new();
        let started = Instant::now();
        while unanswered > 0 {
            for connection in &mut self.connections {
                if !connection.waiting && unsent > 0 {
                    unsent -= 1;
                    connection.stream.write_all(&self.request).unwrap();
                    connection.waiting = true;
                }
                if connection.waiting
                    && let Some(body) = connection.answer()
                {
                    connection.waiting = false;
                    unanswered -= 1;
                    last = body;
                }
            }
        }
        (started.elapsed(), last)
    }
}

impl Connection {
    /// The answer's body, once all of it has come.
    fn answer(&mut self) -> Option<String> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => panic!("the server hung up"),
            Ok(length) => self.received.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
        let text = std::str::from_utf8(&self.received).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200"), "{text}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() < length.parse().unwrap() {
            return None;
        }
        let body = body.to_owned();
        self.received.clear();
        Some(body)
    }
}
