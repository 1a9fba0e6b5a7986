//! What a failed request is in the words of `wasi:http`.

use std::error::Error;
use std::io;

use rustls::Error as TlsError;
use wasmtime_wasi_http::Error as HttpError;

/// The failure, by the first of its causes that says more than that it failed.
pub(super) fn of(error: &(dyn Error + 'static)) -> HttpError {
    causes(error).find_map(cause).unwrap_or(HttpError::HttpProtocolError)
}

/// The failure with its causes, for the log.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| below(*error))
}

fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An error of the system that holds another names that one's cause as its own, and leaves it out.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

fn cause(error: &(dyn Error + 'static)) -> Option<HttpError> {
    if let Some(error) = error.downcast_ref::<TlsError>() {
        return Some(match error {
            TlsError::InvalidCertificate(_) => HttpError::TlsCertificateError,
            TlsError::AlertReceived(alert) => HttpError::TlsAlertReceived {
                alert_id: Some(u8::from(*alert)),
                alert_message: Some(format!("{alert:?}")),
            },
            _ => HttpError::TlsProtocolError,
        });
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(HttpError::ConnectionRefused),
            io::ErrorKind::TimedOut => Some(HttpError::ConnectionTimeout),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Some(HttpError::DestinationUnavailable)
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(HttpError::ConnectionTerminated),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_incomplete_message().then_some(HttpError::HttpResponseIncomplete);
    }
    // The client has no type for it that one could name.
    (error.to_string() == "dns error").then(|| HttpError::DnsError { rcode: None, info_code: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_that_says_something_counts() {
        let tls = io::Error::other(TlsError::InvalidCertificate(rustls::CertificateError::UnknownIssuer));
        assert!(matches!(of(&tls), HttpError::TlsCertificateError));
        assert!(chain(&tls).contains("UnknownIssuer"), "{}", chain(&tls));
        let refused = io::Error::other(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(matches!(of(&refused), HttpError::ConnectionRefused));
        assert!(matches!(of(&io::Error::other("dns error")), HttpError::DnsError { .. }));
        assert!(matches!(of(&io::Error::other("something")), HttpError::HttpProtocolError));
    }
}
