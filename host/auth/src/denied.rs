//! Why a request goes no further.
//!
//! Contract: what is displayed is for the client, and tells it what it can mend and nothing that helps who guesses: of tokens, keys and
//! certificates that are not good here all say the same. [`Denied::reason`] is for the log, the audit and the counters.

use std::sync::Arc;

use vespid_types::{Error, ErrorCode};

/// Why a request goes no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It has no credentials.
    #[error("credentials are missing: send Authorization: Bearer with a token or an API key")]
    Missing,
    /// Its credentials cannot be read, for this reason.
    #[error("the credentials are malformed: {0}")]
    Malformed(&'static str),
    /// The token's time is over.
    #[error("the token has expired")]
    Expired,
    /// The token's time has not begun.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The token is of nobody who is trusted here.
    #[error("the token is not valid here")]
    WrongIssuer,
    /// The token is for somebody else.
    #[error("the token is not valid here")]
    WrongAudience,
    /// The provider has no key by the name in the token.
    #[error("the token is not valid here")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token is not valid here")]
    BadSignature,
    /// The token is signed in a way that is not taken here, or that does not go with the key.
    #[error("the token is not valid here")]
    AlgorithmNotAllowed,
    /// Nobody has this API key.
    #[error("the API key is not valid")]
    UnknownApiKey,
    /// The API key's time is over.
    #[error("the API key is not valid")]
    ExpiredApiKey,
    /// The certificate is nobody's here.
    #[error("the certificate is not valid here")]
    UnknownCertificate,
    /// Whose token it is cannot be found out now.
    #[error("the token cannot be checked now; try again later")]
    ProviderUnavailable,
    /// Whoever asks may not do this.
    #[error("you may not {0}")]
    Forbidden(String),
}

impl Denied {
    /// What the caller sees: `UNAUTHENTICATED` where it is not known who asks, `PERMISSION_DENIED` where they may not, `UNAVAILABLE` where
    /// it cannot be found out now.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Forbidden(_) => ErrorCode::PermissionDenied,
            Self::ProviderUnavailable => ErrorCode::Unavailable,
            Self::Missing
            | Self::Malformed(_)
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongIssuer
            | Self::WrongAudience
            | Self::UnknownKey
            | Self::BadSignature
            | Self::AlgorithmNotAllowed
            | Self::UnknownApiKey
            | Self::ExpiredApiKey
            | Self::UnknownCertificate => ErrorCode::Unauthenticated,
        }
    }

    /// The reason in a word, for the log, the audit and the counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::UnknownApiKey => "unknown_api_key",
            Self::ExpiredApiKey => "expired_api_key",
            Self::UnknownCertificate => "unknown_certificate",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::Forbidden(_) => "forbidden",
        }
    }

    /// The header `WWW-Authenticate` that goes with a 401 (RFC 6750, section 3): without an error where nothing was sent.
    #[must_use]
    pub fn www_authenticate(&self) -> Option<String> {
        match (self.code(), self) {
            (ErrorCode::Unauthenticated, Self::Missing) => Some("Bearer realm=\"vespid\"".to_owned()),
            // Each text is ours, and has neither a quote nor a backslash.
            (ErrorCode::Unauthenticated, _) => Some(format!(
                "Bearer realm=\"vespid\", error=\"invalid_token\", error_description=\"{self}\""
            )),
            _ => None,
        }
    }
}

/// [`Denied::www_authenticate`] of a failure that one was turned into.
#[must_use]
pub fn www_authenticate(error: &Error) -> Option<String> {
    // An error shares its source.
    let shared =
        std::error::Error::source(error)?.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    shared.downcast_ref::<Denied>()?.www_authenticate()
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        Self::new(denied.code(), denied.to_string()).with_source(denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_token_is_for_the_log_alone() {
        let texts = [
            Denied::WrongIssuer,
            Denied::WrongAudience,
            Denied::UnknownKey,
            Denied::BadSignature,
            Denied::AlgorithmNotAllowed,
        ];
        assert!(texts.iter().all(|denied| denied.to_string() == "the token is not valid here"));
        assert_eq!(Denied::UnknownApiKey.to_string(), Denied::ExpiredApiKey.to_string());
    }

    #[test]
    fn a_challenge_names_an_error_where_something_was_sent() {
        let challenge = |denied: Denied| denied.www_authenticate();
        assert_eq!(challenge(Denied::Missing).unwrap(), "Bearer realm=\"vespid\"");
        assert_eq!(
            challenge(Denied::Expired).unwrap(),
            "Bearer realm=\"vespid\", error=\"invalid_token\", error_description=\"the token has expired\""
        );
        assert_eq!(challenge(Denied::Forbidden("do this".to_owned())), None);
        assert_eq!(challenge(Denied::ProviderUnavailable), None);
    }

    #[test]
    fn each_has_its_code() {
        assert_eq!(Denied::Missing.code(), ErrorCode::Unauthenticated);
        assert_eq!(Denied::Forbidden(String::new()).code(), ErrorCode::PermissionDenied);
        assert_eq!(Denied::ProviderUnavailable.code(), ErrorCode::Unavailable);
        assert_eq!(www_authenticate(&Error::from(Denied::Missing)), Denied::Missing.www_authenticate());
        assert_eq!(www_authenticate(&Error::internal("x")), None);
    }
}
