//! What a request shows of who sends it.
//!
//! Contract: nothing of it is copied, displayed or logged. One request has one token or key: what comes twice is refused, for another
//! might read the other.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::Denied;

/// The header of an API key; over gRPC the metadata of that name.
pub(crate) const API_KEY: &str = "x-api-key";

const MAX_NAME: usize = 1024;

/// What a request shows of who sends it.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The header `Authorization`: `Bearer` and a token, or an API key.
    pub authorization: Option<&'a str>,
    /// The header `x-api-key`.
    pub api_key: Option<&'a str>,
    /// Whose certificate the connection has, where the listener checked one.
    pub certificate: Option<&'a CertificateName>,
}

impl<'a> Credentials<'a> {
    /// Those in the headers of a request, or the metadata of a call.
    ///
    /// # Errors
    /// [`Denied::Malformed`] where one comes twice, or is no text.
    pub fn from_headers(
        headers: &'a HeaderMap,
        certificate: Option<&'a CertificateName>,
    ) -> Result<Self, Denied> {
        let authorization = one(headers, AUTHORIZATION.as_str())?;
        Ok(Self { authorization, api_key: one(headers, API_KEY)?, certificate })
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Denied::Malformed("a header of credentials comes twice: send it once"));
    }
    value.to_str().map(Some).map_err(|_| Denied::Malformed("a header of credentials is not ASCII"))
}

/// Shows what there is, and not what it says.
impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("authorization", &self.authorization.map(|_| "***"))
            .field("api_key", &self.api_key.map(|_| "***"))
            .field("certificate", &self.certificate)
            .finish()
    }
}

/// The name in a client's certificate: its first SAN of kind URI, else its first SAN of kind DNS, else its common name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateName(Arc<str>);

/// A name of a certificate that is not well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's name has 1 to 1024 bytes and no control characters")]
pub struct InvalidCertificateName;

impl CertificateName {
    /// A name as it stands in the certificate.
    ///
    /// # Errors
    /// [`InvalidCertificateName`] where it is empty, long, or has control characters.
    pub fn new(name: &str) -> Result<Self, InvalidCertificateName> {
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(InvalidCertificateName);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_comes_twice_is_refused() {
        for name in ["authorization", API_KEY] {
            let mut headers = HeaderMap::new();
            headers.append(name, HeaderValue::from_static("Bearer a"));
            assert!(Credentials::from_headers(&headers, None).is_ok());
            headers.append(name, HeaderValue::from_static("Bearer b"));
            assert!(matches!(Credentials::from_headers(&headers, None), Err(Denied::Malformed(_))));
        }
    }

    #[test]
    fn they_do_not_show() {
        let mut headers = HeaderMap::new();
        headers.append("authorization", HeaderValue::from_static("Bearer hunter2"));
        headers.append(API_KEY, HeaderValue::from_static("hunter3"));
        let text = format!("{:?}", Credentials::from_headers(&headers, None).unwrap());
        assert!(text.contains("***") && !text.contains("hunter"), "{text}");
    }

    #[test]
    fn a_certificate_has_a_name() {
        assert!(CertificateName::new("spiffe://cluster.local/ns/a/sa/b").is_ok());
        for bad in ["", "a\nb", "a\0b", &"a".repeat(1025)] {
            assert_eq!(CertificateName::new(bad), Err(InvalidCertificateName), "{bad}");
        }
    }
}
