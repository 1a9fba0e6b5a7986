//! The id of a request, for its log lines and for whoever asks about them.
//!
//! Contract: a request that goes on from here has a header `x-request-id`, the client's where it is text of at most 128
//! characters, else one made here; the answer bears the same. It is not the `id` in a request's body, which is the
//! caller's own business. Cost: a counter and 16 digits. Left out on purpose: ids that nobody could guess.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that clients and proxies use for it.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// What is taken of a client: it stands in every line of the log.
const MAX_LENGTH: usize = 128;

/// The request's id, which its headers hold from now on.
pub(super) fn ensure(headers: &mut HeaderMap) -> HeaderValue {
    let theirs = headers.get(HEADER).filter(|id| (1..=MAX_LENGTH).contains(&id.len()) && id.to_str().is_ok());
    if let Some(id) = theirs {
        return id.clone();
    }
    let id = make();
    headers.insert(HEADER, id.clone());
    id
}

/// No two are the same in a process, and those of two hardly ever are.
fn make() -> HeaderValue {
    static FIRST: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // An odd factor: the products are all different, and do not look alike.
    let number = COUNT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = format!("{:016x}", FIRST.wrapping_add(number));
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_s_id_is_kept_and_others_are_made() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static("a-1"));
        assert_eq!(ensure(&mut headers), "a-1");
        for bad in ["", "\u{e4}", &"x".repeat(129)] {
            headers.insert(HEADER, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            let made = ensure(&mut headers);
            assert_eq!(made.len(), 16);
            assert_eq!(headers[HEADER], made);
        }
        headers.clear();
        let one = ensure(&mut headers);
        headers.clear();
        assert_ne!(one, ensure(&mut headers));
    }
}
