//! The address of a server, checked when the command line is read.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ureq::http::Uri;

/// The address of a server: `http` or `https`, a host, perhaps a port and a path; no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    text: String,
    host: String,
}

impl ServerUrl {
    /// The address of `path`, which begins with a slash.
    pub(crate) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.text)
    }

    /// Whether the server is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a server's address.
#[derive(Debug, thiserror::Error)]
#[error("not a server's address: write it like http://127.0.0.1:8000")]
pub(crate) struct InvalidUrl;

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let text = text.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = text.parse().map_err(|_| InvalidUrl)?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        match uri.host() {
            Some(host) if web && !host.is_empty() && uri.query().is_none() => {
                Ok(Self { host: host.to_owned(), text: text.trim_end_matches('/').to_owned() })
            }
            _ => Err(InvalidUrl),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_and_joined() {
        let join =
            |text: &str| text.parse::<ServerUrl>().map(|url| url.join("/v2")).map_err(|e| e.to_string());
        assert_eq!(join("http://127.0.0.1:8000").unwrap(), "http://127.0.0.1:8000/v2");
        assert_eq!(join("https://models.example/team/").unwrap(), "https://models.example/team/v2");
        assert_eq!(join("box:9000").unwrap(), "http://box:9000/v2");
        for bad in ["", "ftp://a", "http://", "a b", "http://a?x=1"] {
            assert!(join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known() {
        let loopback = |text: &str| text.parse::<ServerUrl>().unwrap().is_loopback();
        assert!(
            loopback("http://127.0.0.1:8000") && loopback("http://localhost") && loopback("http://[::1]:80")
        );
        assert!(!loopback("http://10.0.0.1") && !loopback("https://localhost.example"));
    }
}
