//! An HTTP client: one connection a request, so that no test depends on the one before.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::OnceLock;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

use crate::wait;

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// What the protocol's error body says; on paths that OpenAI's clients ask, what theirs says.
    #[must_use]
    pub fn error(&self) -> String {
        let json = self.json();
        let fields = json.as_object().unwrap_or_else(|| panic!("an error body is expected: {self}"));
        assert!(fields.len() == 1, "an error body holds nothing else: {self}");
        let message = json["error"].as_str().or_else(|| json["error"]["message"].as_str());
        let message = message.unwrap_or_else(|| panic!("an error body is expected: {self}"));
        assert!(!message.is_empty(), "an error says what was wrong: {self}");
        message.to_owned()
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// Checks that this is a refusal with this status, whose text holds `message`.
    pub fn assert_error(&self, status: u16, message: &str) {
        let error = self.error();
        assert!(self.status == status && error.contains(message), "expected {status} '{message}': {self}");
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {}", self.status, body.chars().take(2000).collect::<String>())
    }
}

/// Sends a request and reads the whole answer.
#[must_use]
pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_send(method, url, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

/// The same, where the server may be gone.
///
/// # Errors
/// What the connection came to.
pub fn try_send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer, ureq::Error> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = if matches!(method, "POST" | "PUT" | "PATCH") {
        agent().run(request.body(body)?)
    } else {
        agent().run(request.body(())?)
    };
    let (parts, mut body) = response?.into_parts();
    let body = body.with_config().limit(u64::MAX).read_to_vec()?;
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}

fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(0)
            .timeout_global(Some(wait::LIMIT))
            .build()
            .new_agent()
    })
}

/// A connection that sends what it is told, right or wrong.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    #[must_use]
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
        stream.set_write_timeout(Some(wait::LIMIT)).unwrap();
        Self(stream)
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends bytes, where the server still takes them.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        // The server may have closed the connection already.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// What comes until the server closes the connection; what came where it resets it.
    #[must_use]
    pub fn read_to_end(&mut self) -> String {
        let mut answer = Vec::new();
        let _ = self.0.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits for the first bytes of an answer.
    #[must_use]
    pub fn read_some(&mut self) -> String {
        let mut answer = vec![0; 4096];
        let length = self.0.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }
}

/// The head of a request whose body may be sent as one pleases.
#[must_use]
pub fn head(method: &str, path: &str, content_length: usize) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {content_length}\r\n\r\n").into_bytes()
}
