//! What plugins reach outside of their sandboxes: what is asked for and allowed, and nothing else.

mod others;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tempfile::TempDir;
use vespid_tests::archive::Archive;
use vespid_tests::built;
use vespid_tests::http::Answer;
use vespid_tests::oip::{output, request};
use vespid_tests::server::{Home, Server, serve};
use vespid_tests::wait;

use others::Others;

const PASSWORD: &str = "correct-horse-battery-staple";

/// A server that allows the model `outside` all that it asks for.
struct Allowing {
    server: Server,
    _home: Home,
    _files: TempDir,
}

impl Allowing {
    fn hosts(hosts: &[String]) -> Self {
        Self::trusting(hosts, &[])
    }

    /// The same, with further variables of the environment.
    fn trusting(hosts: &[String], variables: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("key"), format!("{PASSWORD}\n")).unwrap();
        let grants = format!(
            "[[allow]]\nto = [\"out*\"]\nhttp = {hosts:?}\nfolder = true\n\
             env = {{ REGION = {{ env = \"TEST_REGION\" }}, GREETING = \"hello\" }}\n\
             secrets = {{ api-key = {{ file = \"key\" }} }}\n"
        );
        let file = files.path().join("grants.toml");
        fs::write(&file, grants).unwrap();
        let home = Home::default();
        let own = [
            ("TEST_REGION", "eu-central"),
            ("VESPID_LOG", "trace,wasmtime_wasi_http=trace"),
            ("SSL_CERT_DIR", ""),
            ("UNASKED", "x"),
        ];
        let variables = [&own, variables].concat();
        let server = home.start_in(&["--grants", file.to_str().unwrap()], &variables);
        Self { server, _home: home, _files: files }
    }

    /// The same with the model `outside`, which asks for these hosts.
    fn outside(hosts: &[String], timeout: &str) -> Self {
        let allowing = Self::hosts(hosts);
        let package = asking_for(hosts).manifest("\"60s\"", &format!("\"{timeout}\""));
        allowing.push(&package);
        allowing
    }

    fn push(&self, package: &Archive) {
        let answer = self.server.upload("outside", "1", &package.to_tar());
        assert_eq!(answer.status, 201, "{answer}");
    }

    fn ask(&self, asked: &str) -> Answer {
        self.server.infer("outside", &request("ask", "BYTES", &[1], vec![asked]))
    }

    /// What came of it, which is no failure.
    fn told(&self, asked: &str) -> String {
        let answer = self.ask(asked);
        output(&answer, "answer")["data"][0]
            .as_str()
            .unwrap_or_else(|| panic!("{asked}: {answer}"))
            .to_owned()
    }
}

fn asking_for(hosts: &[String]) -> Archive {
    Archive::built("outside").manifest("[\"http://127.0.0.1:8080\"]", &format!("{hosts:?}"))
}

/// The host granted and another one; the one sends on to the other.
fn two_hosts() -> (Others, Others) {
    let other = Others::start("127.0.0.1:1");
    (Others::start(&other.address.to_string()), other)
}

#[test]
fn a_host_that_is_granted_answers_and_no_other_is_asked() {
    let (granted, other) = two_hosts();
    let port = granted.address.port();
    let hosts = [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")];
    let outside = Allowing::outside(&hosts, "60s");
    for (url, told) in [
        (format!("http://127.0.0.1:{port}/hello"), format!("200 - hello from 127.0.0.1:{port}")),
        (
            format!("HTTP://LocalHost:{port}/hello?x=http://elsewhere/"),
            format!("200 - hello from localhost:{port}"),
        ),
        // Not followed: the plugin sees where it leads.
        (format!("http://127.0.0.1:{port}/redirect"), format!("302 http://{}/hello ", other.address)),
        (format!("http://127.0.0.1:{port}"), "200 - root".to_owned()),
    ] {
        assert_eq!(outside.told(&format!("get {url}")), told);
    }
    let posted = outside.told(&format!("post http://127.0.0.1:{port}/echo"));
    assert_eq!(posted, "200 - 100000 bytes, x-asked yes, content-length 100000");
    // A connection is kept for the next call.
    assert!(granted.connections() <= 3, "{} connections", granted.connections());

    let elsewhere = other.address.port();
    for (url, message) in [
        (format!("http://127.0.0.1:{elsewhere}/hello"), "the host is not granted"),
        (format!("https://127.0.0.1:{port}/hello"), "the host is not granted"),
        (format!("http://127.0.0.2:{port}/hello"), "the host is not granted"),
        (format!("http://[::ffff:127.0.0.1]:{port}/hello"), "the host is not granted"),
        (format!("http://localhost.localdomain:{port}/hello"), "the host is not granted"),
        (format!("http://localhost.:{port}/hello"), "names no host"),
        (format!("http://127.1:{port}/hello"), "names no host"),
        (format!("http://2130706433:{port}/hello"), "names no host"),
        (format!("http://0x7f000001:{port}/hello"), "names no host"),
        (format!("http://user:password@127.0.0.1:{port}/hello"), "names no host"),
        (format!("http://127.0.0.1:{port}@127.0.0.1:{elsewhere}/hello"), "names no host"),
        (format!("http://*.0.0.1:{port}/hello"), "names no host"),
        ("http:///hello".to_owned(), "host is not one"),
    ] {
        println!("{url}");
        outside.ask(&format!("get {url}")).assert_error(500, message);
    }
    outside.ask(&format!("host http://127.0.0.1:{port}/hello")).assert_error(500, "the server writes itself");
    assert_eq!(other.connections(), 0, "a host that is not granted was connected to");
    let log = outside.server.log();
    let line = format!("a request to http://127.0.0.1:{elsewhere} was refused");
    assert!(log.contains(&line) && log.contains("model=outside"), "{log}");
}

#[test]
fn a_host_over_tls_needs_a_certificate_that_the_system_trusts() {
    let address = others::secure();
    let hosts =
        [format!("https://127.0.0.1:{}", address.port()), format!("https://localhost:{}", address.port())];
    let told = |authority: &str| {
        let file = built::repository("tests/cases/tls").join(authority);
        let allowing = Allowing::trusting(&hosts, &[("SSL_CERT_FILE", file.to_str().unwrap())]);
        allowing.push(&asking_for(&hosts));
        hosts.each_ref().map(|host| allowing.ask(&format!("get {host}/")))
    };
    for answer in told("ca.pem") {
        assert_eq!(output(&answer, "answer")["data"], json!(["200 - secure"]));
    }
    for answer in told("other-ca.pem") {
        answer.assert_error(503, "the host's certificate is not trusted");
    }
    let nothing = tempfile::NamedTempFile::new().unwrap();
    let nobody = [("SSL_CERT_FILE", nothing.path().to_str().unwrap())];
    let trusting_nobody = Allowing::trusting(&hosts, &nobody);
    let answer = trusting_nobody.server.upload("outside", "1", &asking_for(&hosts).to_tar());
    answer.assert_error(400, "install the system's root certificates");
}

#[test]
fn a_request_ends_with_the_call() {
    let (granted, _other) = two_hosts();
    let host = format!("http://{}", granted.address);
    let outside = Allowing::outside(std::slice::from_ref(&host), "500ms");
    for path in ["slow", "stalls"] {
        let started = Instant::now();
        outside.ask(&format!("get {host}/{path}")).assert_error(504, "deadline");
        assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    }
    wait::until("the host sees that nobody waits", || (granted.given_up() == 1).then_some(()));
    // A port at which nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = format!("http://{nobody}");
    let outside = Allowing::outside(std::slice::from_ref(&host), "60s");
    outside.ask(&format!("get {host}/")).assert_error(503, "the host refuses the connection");
}

#[test]
fn an_instance_that_is_kept_asks_for_each_call_anew() {
    let (granted, _other) = two_hosts();
    let host = format!("http://{}", granted.address);
    let hosts = std::slice::from_ref(&host);
    let allowing = Allowing::hosts(hosts);
    let warm = asking_for(hosts).manifest("[limits]", "[instances]\nwarm = 1\n[limits]");
    allowing.push(&warm.manifest("\"60s\"", "\"2s\""));
    for _ in 0..2 {
        assert_eq!(allowing.told(&format!("get {host}/")), "200 - root");
        // It ends with more requests open than a call may have: the next one has its own.
        assert!(allowing.told(&format!("many {}", granted.address)).ends_with("ConnectionLimitReached"));
        allowing.ask(&format!("get {host}/stalls")).assert_error(504, "deadline");
    }
}

#[test]
fn answers_and_requests_are_held_within_limits() {
    let (granted, _other) = two_hosts();
    let host = format!("http://{}", granted.address);
    let outside = Allowing::outside(std::slice::from_ref(&host), "60s");
    let endless = format!("length {host}/endless");
    outside.ask(&endless).assert_error(500, "memory limit of 16.0 MiB");
    let before = outside.server.resident();
    for _ in 0..20 {
        outside.ask(&endless).assert_error(500, "memory limit of 16.0 MiB");
    }
    let after = outside.server.resident();
    assert!(after < before + (64 << 20), "{before} bytes, and after more calls {after}");

    let told = outside.told(&format!("many {}", granted.address));
    let outcomes: Vec<&str> = told.split(' ').collect();
    let count = |outcome: &str| outcomes.iter().filter(|told| **told == outcome).count();
    assert_eq!((count("200"), count("ErrorCode::ConnectionLimitReached")), (16, 4), "{told}");
    assert_eq!(outside.told(&format!("get {host}/")), "200 - root");
}

#[test]
fn the_environment_and_secrets_are_those_that_were_asked_for() {
    let outside = Allowing::outside(&["http://127.0.0.1:8080".to_owned()], "60s");
    for (asked, told) in [
        ("env REGION", "Some(\"eu-central\")"),
        ("env GREETING", "Some(\"hello\")"),
        ("env UNASKED", "None"),
        ("env PATH", "None"),
        ("env api-key", "None"),
        ("secret api-key", "Some(\"correct-horse-battery-staple\")"),
        ("secret REGION", "None"),
    ] {
        assert_eq!(outside.told(asked), told, "{asked}");
    }
    // With the log's finest level.
    let log = outside.server.log();
    assert!(log.contains("outside") && !log.contains(PASSWORD), "the log shows a secret");
}

#[test]
fn the_folder_can_be_read_and_nothing_else() {
    let outside = Allowing::outside(&["http://127.0.0.1:8080".to_owned()], "60s");
    assert_eq!(outside.told("folders"), "/assets");
    assert_eq!(outside.told("read a.txt"), "shallow\n");
    assert_eq!(outside.told("read deep/../deep/b.txt"), "deep\n");
    outside.ask("read none.txt").assert_error(500, "the file 'none.txt' of [grants] folder: no-entry");
    for path in ["../model.toml", "deep/../../model.toml", "/etc/passwd", "..", "/"] {
        assert_eq!(outside.told(&format!("open {path}")), "not-permitted", "{path}");
    }
    for asked in [
        "overwrite a.txt",
        "scribble a.txt",
        "truncate a.txt",
        "create new.txt",
        "mkdir new",
        "unlink a.txt",
        "rename a.txt",
        "link a.txt",
        "symlink /etc/passwd",
        "symlink a.txt",
        "reopen .",
    ] {
        let told = outside.told(asked);
        let refused = ["not-permitted", "read-only", "bad-descriptor", "access"];
        assert!(refused.contains(&told.as_str()), "{asked}: {told}");
    }
    assert_eq!(outside.told("read a.txt"), "shallow\n");
}

#[test]
fn the_folder_of_a_package_that_comes_as_files_is_there_as_long_as_the_model() {
    let allowing = Allowing::hosts(&["http://127.0.0.1:8080".to_owned()]);
    let package = Archive::built("outside");
    let mut parameters = json!({"config": "{}"});
    for name in ["model.toml", "outside.wasm", "assets/a.txt", "assets/deep/b.txt"] {
        parameters[format!("file:1/{name}")] = json!(BASE64_STANDARD.encode(package.data(name)));
    }
    let answer =
        allowing.server.post("/v2/repository/models/outside/load", &json!({"parameters": parameters}));
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(allowing.told("read deep/b.txt"), "deep\n");
}

#[test]
fn what_is_allowed_is_asked_again_at_each_start() {
    let Allowing { server, _home: home, _files: files } =
        Allowing::outside(&["http://127.0.0.1:8080".to_owned()], "60s");
    server.stop();
    let server = home.start();
    let index = server.index();
    assert!(index[0].starts_with("outside 1 UNAVAILABLE") && index[0].contains("grants.http"), "{index:?}");
    server
        .infer("outside", &request("ask", "BYTES", &[1], vec!["folders"]))
        .assert_error(503, "grants.secrets");
    server.stop();
    let file = files.path().join("grants.toml");
    let server = home.start_in(&["--grants", file.to_str().unwrap()], &[("TEST_REGION", "elsewhere")]);
    let allowing = Allowing { server, _home: home, _files: files };
    assert_eq!(allowing.told("env REGION"), "Some(\"elsewhere\")");
}

#[test]
fn what_is_not_allowed_keeps_a_model_from_loading() {
    let asked =
        asking_for(&["http://127.0.0.1:8080".to_owned(), "https://api.example.com".to_owned()]).to_tar();
    // Without a file the package's own folder alone is allowed.
    let server = Server::with(&[]);
    let answer = server.upload("outside", "1", &asked);
    answer.assert_error(403, "asks under [grants] for what this server does not allow");
    let error = answer.error();
    for part in [
        "grants.http \"https://api.example.com\" (allowed by http = [\"https://api.example.com\"])",
        "grants.http \"http://127.0.0.1:8080\"",
        "grants.env \"REGION\" (allowed by env = { REGION = \"VALUE\" })",
        "grants.secrets \"api-key\" (allowed by secrets",
        "into a rule [[allow]] with to = [\"outside\"] of a file, and start the server with --grants FILE",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("grants.folder"), "{error}");
    assert_eq!(server.index(), Vec::<String>::new());

    // With one, what it does not allow.
    let allowing = Allowing::hosts(&["http://127.0.0.1:8080".to_owned()]);
    let answer = allowing.server.upload("outside", "1", &asked);
    answer.assert_error(403, "grants.http \"https://api.example.com\"");
    assert!(!answer.error().contains("8080") && !answer.error().contains("grants.env"), "{answer}");
    let others = Archive::built("relay").to_tar();
    let answer = allowing.server.upload("relay", "1", &others);
    answer.assert_error(403, "grants.models \"empty\" (allowed by models = [\"empty\"])");

    // HTTP that the manifest does not ask for.
    let silent = Archive::built("outside").manifest("http = [\"http://127.0.0.1:8080\"]\n", "");
    let answer = allowing.server.upload("outside", "1", &silent.to_tar());
    answer.assert_error(400, "the component imports 'wasi:http/");
    answer.assert_error(400, "list the hosts that it asks as `http` under [grants]");
    // A folder that is not there.
    let bare = Archive::built("outside").without("assets/a.txt").without("assets/deep/b.txt");
    let answer = allowing.server.upload("outside", "1", &bare.to_tar());
    answer.assert_error(400, "grants.folder names 'assets', which the package does not hold");
}

#[test]
fn a_file_of_grants_that_is_wrong_keeps_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grants.toml");
    for (text, message) in [
        ("[[allow]]\nto = ['a']\nhosts = []", "unknown field `hosts`"),
        ("[[allow]]\nto = ['a']\nsecrets = { key = 'correct-horse' }", "number 1: secrets.key: use { file"),
    ] {
        fs::write(&file, text).unwrap();
        let arguments = ["--grants", file.to_str().unwrap(), "--http", "127.0.0.1:0"];
        let output = serve(&folder.path().join("store"), &arguments).stdout(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(message), "{error}");
        assert!(error.contains("--grants") && !error.contains("correct-horse"), "{error}");
    }
}
