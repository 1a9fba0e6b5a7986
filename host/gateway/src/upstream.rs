//! The way to pods: connections that are kept, HTTP/1.1 for HTTP and HTTP/2 for gRPC.
//!
//! Cost: a connection that is free is used again, and closed after a while without use; over HTTP/2 there is one for each pod. A pod
//! whose machine is gone is noticed by the connection's own means (TCP's user timeout, HTTP/2's pings), for a model may take as long
//! as it likes.

use std::time::Duration;

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use vespid_types::Error;

use crate::pods::Protocol;
use crate::replay::Replay;

/// How long a connection without a call is kept: less than the host closes it after, so that none is used that is being closed.
const KEPT: Duration = Duration::from_secs(50);

/// Connections without a call that are kept for each pod.
const KEPT_CONNECTIONS: usize = 1024;

/// After how long without a sign a pod's machine is taken for gone.
const GONE: Duration = Duration::from_secs(30);

/// How often an HTTP/2 connection is asked whether the pod is there.
const PING: Duration = Duration::from_secs(10);

/// How much of a stream may be on its way: tensors are large, and networks have delays.
const STREAM_WINDOW: u32 = 2 << 20;

/// How much of all streams of a connection: as much as HTTP/2 has (RFC 9113, 6.9.1). All calls to a pod share one, and those whose
/// clients do not read their answers must not hold up the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Why a pod gave no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// Whether the connection was not even made, so that the pod has not heard of the call.
    pub(crate) is_unheard: bool,
    pub(crate) reason: String,
}

/// What each attempt of a call says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: HeaderMap,
}

/// The connections.
#[derive(Debug)]
pub(crate) struct Upstream {
    http: Client<HttpConnector, Replay>,
    grpc: Client<HttpConnector, Replay>,
}

impl Upstream {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        let connector = || {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(connect_timeout));
            connector.set_keepalive(Some(GONE));
            connector.set_keepalive_interval(Some(PING));
            #[cfg(target_os = "linux")]
            connector.set_tcp_user_timeout(Some(GONE));
            connector
        };
        let builder = || {
            let mut builder = Client::builder(TokioExecutor::new());
            builder
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(KEPT)
                .pool_max_idle_per_host(KEPT_CONNECTIONS)
                // The headers of a call are complete.
                .set_host(false);
            builder
        };
        let grpc = builder()
            .http2_only(true)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(GONE)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .build(connector());
        Self { http: builder().build(connector()), grpc }
    }

    /// Sends an attempt to a pod.
    pub(crate) async fn send(
        &self,
        protocol: Protocol,
        pod: &Authority,
        head: &Head,
        headers: HeaderMap,
        body: Replay,
    ) -> Result<Response<Incoming>, Unanswered> {
        let uri =
            Uri::builder().scheme(Scheme::HTTP).authority(pod.clone()).path_and_query(head.path.clone());
        let unsent = |error: axum::http::Error| Unanswered { is_unheard: true, reason: error.to_string() };
        let mut request = Request::new(body);
        *request.uri_mut() = uri.build().map_err(unsent)?;
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = headers;
        let client = match protocol {
            Protocol::Http => &self.http,
            Protocol::Grpc => {
                *request.version_mut() = Version::HTTP_2;
                &self.grpc
            }
        };
        client
            .request(request)
            .await
            .map_err(|error| Unanswered { is_unheard: error.is_connect(), reason: gist(&error) })
    }
}

/// The innermost reason, which is the telling one.
fn gist(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source().filter(|source| !source.is::<Error>()) {
        innermost = source;
    }
    innermost.to_string()
}
