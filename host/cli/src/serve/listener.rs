//! How the server listens for HTTP: HTTP/1.1 and HTTP/2 (by prior knowledge) on one port.
//!
//! Contract: [`listen`] ends when it was told to stop and what was in flight has been answered; from then on nothing new
//! is accepted, and connections without a request are closed. Clients that are slow to send the head of a request are cut
//! off. Cost: a task a connection. Left out on purpose: a limit on connections,
//! which the system has.
//!
//! It is `axum-server` and not `axum::serve`, which sets no timer and so waits for ever for the head of a request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::middleware::AddExtension;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::service::SendService;
use axum_server::{Handle, Server};
use hyper::body::Incoming;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::tls::Tls;

/// How often the other end of an HTTP/2 connection is asked whether it is there, and how long it has for the answer: a client
/// that vanished is to end its calls.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests of one HTTP/2 connection at once, others waiting at the client: as many as may be in flight at a gateway by default,
/// for clients that speak gRPC, and gateways, send all of theirs over one.
const MAX_STREAMS: u32 = 4096;

/// How much of all streams of a connection may be on its way: as much as HTTP/2 has (RFC 9113, 6.9.1), so that one that is not read
/// does not hold up the others of its connection. Each stream has its own limit.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The routes, with the client's address.
type WithClient = AddExtension<Router, ConnectInfo<SocketAddr>>;

/// Lets the process have as many connections and files open as the system lets it ask for: the lower limit that it starts with is for
/// programs that use `select`.
pub(crate) fn allow_many_connections() {
    let limits = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }) {
        tracing::warn!("no more than {:?} files may be open: {error}", limits.current);
    }
}

/// Serves until `stopped` turns true and what is in flight has ended, over TLS where that is given. A connection on which no head of a
/// request comes for `idle` is closed.
pub(crate) async fn listen(
    listener: TcpListener,
    router: Router,
    idle: Duration,
    tls: Option<Tls>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let server = Server::<SocketAddr>::from_listener(listener);
    // Answers are small and whole: waiting to fill a packet only delays them.
    let plain = NoDelayAcceptor::new();
    match tls {
        None => run(server.acceptor(plain), router, idle, stopped).await,
        Some(tls) => run(server.acceptor(tls.acceptor(plain)), router, idle, stopped).await,
    }
}

async fn run<A>(
    server: Server<SocketAddr, A>,
    router: Router,
    idle: Duration,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()>
where
    A: Accept<TcpStream, WithClient> + Clone + Send + Sync + 'static,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send,
    A::Service: SendService<Request<Incoming>> + Send,
    A::Future: Send,
{
    let handle = Handle::new();
    let mut server =
        server.first_request_timeout(idle).accept_error_handler(not_accepted).handle(handle.clone());
    server.http_builder().http1().header_read_timeout(idle);
    server
        .http_builder()
        .http2()
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS);
    // The client's address goes along with each request: a gateway tells its pods who asked.
    let serving = server.serve(router.into_make_service_with_connect_info::<SocketAddr>());
    // By a thread of the runtime's, which goes on with the connection: the one that started the server would have to wake it.
    let mut accepting = JoinSet::new();
    accepting.spawn(serving);
    tokio::select! {
        served = ended(&mut accepting) => return served,
        // An error means that the sender is gone, and with it the server.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    handle.graceful_shutdown(None);
    ended(&mut accepting).await
}

async fn ended(accepting: &mut JoinSet<io::Result<()>>) -> anyhow::Result<()> {
    match accepting.join_next().await {
        Some(served) => served.context("serving failed")?.context("serving failed"),
        None => Ok(()),
    }
}

fn not_accepted(client: Option<&SocketAddr>, error: &io::Error) {
    match client {
        Some(client) => tracing::debug!(%client, "a connection ended before it began: {error}"),
        None => tracing::warn!("no connection can be accepted: {error}"),
    }
}
