//! What goes wrong.

use std::net::SocketAddr;

/// Why something could not be done. What the API server refuses of one object is no error but a condition of its owner.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The API server does not answer, or does not do what is asked.
    #[error("{doing}: {source}")]
    Kubernetes {
        /// What was being done.
        doing: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// A configuration cannot be written as YAML.
    #[error("{file}: {reason}")]
    Render {
        /// The file.
        file: &'static str,
        /// Why.
        reason: String,
    },
    /// The image of pods is not said, and not to be found out.
    #[error(
        "no image is named (--image), and that of the operator's own pod '{pod}' is not to be had: {reason}"
    )]
    Image {
        /// The pod.
        pod: String,
        /// Why.
        reason: String,
    },
    /// Another operator leads, or nobody knows.
    #[error("the lease '{lease}' is lost: {reason}")]
    Lease {
        /// Its name.
        lease: String,
        /// Why.
        reason: String,
    },
    /// The port for probes and metrics cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A metric is there twice.
    #[error("the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A part of the operator has ended by itself.
    #[error("{0} has ended")]
    Ended(&'static str),
}

impl OperatorError {
    /// An answer of the API server, and what it was asked.
    pub(crate) fn kube(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Kubernetes { doing, source: Box::new(source) }
    }

    /// Whether somebody else has changed the object meanwhile: it is read again, and nothing is wrong.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Kubernetes { source, .. } if code(source) == Some(409))
    }
}

/// The status code that the API server answered with.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
