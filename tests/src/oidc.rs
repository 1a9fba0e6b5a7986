//! A provider of OpenID Connect: oidc-provider of npm, on a port of this machine.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{built, cli, http};

/// A provider, which may be down.
pub struct Provider {
    port: u16,
    folder: TempDir,
    running: Option<Child>,
}

impl Default for Provider {
    fn default() -> Self {
        Self::new()
    }
}

impl Provider {
    /// One that is down.
    #[must_use]
    pub fn new() -> Self {
        // Not one that the system gives to whoever connects: who asks for it while the provider is down would have it.
        let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = (first..30_000).chain(20_000..first).find(is_free).unwrap();
        Self { port, folder: tempfile::tempdir().unwrap(), running: None }
    }

    /// The URL by which its tokens call it.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A folder that goes with it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it with these keys, of which the first signs.
    pub fn start(&mut self, keys: &[&str]) {
        self.stop();
        let mut command = built::node("tests/oidc/provider.mjs");
        command.arg(self.port.to_string()).arg(self.folder.path()).args(keys).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some(child);
        assert_eq!(line, "up\n");
    }

    /// Takes it down.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A token for `resource`, as a service gets one.
    #[must_use]
    pub fn token(&self, resource: &str) -> String {
        let url = self.issuer() + "/token";
        let body = format!("grant_type=client_credentials&resource={}", resource.replace(':', "%3A"));
        let headers = [
            ("authorization", "Basic c3ZjOnNlY3JldA=="),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let answer = http::send("POST", &url, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// What that token becomes in an attacker's hands.
    #[must_use]
    pub fn forge(&self, how: &str, token: &str, key: &str) -> String {
        let mut command: Command = built::node("tests/oidc/forge.mjs");
        command.args([how, token]).arg(self.folder.path().join(format!("{key}.json")));
        cli::run(command).expect(0).stdout.trim().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}
