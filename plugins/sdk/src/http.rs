//! Asking others over HTTP. The feature `http` of this crate.
//!
//! The manifest names the hosts (`[grants] http`), and the server must allow them. A call waits for its answer; it ends at the
//! deadline of the call that the plugin answers, and an answer is held in the plugin's memory as a whole. A redirect is an
//! answer like others.
//!
//! ```
//! use vespid_plugin::prelude::*;
//! use vespid_plugin::http;
//!
//! fn rate(currency: &str) -> Result<f64> {
//!     let key = secret("api-key").ok_or_else(|| Error::internal("no api-key"))?;
//!     let answer = http::Request::get(&format!("https://api.example.com/rates/{currency}"))
//!         .header("authorization", &format!("Bearer {key}"))
//!         .send()?
//!         .successful()?;
//!     answer.text()?.trim().parse().map_err(|_| Error::unavailable("no rate came back"))
//! }
//! # // On any other target than WebAssembly, the others are played by `testing`.
//! # vespid_plugin::testing::secret("api-key", "k");
//! # vespid_plugin::testing::http(|request| {
//! #     assert_eq!(request.header_value("Authorization"), Some("Bearer k"));
//! #     Ok(http::Response::new(200).with_body("1.25\n"))
//! # });
//! # assert_eq!(rate("EUR")?, 1.25);
//! # Ok::<(), Error>(())
//! ```

use crate::error::{Error, Result};
use crate::sys;

type Headers = Vec<(String, Vec<u8>)>;

/// GETs a URL.
pub fn get(url: &str) -> Result<Response> {
    Request::get(url).send()
}

/// A request that is to be made.
#[derive(Clone, Debug)]
#[must_use = "it is made by `send`"]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Headers,
    pub(crate) body: Option<Vec<u8>>,
}

impl Request {
    /// One of any method.
    pub fn new(method: &str, url: &str) -> Self {
        Self { method: method.to_owned(), url: url.to_owned(), headers: Vec::new(), body: None }
    }

    /// A GET.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A POST.
    pub fn post(url: &str) -> Self {
        Self::new("POST", url)
    }

    /// A PUT.
    pub fn put(url: &str) -> Self {
        Self::new("PUT", url)
    }

    /// A DELETE.
    pub fn delete(url: &str) -> Self {
        Self::new("DELETE", url)
    }

    /// Adds a header. `Host` and what is about the connection are the server's to write, and are refused.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// Gives it a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Makes the request and reads the whole answer, whatever its status is.
    pub fn send(self) -> Result<Response> {
        let asked = format!("{} {}", self.method, shown(&self.url));
        sys::http::send(self).map_err(|error| error.context(asked))
    }

    /// Its method, for a test that plays the other side.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A header that is text.
    #[must_use]
    pub fn header_value(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// Its body; empty where it has none.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// An answer with nothing but a status, to be filled by a test.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// The same with a header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// This, where its status is one of success (200 to 299); else a failure that the caller sees as `UNAVAILABLE`.
    pub fn successful(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(Error::unavailable(format!("an answer over HTTP has the status {}", self.status)))
    }

    /// A header that is text; the first of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body, out of this.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.body
    }

    /// The body as text, which must be UTF-8.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(&self.body)
            .map_err(|error| Error::unavailable(format!("an answer over HTTP is not UTF-8 text: {error}")))
    }
}

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

/// A URL for a message, in which neither its query nor a user belongs: keys may be in both.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// The parts of a URL that a request is made of.
#[cfg_attr(
    not(target_arch = "wasm32"),
    allow(dead_code, reason = "the host gets the parts, its stand-in the whole")
)]
pub(crate) struct Url<'a> {
    pub(crate) secure: bool,
    pub(crate) authority: &'a str,
    pub(crate) path: String,
}

impl<'a> Url<'a> {
    #[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "as above"))]
    pub(crate) fn parse(url: &'a str) -> Result<Self> {
        let begins = |scheme: &str| {
            let start = url.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme));
            start.and(url.get(scheme.len()..))
        };
        let (secure, rest) = match (begins("https://"), begins("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(Error::internal("a URL begins with http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { secure, authority, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, secure, authority, path) in [
            ("https://a.example", true, "a.example", "/"),
            ("HTTP://a.example:80/b/c?d=/e#f", false, "a.example:80", "/b/c?d=/e"),
            ("http://a.example?b", false, "a.example", "/?b"),
            ("http://[::1]:8/b", false, "[::1]:8", "/b"),
        ] {
            let parsed = Url::parse(url).unwrap();
            assert_eq!((parsed.secure, parsed.authority, parsed.path.as_str()), (secure, authority, path));
        }
        assert!(Url::parse("ftp://a.example").is_err());
        assert!(Url::parse("a.example").is_err());
    }

    #[test]
    fn a_failure_names_the_url_without_what_may_be_a_key() {
        crate::testing::http(|request| {
            assert_eq!((request.method(), request.content()), ("POST", &b"body"[..]));
            Err(Error::unavailable("refused"))
        });
        let error = Request::post("https://user:key@a.example/b?key=1").body("body").send().unwrap_err();
        assert_eq!(error.message(), "POST https://a.example/b: refused");
    }

    #[test]
    fn an_answer_is_read_as_what_it_is() {
        let answer = Response::new(200).with_header("Content-Type", "text/plain").with_body("é");
        assert_eq!((answer.header("content-type"), answer.text().unwrap()), (Some("text/plain"), "é"));
        assert!(Response::new(200).with_body([0xff]).text().is_err());
        assert!(Response::new(302).successful().is_err() && Response::new(204).successful().is_ok());
    }
}
