//! A client of an API server: JSON over HTTPS, with a bearer token.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::http::Answer;

/// Longer than any request here takes, and short enough to ask again when a server was killed.
const LIMIT: Duration = Duration::from_secs(20);

const JSON: &str = "application/json";

/// An API server, and who asks it.
#[derive(Clone)]
pub struct Api {
    url: String,
    token: String,
    authority: PathBuf,
    agent: Agent,
}

impl Api {
    /// Trusts the certificates in the file `authority`, which is there.
    pub(super) fn new(url: String, token: &str, authority: PathBuf) -> Self {
        let pem = fs::read(&authority).unwrap();
        let certificates: Vec<_> = parse_pem(&pem)
            .filter_map(|item| if let PemItem::Certificate(it) = item.unwrap() { Some(it) } else { None })
            .collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build();
        // Connections are kept, of which each costs both sides a millisecond: who waits for something asks all the time.
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(LIMIT))
            .tls_config(tls)
            .build()
            .new_agent();
        Self { url, token: token.to_owned(), authority, agent }
    }

    /// The same server, asked by somebody else.
    pub(super) fn by(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// Writes a configuration for kubectl, helm and whatever else reads one.
    pub(super) fn write_kubeconfig(&self, namespace: &str, path: &Path) {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {"name": "test", "cluster": {"server": self.url, "certificate-authority": self.authority}},
            ],
            "users": [{"name": "test", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        });
        fs::write(path, config.to_string()).unwrap();
    }

    /// Where the server is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// GETs a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, JSON, "")
    }

    /// Creates an object in the collection at `path`.
    #[must_use]
    pub fn post(&self, path: &str, object: &Value) -> Answer {
        self.send("POST", path, JSON, &object.to_string())
    }

    /// Replaces an object.
    #[must_use]
    pub fn put(&self, path: &str, object: &Value) -> Answer {
        self.send("PUT", path, JSON, &object.to_string())
    }

    /// Changes some fields of an object: a merge patch.
    #[must_use]
    pub fn merge(&self, path: &str, fields: &Value) -> Answer {
        self.send("PATCH", path, "application/merge-patch+json", &fields.to_string())
    }

    /// Applies an object on the server's side, as the manager `manager`. `yaml` is the whole object, `path` its own.
    #[must_use]
    pub fn apply(&self, path: &str, manager: &str, yaml: &str) -> Answer {
        let path = format!("{path}?fieldManager={manager}");
        self.send("PATCH", &path, "application/apply-patch+yaml", yaml)
    }

    /// Deletes an object.
    #[must_use]
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, JSON, "")
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let answer = self.try_send(method, path, kind, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends a request to a server that may be gone.
    ///
    /// # Errors
    /// What the connection came to.
    pub fn try_send(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Answer, ureq::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", kind);
        let response = match body {
            "" => self.agent.run(request.body(())?),
            body => self.agent.run(request.body(body)?),
        };
        let (parts, mut body) = response?.into_parts();
        let body = body.with_config().limit(u64::MAX).read_to_vec()?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}
