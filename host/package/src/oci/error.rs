//! Why an artifact was not pushed, pulled or trusted.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use vespid_types::{BoxError, Digest, ErrorCode};

use super::reference::{InvalidReference, Reference};

/// A failure of a registry, or of what came from one.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// What was written is no reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The reference does not say which artifact.
    #[error("{reference} names neither a tag nor a digest: add one")]
    Vague {
        /// The reference.
        reference: Reference,
    },
    /// A reference that has to name a digest has none.
    #[error("{reference} is not pinned: add @ and the digest, which `vespid push` and `vespid pull` print")]
    Unpinned {
        /// The reference.
        reference: Reference,
    },
    /// The registry holds no such artifact.
    #[error("{reference}: the registry holds no such artifact")]
    NotFound {
        /// The reference.
        reference: Reference,
    },
    /// The registry wants to know who asks, or allows it less than this.
    #[error("{host} does not allow {action}: {reason}; `docker login {host}` says who you are")]
    Denied {
        /// The registry.
        host: String,
        /// What was tried.
        action: &'static str,
        /// What the registry says.
        reason: String,
    },
    /// The registry does not answer, or stops amid an answer.
    #[error("{host} fails amid {action}: {}", innermost(.source.as_ref()))]
    Transport {
        /// The registry.
        host: String,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: BoxError,
    },
    /// The registry answers with a failure.
    #[error("{host} answers {status} to {action}: {message}")]
    Answer {
        /// The registry.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What was tried.
        action: &'static str,
        /// What the registry says.
        message: String,
    },
    /// What came is not what the digest says.
    #[error("{what} from {host} is damaged: it should be {expected}, and {found}")]
    Damaged {
        /// What it is.
        what: String,
        /// The registry.
        host: String,
        /// The digest, or the size.
        expected: String,
        /// What came, as "is ..." or "holds ...".
        found: String,
    },
    /// An artifact that is no package, or has not what was asked for.
    #[error("{reference}: {reason}")]
    Artifact {
        /// The artifact.
        reference: Reference,
        /// What is wrong.
        reason: String,
    },
    /// What is larger than it may be.
    #[error("{what} of {reference} is larger than the limit of {limit}")]
    TooLarge {
        /// The artifact.
        reference: Reference,
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: ByteSize,
    },
    /// The digest that a push was to give is not the package's.
    #[error("the package's digest is {digest}, and {reference} names another")]
    OtherDigest {
        /// Where it was to go.
        reference: Reference,
        /// Its own.
        digest: Digest,
    },
    /// The trust policy does not admit the artifact.
    #[error("{reference} is not trusted: {reason}")]
    Untrusted {
        /// The artifact, with its digest.
        reference: Reference,
        /// Which keys were tried, and with what result.
        reason: String,
    },
    /// The server is not to pull from there.
    #[error("this server does not pull from {place}: start it with `--registry` and a pattern that matches")]
    NotAllowed {
        /// The place.
        place: String,
    },
    /// The trust policy is not valid.
    #[error("trust policy {}: {reason}", .file.display())]
    Policy {
        /// Its file.
        file: PathBuf,
        /// What is wrong, with the field's name.
        reason: String,
    },
    /// A file with a key is not one.
    #[error("key {}: {reason}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Docker's configuration does not give the credentials that it should.
    #[error("credentials for {host} from {}: {reason}", .file.display())]
    Credentials {
        /// The registry.
        host: String,
        /// The configuration.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system failed.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl RegistryError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What a client's error is to the one who asked for `action`.
    pub(super) fn of_client(host: &str, action: &'static str, error: OciDistributionError) -> Self {
        let host = host.to_owned();
        let status = status(&error);
        match (status, error) {
            (Some(401 | 403), error) => Self::Denied { host, action, reason: said(error) },
            (_, OciDistributionError::AuthenticationFailure(reason)) => {
                Self::Denied { host, action, reason: shortened(&reason) }
            }
            (Some(status), error) => Self::Answer { host, status, action, message: said(error) },
            (None, error) => Self::Transport { host, action, source: error.into() },
        }
    }

    /// The same of a request that is not the client's.
    pub(super) fn of_request(host: &str, action: &'static str, error: reqwest::Error) -> Self {
        // The URL of a redirect may hold a secret.
        let source = error.without_url().into();
        Self::Transport { host: host.to_owned(), action, source }
    }

    /// Whether trying again may help.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Answer { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Reference(_)
            | Self::Vague { .. }
            | Self::Unpinned { .. }
            | Self::Damaged { .. }
            | Self::Artifact { .. }
            | Self::OtherDigest { .. }
            | Self::Policy { .. }
            | Self::Key { .. } => ErrorCode::InvalidArgument,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Denied { .. }
            | Self::Untrusted { .. }
            | Self::NotAllowed { .. }
            | Self::Credentials { .. } => ErrorCode::PermissionDenied,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Transport { .. } | Self::Answer { .. } => ErrorCode::Unavailable,
            Self::Io { .. } => ErrorCode::Internal,
        }
    }
}

fn status(error: &OciDistributionError) -> Option<u16> {
    match error {
        OciDistributionError::UnauthorizedError { .. } => Some(401),
        OciDistributionError::ServerError { code, .. } => Some(*code),
        OciDistributionError::RequestError(error) => error.status().map(|status| status.as_u16()),
        OciDistributionError::RegistryError { envelope, .. } => {
            Some(envelope.errors.first().map_or(400, |error| match error.code {
                OciErrorCode::Unauthorized => 401,
                OciErrorCode::Denied => 403,
                OciErrorCode::Toomanyrequests => 429,
                OciErrorCode::BlobUnknown
                | OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::NotFound => 404,
                _ => 400,
            }))
        }
        _ => None,
    }
}

/// The registry's own words, without the URL, in which there may be a secret.
fn said(error: OciDistributionError) -> String {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            let texts: Vec<_> = envelope.errors.iter().map(|error| error.message.clone()).collect();
            shortened(&texts.join("; "))
        }
        OciDistributionError::ServerError { message, .. } => shortened(&message),
        OciDistributionError::UnauthorizedError { .. } => "it asks who you are".to_owned(),
        OciDistributionError::RequestError(error) => error.without_url().to_string(),
        error => error.to_string(),
    }
}

/// What is at the bottom of it: above that stands the request, which the message names already.
fn innermost<'a>(mut error: &'a (dyn std::error::Error + 'static)) -> &'a dyn std::error::Error {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 300;
    match text.trim() {
        "" => "it says no more".to_owned(),
        text => text.chars().take(SHOWN).collect(),
    }
}

/// How long an answer, or its next piece, is waited for.
pub(super) const PAUSE: Duration = Duration::from_secs(60);
/// How long a connection may take.
pub(super) const CONNECT: Duration = Duration::from_secs(10);
