//! What can go wrong between a command and the server, and what to do about it.

use std::io;
use std::path::PathBuf;

use ureq::http::StatusCode;

use super::ServerUrl;

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The token could not stand in a header.
    #[error("VESPID_TOKEN is no token: it has characters that cannot be in one")]
    Token,
    /// The authorities cannot be used.
    #[error("VESPID_CA_FILE {}: {reason}", file.display())]
    CaFile { file: PathBuf, reason: String },
    /// Nobody listens there.
    #[error("no server answers at {server}")]
    Refused { server: ServerUrl },
    /// The name does not resolve.
    #[error("the host of {server} is not known")]
    UnknownHost { server: ServerUrl },
    /// Time was up.
    #[error("{server} gave no answer in time ({what})")]
    Timeout { server: ServerUrl, what: String },
    /// The server answered with a status that is not a success.
    #[error("{message} ({server} answered {status})")]
    Status { server: ServerUrl, status: StatusCode, message: String },
    /// The answer is not JSON of the protocol's form.
    #[error("the answer of {server} is not what the Open Inference Protocol asks for")]
    Form { server: ServerUrl, source: serde_json::Error },
    /// Anything else.
    #[error("the exchange with {server} failed")]
    Transport { server: ServerUrl, source: Box<ureq::Error> },
}

impl ClientError {
    pub(super) fn transport(server: &ServerUrl, source: ureq::Error) -> Self {
        let server = server.clone();
        match source {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Self::Refused { server }
            }
            ureq::Error::HostNotFound => Self::UnknownHost { server },
            ureq::Error::Timeout(timeout) => Self::Timeout { server, what: timeout.to_string() },
            source => Self::Transport { server, source: Box::new(source) },
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Refused { .. } => "start one with `vespid serve --store DIR`".to_owned(),
            Self::UnknownHost { .. } => "check --server and VESPID_SERVER".to_owned(),
            Self::Timeout { .. } => {
                "see whether the server is busy; `vespid predict` takes a longer --timeout".to_owned()
            }
            Self::Form { .. } => {
                "check that --server names a Vespid server and not another service".to_owned()
            }
            Self::Token | Self::CaFile { .. } | Self::Transport { .. } => return None,
            Self::Status { status, server, message } => return status_hint(*status, server, message),
        };
        Some(hint)
    }
}

fn status_hint(status: StatusCode, server: &ServerUrl, message: &str) -> Option<String> {
    let hint = match status {
        _ if message.contains("UTF-8") => {
            "an output is not text, which JSON cannot carry: ask for it with a client that takes binary outputs".to_owned()
        }
        StatusCode::NOT_FOUND => format!("`vespid models --server {server}` lists what is there"),
        StatusCode::CONFLICT => "raise `version` in model.toml, or remove the old one with `vespid delete`".to_owned(),
        StatusCode::UNAUTHORIZED => "put a token or an API key into VESPID_TOKEN".to_owned(),
        StatusCode::FORBIDDEN => {
            "ask who runs the server for the permission; `vespid authz check` tells them what is missing".to_owned()
        }
        StatusCode::TOO_MANY_REQUESTS => {
            "the model or its tenant is at a limit of the server's (--limits): try again later".to_owned()
        }
        StatusCode::SERVICE_UNAVAILABLE => "the server is busy or still loading: try again".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => {
            "check that --server names a Vespid server that accepts pushed models".to_owned()
        }
        _ => return None,
    };
    Some(hint)
}
