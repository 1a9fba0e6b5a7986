//! Tokens of a real provider of OpenID Connect: oidc-provider of npm, on a port of this machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use vespid_tests::archive::Archive;
use vespid_tests::built;
use vespid_tests::cli;
use vespid_tests::http::{self, Answer};
use vespid_tests::oip::flower;
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

const POLICY: &str = r#"
permit (principal, action in [Vespid::Action::"Predict", Vespid::Action::"Upload"], resource)
when { principal has tenant && principal.tenant == "acme" && principal in Vespid::Role::"editor" };
"#;

/// Whom tokens are for here.
const VESPID: &str = "https://vespid.example";

/// A provider, which may be down.
struct Provider {
    port: u16,
    folder: TempDir,
    running: Option<Child>,
}

impl Provider {
    /// One that is down.
    fn new() -> Self {
        // Not one that the system gives to whoever connects: who asks for it while the provider is down would have it.
        let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port = (first..30_000).chain(20_000..first).find(is_free).unwrap();
        Self { port, folder: tempfile::tempdir().unwrap(), running: None }
    }

    /// Starts it with these keys, of which the first signs.
    fn start(&mut self, keys: &[&str]) {
        self.stop();
        let mut command = built::node("tests/oidc/provider.mjs");
        command.arg(self.port.to_string()).arg(self.folder.path()).args(keys).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running = Some(child);
        assert_eq!(line, "up\n");
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A token for `resource`, as a service gets one.
    fn token(&self, resource: &str) -> String {
        let url = format!("http://127.0.0.1:{}/token", self.port);
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
    fn forge(&self, how: &str, token: &str, key: &str) -> String {
        let mut command: Command = built::node("tests/oidc/forge.mjs");
        command.args([how, token]).arg(self.folder.path().join(format!("{key}.json")));
        cli::run(command).expect(0).stdout.trim().to_owned()
    }

    /// A server that takes its tokens.
    fn server(&self) -> Server {
        let place = self.folder.path();
        let config = format!(
            "oidc: [{{issuer: \"http://127.0.0.1:{}\", audience: \"{VESPID}\", algorithms: [RS256], clock_skew: 0s}}]\n\
             policies: policy.cedar\n",
            self.port
        );
        fs::write(place.join("access.yaml"), config).unwrap();
        fs::write(place.join("policy.cedar"), POLICY).unwrap();
        let home = Home::default();
        home.start_with(&["--access", place.join("access.yaml").to_str().unwrap()]).at(home)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

fn infer(server: &Server, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = flower().to_string();
    server.send("POST", "/v2/models/iris/infer", &[("authorization", &bearer)], body.as_bytes())
}

fn push(server: &Server, token: &str) {
    let (bearer, package) = (format!("Bearer {token}"), Archive::built("iris").to_tar());
    let path = vespid_tests::server::repository_path("iris", "1");
    let answer = server.send("PUT", &path, &[("authorization", &bearer)], &package);
    assert_eq!(answer.status, 201, "{answer}");
}

/// A request with its token is answered so, once the server has had the time to hear of the provider.
fn soon(server: &Server, token: &str, status: u16) {
    wait::until("the server hears of it", || (infer(server, token).status == status).then_some(()));
}

#[test]
fn a_token_is_taken_for_what_it_is() {
    let mut provider = Provider::new();
    provider.start(&["first"]);
    let server = provider.server();
    let good = provider.token(VESPID);
    soon(&server, &good, 404);
    push(&server, &good);
    assert_eq!(infer(&server, &good).status, 200);
    assert_eq!(infer(&server, &provider.forge("same", &good, "first")).status, 200, "forging works");
    for (how, reason) in [
        ("none", "the token is not valid here"),
        ("hs256", "the token is not valid here"),
        ("kid", "the token is not valid here"),
        ("issuer", "the token is not valid here"),
        ("claims", "the token is not valid here"),
        ("early", "the token is not valid yet"),
    ] {
        let answer = infer(&server, &provider.forge(how, &good, "first"));
        answer.assert_error(401, reason);
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"), "{how}: {answer}");
    }
    let elsewhere = provider.token("https://elsewhere.example");
    infer(&server, &elsewhere).assert_error(401, "the token is not valid here");
    let short = provider.token("https://short.example");
    wait::until("the token's time is over", || (infer(&server, &short).status == 401).then_some(()));
    infer(&server, &short).assert_error(401, "the token has expired");
    assert_eq!(infer(&server, &good).status, 200);
}

#[test]
fn a_provider_may_change_its_keys_and_be_away() {
    let mut provider = Provider::new();
    provider.start(&["first"]);
    let early = provider.token(VESPID);
    provider.stop();
    // Down at the start.
    let server = provider.server();
    infer(&server, &early).assert_error(503, "cannot be checked now");
    provider.start(&["first"]);
    soon(&server, &early, 404);
    push(&server, &early);
    // A new key signs, and the one before is still known.
    provider.start(&["second", "first"]);
    let late = provider.token(VESPID);
    soon(&server, &late, 200);
    assert_eq!(infer(&server, &early).status, 200);
    // Down while it serves.
    provider.stop();
    assert_eq!((infer(&server, &early).status, infer(&server, &late).status), (200, 200));
}
