//! What becomes of headers on their way through.
//!
//! Contract: those that are about one connection end here (RFC 9110, 7.6.1), either way. A pod is told who asked (`forwarded` and
//! `x-forwarded-*`): what a client says of itself there stays before it, for a proxy in front of this one says so too. The version
//! that the gateway chose is its own to say, and a client's word for it is dropped. `traceparent` goes along as it is.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use vespid_resources::names;
use vespid_types::header as agreed;

/// The header that clients and proxies use for a request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// In which the version is named.
pub(crate) const VERSION: HeaderName = HeaderName::from_static(agreed::MODEL_VERSION);

const AFFINITY: HeaderName = HeaderName::from_static(names::AFFINITY_HEADER);

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What is about a connection, whoever sends it.
const HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// How long a client's id may be: it stands in every line of the log.
const MAX_ID: usize = 128;

/// How long a key may be by which calls are led to one pod.
const MAX_KEY: usize = 256;

/// Removes what is about the connection that it came by.
pub(crate) fn end_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
    }
    HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// In which an API key comes.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Removes what shows who asks: that has been looked at here, and is no pod's to see.
pub(crate) fn end_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    headers.remove(API_KEY);
}

/// The headers of a request as a pod gets them.
pub(crate) fn to_pod(parts: &mut Parts, client: Option<SocketAddr>, grpc: bool) {
    let authority = parts.uri.authority().map(Authority::as_str);
    let host = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
    let headers = &mut parts.headers;
    end_hop(headers);
    // It has been answered here.
    headers.remove(header::EXPECT);
    headers.remove(VERSION);
    if grpc {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(host) = host.or_else(|| headers.get(header::HOST).cloned()) {
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
        headers.insert(header::HOST, host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    if let Some(client) = client.map(|client| client.ip().to_canonical()) {
        append(headers, FORWARDED_FOR, &client.to_string());
        append(headers, header::FORWARDED, &forwarded(client));
    }
}

/// As RFC 7239 has it.
fn forwarded(client: IpAddr) -> String {
    match client {
        IpAddr::V4(client) => format!("for={client};proto=http"),
        IpAddr::V6(client) => format!("for=\"[{client}]\";proto=http"),
    }
}

/// Puts an element at the end of a list.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let before: Vec<&str> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let list =
        if before.is_empty() { element.to_owned() } else { format!("{}, {element}", before.join(", ")) };
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(name, list);
    }
}

/// The key by which a client has its calls answered by one pod.
pub(crate) fn key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(AFFINITY)?.to_str().ok()?;
    (1..=MAX_KEY).contains(&key.len()).then(|| key.to_owned())
}

/// The request's id, which its headers hold from now on: the client's where it is one, else one made here.
pub(crate) fn ensure_id(headers: &mut HeaderMap) -> HeaderValue {
    let theirs = headers.get(REQUEST_ID).filter(|id| (1..=MAX_ID).contains(&id.len()) && id.to_str().is_ok());
    if let Some(id) = theirs {
        return id.clone();
    }
    let id = make();
    headers.insert(REQUEST_ID, id.clone());
    id
}

/// No two are the same in a process, and those of two hardly ever are.
fn make() -> HeaderValue {
    static FIRST: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // An odd factor: the products are all different, and do not look alike.
    let number = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    HeaderValue::try_from(format!("{:016x}", FIRST.wrapping_add(number)))
        .unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = Request::get("http://models.example/v2/models/iris").body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    #[test]
    fn what_is_about_a_connection_ends_here() {
        let mut parts = parts(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("vespid-model-version", "7"),
            ("vespid-affinity", "a"),
            ("traceparent", "00-1-2-01"),
            ("inference-header-content-length", "10"),
        ]);
        to_pod(&mut parts, None, false);
        let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                "host",
                "inference-header-content-length",
                "traceparent",
                "vespid-affinity",
                "x-forwarded-host",
                "x-forwarded-proto"
            ]
        );
        to_pod(&mut parts, None, true);
        assert_eq!(parts.headers["te"], "trailers");
    }

    #[test]
    fn a_pod_is_told_who_asked() {
        let mut parts = parts(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("x-forwarded-proto", "https"),
        ]);
        to_pod(&mut parts, Some("[::ffff:10.0.0.7]:999".parse().unwrap()), false);
        assert_eq!(parts.headers["x-forwarded-for"], "192.0.2.1, 192.0.2.2, 10.0.0.7");
        assert_eq!(parts.headers["forwarded"], "for=10.0.0.7;proto=http");
        assert_eq!(parts.headers["x-forwarded-proto"], "https");
        assert_eq!(parts.headers["x-forwarded-host"], "models.example");
        to_pod(&mut parts, Some("[fd00::1]:9".parse().unwrap()), false);
        assert_eq!(parts.headers["forwarded"], "for=10.0.0.7;proto=http, for=\"[fd00::1]\";proto=http");
    }

    #[test]
    fn a_client_s_id_is_kept_and_others_are_made() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("a-1"));
        assert_eq!(ensure_id(&mut headers), "a-1");
        headers.insert(REQUEST_ID, HeaderValue::from_str(&"x".repeat(129)).unwrap());
        assert_eq!(ensure_id(&mut headers).len(), 16);
        assert_eq!(headers[REQUEST_ID].len(), 16);
    }
}
