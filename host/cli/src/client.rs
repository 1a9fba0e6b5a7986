//! The HTTP client that commands talk to a server with.
//!
//! Contract: an answer other than 2xx is an error that carries the status and the server's own text. Connecting may
//! take ten seconds; an answer may take as long as the server's limits and `--timeout` allow.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::header::AUTHORIZATION;
use ureq::http::request::Builder;
use ureq::http::{HeaderValue, Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, Body, SendBody};

mod error;
mod url;

pub(crate) use error::ClientError;
pub(crate) use url::ServerUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The variable with a token or an API key, which is in no command line that others of the machine could see.
const TOKEN: &str = "VESPID_TOKEN";
/// The variable with a file of authorities (PEM) by which servers' certificates are checked, in place of the usual ones.
const CA_FILE: &str = "VESPID_CA_FILE";

/// How long after the caller's own timeout the server's answer, which says that time was up, is still awaited.
const GRACE: Duration = Duration::from_secs(2);

/// A client of one server.
pub(crate) struct Client {
    agent: Agent,
    server: ServerUrl,
    /// A token or an API key, as a header.
    credentials: Option<HeaderValue>,
}

/// A body that is sent as it is read, of a length known beforehand.
pub(crate) struct Upload<'a> {
    pub(crate) reader: &'a mut dyn Read,
    pub(crate) length: u64,
    pub(crate) content_type: &'static str,
}

/// A POST that is sent again and again, put together once; clones share the body.
#[derive(Clone)]
pub(crate) struct Prepared {
    head: Request<()>,
    body: Bytes,
}

impl Client {
    /// A client of `server` that waits without limit, or a little more than `timeout`, for an answer. It shows the credentials in
    /// [`TOKEN`], and trusts the authorities in the file of [`CA_FILE`].
    ///
    /// # Errors
    /// Where one of these is said and cannot be used.
    pub(crate) fn new(server: &ServerUrl, timeout: Option<Duration>) -> Result<Self, ClientError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(timeout.map(|timeout| timeout.saturating_add(GRACE)))
            .user_agent(concat!("vespid/", env!("CARGO_PKG_VERSION")));
        if server.is_loopback() {
            // A proxy for the outside world cannot reach this machine's own server.
            config = config.proxy(None);
        }
        if let Some(authorities) = authorities()? {
            config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::from(authorities)).build());
        }
        let (agent, credentials) = (config.build().new_agent(), credentials()?);
        Ok(Self { agent, server: server.clone(), credentials })
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// GETs `path`, and reads the JSON that comes.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.send(Request::get(self.server.join(path)), ())?;
        self.decode(&answer)
    }

    /// DELETEs `path`.
    pub(crate) fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(Request::delete(self.server.join(path)), ()).map(drop)
    }

    /// POSTs `body`, which begins with a JSON text of `header` bytes where tensors follow it; returns what comes.
    pub(crate) fn post(
        &self,
        path: &str,
        body: &[u8],
        header: Option<usize>,
    ) -> Result<Vec<u8>, ClientError> {
        self.send(self.head(path, header), body)
    }

    /// The same, to be sent by [`exchange`](Self::exchange) of this client or others of its server.
    pub(crate) fn prepare(
        &self,
        path: &str,
        body: Bytes,
        header: Option<usize>,
    ) -> Result<Prepared, ClientError> {
        let head = self.with_credentials(self.head(path, header));
        let head = head.body(()).map_err(|source| self.failed(source.into()))?;
        Ok(Prepared { head, body })
    }

    /// Sends what was prepared. The answer is read to its end into `scratch` and dropped; returns its length.
    pub(crate) fn exchange(&self, prepared: &Prepared, scratch: &mut [u8]) -> Result<u64, ClientError> {
        let request = prepared.head.clone().map(|()| &prepared.body[..]);
        let mut response = self.agent.run(request).map_err(|source| self.failed(source))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut length = 0;
        loop {
            match body.read(scratch) {
                Ok(0) => return Ok(length),
                Ok(read) => length += read as u64,
                Err(error) => return Err(self.failed(error.into())),
            }
        }
    }

    /// PUTs a body that is read while it is sent. The server is asked first whether it wants it.
    pub(crate) fn put(&self, path: &str, upload: Upload<'_>) -> Result<Vec<u8>, ClientError> {
        let request = Request::put(self.server.join(path))
            .header("content-type", upload.content_type)
            .header("content-length", upload.length.to_string())
            .header("expect", "100-continue");
        let Upload { reader, .. } = upload;
        self.send(request, SendBody::from_reader(reader))
    }

    /// Reads JSON of an expected form.
    pub(crate) fn decode<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(answer)
            .map_err(|source| ClientError::Form { server: self.server.clone(), source })
    }

    fn head(&self, path: &str, header: Option<usize>) -> Builder {
        let request = Request::post(self.server.join(path));
        match header {
            Some(length) => request
                .header("content-type", "application/octet-stream")
                .header("inference-header-content-length", length.to_string()),
            None => request.header("content-type", "application/json"),
        }
    }

    fn with_credentials(&self, request: Builder) -> Builder {
        match &self.credentials {
            Some(credentials) => request.header(AUTHORIZATION, credentials),
            None => request,
        }
    }

    fn send(&self, request: Builder, body: impl AsSendBody) -> Result<Vec<u8>, ClientError> {
        let request = self.with_credentials(request);
        let request = request.body(body).map_err(|source| self.failed(source.into()))?;
        let mut response = self.agent.run(request).map_err(|source| self.failed(source))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        read(&mut response).map_err(|source| self.failed(source))
    }

    /// The error that an answer other than 2xx stands for.
    fn refusal(&self, mut response: Response<Body>) -> ClientError {
        let status = response.status();
        match read(&mut response) {
            Ok(answer) => {
                let message = message(status, &answer);
                ClientError::Status { server: self.server.clone(), status, message }
            }
            Err(source) => self.failed(source),
        }
    }

    fn failed(&self, source: ureq::Error) -> ClientError {
        ClientError::transport(&self.server, source)
    }
}

/// What a variable says; nothing where it is empty.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn credentials() -> Result<Option<HeaderValue>, ClientError> {
    let Some(token) = variable(TOKEN) else { return Ok(None) };
    let header =
        token.to_str().and_then(|token| HeaderValue::try_from(format!("Bearer {}", token.trim())).ok());
    let mut header = header.ok_or(ClientError::Token)?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn authorities() -> Result<Option<Vec<Certificate<'static>>>, ClientError> {
    let Some(file) = variable(CA_FILE).map(PathBuf::from) else { return Ok(None) };
    let pem = std::fs::read(&file)
        .map_err(|source| ClientError::CaFile { file: file.clone(), reason: source.to_string() })?;
    let found: Result<Vec<_>, _> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(ClientError::CaFile { file, reason: "there is no certificate in PEM".to_owned() })
        }
        Ok(found) => Ok(Some(found)),
        Err(error) => Err(ClientError::CaFile { file, reason: error.to_string() }),
    }
}

fn read(response: &mut Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    // Outputs may be large, and the server that the user chose is trusted not to flood the user.
    response.body_mut().with_config().limit(u64::MAX).read_to_vec()
}

/// The server's own words: the protocol's `{"error": ...}`, else the text as it came.
fn message(status: StatusCode, answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    if let Ok(Refusal { error }) = serde_json::from_slice(answer) {
        return error;
    }
    let text = String::from_utf8_lossy(answer);
    match text.trim() {
        "" => status.canonical_reason().unwrap_or("no text came with it").to_owned(),
        text => text.chars().take(2000).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_kept() {
        let status = StatusCode::NOT_FOUND;
        assert_eq!(message(status, br#"{"error":"Request for unknown model"}"#), "Request for unknown model");
        assert_eq!(message(status, b" gateway down\n"), "gateway down");
        assert_eq!(message(status, b""), "Not Found");
    }
}
