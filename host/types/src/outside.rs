//! What a plugin may reach outside of its sandbox: hosts that it may ask over HTTP, and secrets.
//!
//! Contract: a host has one spelling once it is read, and nothing is resolved to compare two: names are compared as names,
//! addresses as addresses. What other tools take for an address as well (`127.1`, `0x7f.1`, `2130706433`) is neither here.
//! A [`Secret`] shows itself to who asks for it by name, and in no text. Left out on purpose: what a name resolves to; who
//! allows a name allows the addresses behind it.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How a host is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HttpScheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl HttpScheme {
    /// The scheme's name, as it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port where none is written.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Hosts that may be asked over HTTP: a name, all names below one (`*.internal`), or an address; always with a scheme and a
/// port. Written `https://api.example.com:8443`, where `https://` and the scheme's own port may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpHost {
    scheme: HttpScheme,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Name(String),
    /// The names that end in a dot and this.
    Below(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

/// A host that is not well formed. The text says what is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{text}' is no host for HTTP: {reason}; write one such as \"api.example.com\", \"http://10.0.0.7:8080\" or \"*.internal\""
)]
pub struct InvalidHttpHost {
    text: String,
    reason: &'static str,
}

impl HttpHost {
    /// One host, as a request names it: `None` where it is none, or a pattern. A name may have capital letters, and its port
    /// is the scheme's where there is none.
    #[must_use]
    pub fn asked(scheme: HttpScheme, host: &str, port: Option<u16>) -> Option<Self> {
        match self::host(host) {
            Ok(Host::Below(_)) | Err(_) => None,
            Ok(host) => Some(Self { scheme, host, port: port.unwrap_or(scheme.port()) }),
        }
    }

    /// Whether each host that `other` stands for is one of these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let below = |suffix: &str, name: &str| {
            name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        self.scheme == other.scheme
            && self.port == other.port
            && match (&self.host, &other.host) {
                (Host::Below(suffix), Host::Name(name)) => below(suffix, name),
                (Host::Below(suffix), Host::Below(narrower)) => suffix == narrower || below(suffix, narrower),
                (own, others) => own == others,
            }
    }

    /// How it is asked.
    #[must_use]
    pub fn scheme(&self) -> HttpScheme {
        self.scheme
    }

    /// The host and, where it is not the scheme's own, the port: a URL's authority.
    #[must_use]
    pub fn authority(&self) -> String {
        match (&self.host, self.port) {
            (host, port) if port == self.scheme.port() => host.to_string(),
            (host, port) => format!("{host}:{port}"),
        }
    }
}

impl FromStr for HttpHost {
    type Err = InvalidHttpHost;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |reason| InvalidHttpHost { text: text.chars().take(255).collect(), reason };
        let (scheme, rest) = match text.split_once("://") {
            None => (HttpScheme::Https, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (HttpScheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (HttpScheme::Http, rest),
            Some(_) => return Err(invalid("the scheme is http or https")),
        };
        if rest.contains('@') {
            return Err(invalid("a user belongs into a header of the request"));
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(invalid("a grant is for the whole host, without a path"));
        }
        // An address of version 6 has colons of its own, within brackets.
        let end = rest.rfind(']').map_or(0, |bracket| bracket + 1);
        let colon = rest.get(end..).and_then(|rest| rest.find(':')).map(|colon| end + colon);
        let (name, port) = match colon.and_then(|colon| rest.split_at_checked(colon)) {
            None => (rest, scheme.port()),
            Some((name, port)) => {
                let port = port.strip_prefix(':').and_then(number);
                (name, port.ok_or_else(|| invalid("a port is a number from 1 to 65535"))?)
            }
        };
        Ok(Self { scheme, host: host(name).map_err(invalid)?, port })
    }
}

fn number(port: &str) -> Option<u16> {
    let digits = port.bytes().all(|digit| digit.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port != 0)
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

fn host(text: &str) -> Result<Host, &'static str> {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse().map(Host::V6).map_err(|_| "within brackets stands an address of version 6");
    }
    if let Ok(address) = text.parse() {
        return Ok(Host::V4(address));
    }
    match text.strip_prefix("*.") {
        Some(suffix) => name(suffix).map(Host::Below),
        None => name(text).map(Host::Name),
    }
}

fn name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err("a name has 1 to 253 characters");
    }
    if text.contains('*') {
        return Err("a star stands for what is before the first dot, and for nothing else");
    }
    if text.ends_with('.') {
        return Err("a name ends without a dot");
    }
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !text.split('.').all(label) {
        return Err("a name is made of letters, digits, '-', '_' and dots (one in other letters as xn--...)");
    }
    // What resolvers take for an address in a spelling of its own.
    let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("an address of version 4 has four numbers from 0 to 255, in decimal");
    }
    Ok(text.to_ascii_lowercase())
}

impl TryFrom<String> for HttpHost {
    type Error = InvalidHttpHost;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HttpHost> for String {
    fn from(host: HttpHost) -> Self {
        host.to_string()
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*.{suffix}"),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A text that is not to be seen. It has no `Display`, and its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret of this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for the one that it is for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> HttpHost {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (text, spelling) in [
            ("api.example.com", "https://api.example.com"),
            ("HTTPS://API.Example.com:443", "https://api.example.com"),
            ("https://x.example:8443", "https://x.example:8443"),
            ("http://localhost", "http://localhost"),
            ("http://localhost:80", "http://localhost"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("[0:0::1]", "https://[::1]"),
            ("*.internal", "https://*.internal"),
            ("my_service", "https://my_service"),
        ] {
            assert_eq!(read(text).to_string(), spelling);
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "1 to 253"),
            ("ftp://a", "http or https"),
            ("user:password@example.com", "a user"),
            ("example.com/v1", "without a path"),
            ("example.com?x", "without a path"),
            ("example.com.", "ends without a dot"),
            ("exa mple.com", "made of letters"),
            ("-a.example", "made of letters"),
            ("a..example", "made of letters"),
            ("bücher.example", "xn--"),
            ("*", "a star"),
            ("a.*.example", "a star"),
            ("*.*.example", "a star"),
            ("127.1", "four numbers"),
            ("2130706433", "four numbers"),
            ("0x7f.0x1", "four numbers"),
            ("127.0.0.256", "four numbers"),
            ("0177.0.0.1", "four numbers"),
            ("*.0.0.1", "four numbers"),
            ("[::1", "a port"),
            ("[127.0.0.1]", "version 6"),
            ("example.com:", "a port"),
            ("example.com:0", "a port"),
            ("example.com:+80", "a port"),
            ("example.com:65536", "a port"),
        ] {
            let error = text.parse::<HttpHost>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_grant_covers_its_own_scheme_port_and_names() {
        let asked = |scheme, host, port| HttpHost::asked(scheme, host, port).unwrap();
        let granted = read("api.example.com");
        assert!(granted.covers(&asked(HttpScheme::Https, "API.example.COM", None)));
        assert!(granted.covers(&asked(HttpScheme::Https, "api.example.com", Some(443))));
        assert!(!granted.covers(&asked(HttpScheme::Https, "api.example.com", Some(8443))));
        assert!(!granted.covers(&asked(HttpScheme::Http, "api.example.com", Some(443))));
        assert!(!granted.covers(&asked(HttpScheme::Https, "www.api.example.com", None)));

        let below = read("*.internal");
        for (host, covered) in
            [("a.internal", true), ("b.a.internal", true), ("internal", false), ("ainternal", false)]
        {
            assert_eq!(below.covers(&asked(HttpScheme::Https, host, None)), covered, "{host}");
        }
        assert!(below.covers(&read("*.a.internal")) && below.covers(&below));
        assert!(!read("*.a.internal").covers(&below) && !read("a.internal").covers(&below));
        assert!(!read("http://127.0.0.1").covers(&asked(HttpScheme::Http, "[::ffff:127.0.0.1]", None)));
    }

    #[test]
    fn a_request_names_one_host() {
        for bad in ["*.internal", "127.1", "api.example.com.", "", "a:80", "a@b", "[::1%eth0]"] {
            assert_eq!(HttpHost::asked(HttpScheme::Http, bad, None), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!((secret.expose(), format!("{secret:?}").as_str()), ("hunter2", "Secret(***)"));
    }
}
