//! Clients that others wrote, unmodified, each against a server of its own: the files of `tests/conformance`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

use vespid_tests::archive::Archive;
use vespid_tests::built;
use vespid_tests::cli::run;
use vespid_tests::server::Server;

/// The models of Triton's examples, and those that the tests of all its clients ask besides.
const TRITON: [&str; 9] = [
    "simple",
    "simple-string",
    "simple-identity",
    "simple-int8",
    "simple-sequence",
    "repeat-int32",
    "iris",
    "iris-native",
    ENDLESS,
];

/// A model whose calls do not end by themselves while a test waits.
const ENDLESS: &str = "loop";

#[test]
fn triton_http() {
    check("test_triton_http.py", &TRITON);
}

#[test]
fn triton_http_aio() {
    check("test_triton_http_aio.py", &TRITON);
}

#[test]
fn triton_grpc() {
    check("test_triton_grpc.py", &TRITON);
}

#[test]
fn triton_grpc_aio() {
    check("test_triton_grpc_aio.py", &TRITON);
}

#[test]
fn kserve() {
    check("test_kserve.py", &["simple", "simple-string", "simple-identity", "iris", "iris-native"]);
}

#[test]
fn openai() {
    check("test_openai.py", &["embed", "iris"]);
}

#[test]
fn generate() {
    check("test_generate.py", &["simple-identity", "repeat-int32"]);
}

#[test]
fn openapi() {
    check(
        "test_openapi.py",
        &["simple", "simple-string", "simple-identity", "iris", "repeat-int32", "embed"],
    );
}

/// Runs a file of tests against a server that has these models.
fn check(file: &str, models: &[&str]) {
    let ending: Vec<&str> = models.iter().copied().filter(|model| *model != ENDLESS).collect();
    // Graphs of every datatype are what the embedded backend does not run.
    let files = tempfile::tempdir().unwrap();
    let root = files.path().display().to_string();
    let server =
        Server::configured(&["--onnxruntime", &built::onnxruntime(), "--batch-root", &root], &ending);
    if models.contains(&ENDLESS) {
        let package = Archive::built(ENDLESS).manifest("timeout = \"500ms\"", "timeout = \"120s\"");
        let answer = server.upload(ENDLESS, "1", &package.to_tar());
        assert_eq!(answer.status, 201, "{answer}");
    }
    let mut pytest = built::pytest(file);
    for (variable, url) in [
        ("VESPID_HTTP", server.url()),
        ("VESPID_GRPC", server.grpc_url()),
        ("VESPID_ADMIN", server.admin_url()),
    ] {
        pytest.env(variable, url.trim_start_matches("http://"));
    }
    // A proxy of the machine's is not for its own servers.
    pytest.env("NO_PROXY", "*");
    let outcome = run(pytest);
    // 1 where a test failed, 5 where there is none.
    outcome.expect(0);
    let summary = outcome.stdout.lines().last().unwrap_or_default();
    assert!(summary.contains(" passed"), "{}", outcome.stdout);
    for left_out in ["skipped", "xfailed", "xpassed", "deselected"] {
        assert!(!summary.contains(left_out), "{}", outcome.stdout);
    }
}
