//! A server on one core and its clients on another, in one process.
//!
//! The server's runtime has one thread; the threads that it starts (the lane's among them) inherit its core. So what is
//! compared between two servers is the work that each does for the same number of requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::channel;

use axum::Router;
use axum::serve::ListenerExt;

/// Puts the calling thread on a core; where there is but one, it stays there.
pub(crate) fn pin(index: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(index % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}

/// Serves the router that `build` makes, on core 0, until the process ends.
pub(crate) fn serve<F: Future<Output = Router>>(build: impl FnOnce() -> F + Send + 'static) -> SocketAddr {
    let (address, bound) = channel();
    std::thread::spawn(move || {
        pin(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
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

/// Connections that each send one request and wait for its answer.
pub(crate) struct Clients {
    connections: Vec<BufReader<TcpStream>>,
    request: Vec<u8>,
    body: Vec<u8>,
}

impl Clients {
    pub(crate) fn new(server: SocketAddr, count: usize, path: &str, body: &str) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(server).unwrap();
            stream.set_nodelay(true).unwrap();
            BufReader::new(stream)
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body.as_bytes()].concat();
        Self { connections: (0..count).map(connect).collect(), request, body: Vec::new() }
    }

    /// One request on each connection, all at once.
    pub(crate) fn round(&mut self) {
        for connection in &mut self.connections {
            connection.get_mut().write_all(&self.request).unwrap();
        }
        for connection in &mut self.connections {
            read_answer(connection, &mut self.body);
        }
    }

    /// The last answer's body.
    pub(crate) fn last_body(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn read_answer(connection: &mut BufReader<TcpStream>, body: &mut Vec<u8>) {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some(_) => {}
            None => break,
        }
    }
    body.resize(length, 0);
    connection.read_exact(body).unwrap();
}
