//! Requests that plugins make over HTTP.
//!
//! Contract: a request is checked against the granted hosts before a name is resolved or a connection made, and goes to the
//! host that was checked, for its URL is put together anew from that. Redirects are answers like others: who follows one
//! makes a request that is checked. Of a call [`MAX_OPEN`] requests may be open at once, each until its answer is read or
//! dropped; of all calls [`MAX_OPEN_OF_ALL`]. All of it ends with the call, at its deadline at the latest. Names may resolve to
//! any address: who grants a name grants that.
//!
//! Cost: connections of a plugin are kept for its next calls. An answer waits on the wire until the guest reads it; of each
//! no more than [`MAX_BUFFER`] bytes are held. Left out: proxies, HTTP/2, cookies, undoing compression.

mod body;
mod failure;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hyper::header::HOST;
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vespid_types::{Deadline, HttpHost, HttpScheme, Timeline};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody, WasiHttpHooks};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::plugin::PluginContext;
use body::Bounded;

/// Requests of one call that may be open at once.
pub(crate) const MAX_OPEN: usize = 16;
/// Requests of all calls that may be open at once: each takes a socket.
pub(crate) const MAX_OPEN_OF_ALL: usize = 256;
/// Bytes of an answer that are held before the guest reads them; also those of its head.
const MAX_BUFFER: usize = 64 << 10;
/// Bytes of a request's body that a guest hands over at once.
const MAX_CHUNK: usize = 64 << 10;
/// Connections to one host that are kept.
const MAX_IDLE: usize = 8;
const IDLE: Duration = Duration::from_secs(30);
/// Lines of the log about the requests of one call.
const MAX_LINES: u32 = 20;

type Failed = Result<(), HttpError>;
type Answered = (Response<WasiBody>, Box<dyn Future<Output = Failed> + Send>);

/// The way out of one plugin.
pub(crate) struct Outbound {
    client: Client<HttpsConnector<HttpConnector>, WasiBody>,
    /// Places for requests of all plugins.
    places: Arc<Semaphore>,
}

impl Outbound {
    /// Reads the system's root certificates, where a host is asked over TLS. Blocks.
    pub(crate) fn new(engine: &Engine, granted: &[HttpHost]) -> Result<Self, EngineError> {
        let secure = granted.iter().any(|host| host.scheme() == HttpScheme::Https);
        let tls = engine.tls(secure).map_err(|error| EngineError::Tls { reason: error.to_string() })?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_buf_size(MAX_BUFFER)
            .build(connector);
        Ok(Self { client, places: engine.requests() })
    }
}

/// The way out of one call.
pub(crate) struct Outgoing {
    context: Arc<PluginContext>,
    /// None where no host is granted.
    outbound: Option<Arc<Outbound>>,
    deadline: Deadline,
    /// Places for requests of this call.
    places: Arc<Semaphore>,
    log: Arc<Lines>,
}

impl Outgoing {
    pub(crate) fn new(
        context: &Arc<PluginContext>,
        outbound: Option<Arc<Outbound>>,
        deadline: Deadline,
        timeline: &Arc<Timeline>,
    ) -> Self {
        let context = Arc::clone(context);
        let timeline = Arc::clone(timeline);
        let log = Arc::new(Lines { context: Arc::clone(&context), timeline, written: AtomicU32::new(0) });
        Self { context, outbound, deadline, places: Arc::new(Semaphore::new(MAX_OPEN)), log }
    }

    /// Whether a request has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.places.available_permits() < MAX_OPEN
    }

    /// Takes a place for a request, and has it name the host that it was checked for.
    fn check(&self, mut request: Request<WasiBody>) -> Result<Checked, HttpError> {
        let host = host(request.uri()).ok_or(HttpError::HttpRequestUriInvalid)?;
        let granted = self.context.grants.http.iter().any(|granted| granted.covers(&host));
        let Some(outbound) = self.outbound.as_ref().filter(|_| granted) else {
            self.log.write(&format!(
                "a request to {host} was refused: [grants] of its model.toml has no such host"
            ));
            return Err(HttpError::HttpRequestDenied);
        };
        if request.method() == Method::CONNECT {
            return Err(HttpError::HttpRequestMethodInvalid);
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| HttpError::ConnectionLimitReached)?;
        let path = request.uri().path_and_query().cloned();
        let uri = Uri::builder()
            .scheme(host.scheme().as_str())
            .authority(host.authority())
            .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")));
        *request.uri_mut() = uri.build().map_err(|_| HttpError::HttpRequestUriInvalid)?;
        // The client writes it from the URL.
        request.headers_mut().remove(HOST);
        Ok(Checked { outbound: Arc::clone(outbound), request, host, place })
    }
}

/// The one host that a URL names, in the spelling of grants.
fn host(uri: &Uri) -> Option<HttpHost> {
    let scheme = match uri.scheme()? {
        scheme if *scheme == Scheme::HTTP => HttpScheme::Http,
        scheme if *scheme == Scheme::HTTPS => HttpScheme::Https,
        _ => return None,
    };
    let authority = uri.authority()?;
    // Nothing but the host and a port: no user before it, and no colon with what is none.
    match (authority.as_str().strip_prefix(authority.host())?, authority.port_u16()) {
        ("", None) => HttpHost::asked(scheme, authority.host(), None),
        (rest, Some(port)) if !rest.contains('@') => HttpHost::asked(scheme, authority.host(), Some(port)),
        _ => None,
    }
}

/// A request to a granted host.
struct Checked {
    outbound: Arc<Outbound>,
    request: Request<WasiBody>,
    host: HttpHost,
    place: OwnedSemaphorePermit,
}

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_CHUNK
    }

    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        self.log.write(&format!("an answer over HTTP ended early: {}", failure::chain(error)));
        match failure::of(error) {
            HttpError::ConnectionTerminated => ErrorCode::ConnectionTerminated,
            HttpError::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
            _ => ErrorCode::HttpProtocolError,
        }
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Failed> + Send>,
    ) -> Box<dyn Future<Output = Result<Answered, HttpError>> + Send> {
        let limits = Limits::new(self.deadline, options.unwrap_or_default());
        match self.check(request) {
            Ok(checked) => Box::new(checked.answer(limits, Arc::clone(&self.log))),
            Err(error) => Box::new(std::future::ready(Err(error))),
        }
    }
}

impl Checked {
    async fn answer(self, limits: Limits, log: Arc<Lines>) -> Result<Answered, HttpError> {
        let (host, head) = (self.host.clone(), limits.head);
        match tokio::time::timeout_at(head.into(), self.ask(limits, &log)).await {
            Ok(answer) => Ok((answer?, Box::new(std::future::ready(Ok(()))))),
            Err(_) => {
                log.write(&format!("a request to {host} got no answer in time"));
                Err(HttpError::ConnectionReadTimeout)
            }
        }
    }

    async fn ask(self, limits: Limits, log: &Lines) -> Result<Response<WasiBody>, HttpError> {
        let Self { outbound, request, host, place } = self;
        let shared = Arc::clone(&outbound.places).acquire_owned().await;
        let shared = shared.map_err(|_| HttpError::ConnectionLimitReached)?;
        match outbound.client.request(request).await {
            Ok(answer) => Ok(answer.map(|body| Bounded::new(body, &limits, [place, shared]).boxed())),
            Err(error) => {
                log.write(&format!("a request to {host} failed: {}", failure::chain(&error)));
                Err(failure::of(&error))
            }
        }
    }
}

/// How long things may take.
struct Limits {
    /// When the head of the answer must be there.
    head: Instant,
    /// When all of it must be.
    whole: Instant,
    /// How long the next piece of the body may take.
    between: Duration,
}

impl Limits {
    fn new(deadline: Deadline, options: RequestOptions) -> Self {
        let RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout } = options;
        let whole = deadline.instant();
        // A connection that is there already takes no time: what is allowed for making one goes to the answer.
        let wait = first_byte_timeout.map(|first| first.saturating_add(connect_timeout.unwrap_or_default()));
        let head =
            wait.and_then(|wait| Instant::now().checked_add(wait)).map_or(whole, |head| head.min(whole));
        Self { head, whole, between: between_bytes_timeout.unwrap_or(Duration::MAX) }
    }
}

/// What is told of a call's requests.
struct Lines {
    context: Arc<PluginContext>,
    timeline: Arc<Timeline>,
    written: AtomicU32,
}

impl Lines {
    fn write(&self, message: &str) {
        if self.written.fetch_add(1, Ordering::Relaxed) >= MAX_LINES {
            return;
        }
        let (model, version, request_id) = (&self.context.model, self.context.version, self.timeline.name());
        tracing::warn!(target: "plugin", parent: None, %model, %version, %request_id, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uri: &str) -> Option<String> {
        host(&uri.parse().unwrap()).map(|host| host.to_string())
    }

    #[test]
    fn a_url_names_one_host() {
        for (uri, expected) in [
            ("https://api.example.com/v1?x=1", "https://api.example.com"),
            ("HTTP://API.Example.COM:80/", "http://api.example.com"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("http://[0:0:0::1]:8080/", "http://[::1]:8080"),
        ] {
            assert_eq!(named(uri).as_deref(), Some(expected));
        }
        for uri in [
            "http://user@example.com/",
            "http://example.com@elsewhere.com/",
            "http://example.com:80@example.com:81/",
            "http://example.com:/",
            "http://example.com:99999/",
            "http://example.com./",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://*.example.com/",
            "ftp://example.com/",
            "/path",
            "example.com",
        ] {
            assert_eq!(named(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_guest_may_wait_for_less_than_the_call_and_not_for_more() {
        let second = Duration::from_secs(1);
        let deadline = Deadline::after(10 * second);
        let limits = |first| {
            let options = RequestOptions { first_byte_timeout: first, ..RequestOptions::default() };
            Limits::new(deadline, options)
        };
        assert!(limits(Some(second)).head < deadline.instant());
        assert_eq!(limits(Some(100 * second)).head, deadline.instant());
        assert_eq!(limits(Some(Duration::MAX)).head, deadline.instant());
        assert_eq!(limits(None).head, deadline.instant());
    }
}
