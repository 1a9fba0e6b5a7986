//! Who may look after streams, on the admin port.

use std::fs;

use serde_json::{Value, json};
use vespid_tests::cli::vespid;
use vespid_tests::http::{self, Answer};
use vespid_tests::wait;

use super::{Keys, Setting};

const FLOWER: &str = r#"{"a":5.1,"b":3.5,"c":1.4,"d":0.2}"#;

/// A folder with a stream that asks `iris`, and goes on.
fn stream() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("in.jsonl"), format!("{FLOWER}\n")).unwrap();
    let spec = json!({
        "name": "flowers",
        "model": "iris",
        "source": {"file": {"path": path("in.jsonl"), "follow": true}},
        "sink": {"file": {"path": path("out.jsonl")}},
        "inputs": {"measurements": ["a", "b", "c", "d"]},
    });
    let file = path("flowers.yaml");
    fs::write(&file, spec.to_string()).unwrap();
    (folder, file)
}

#[test]
fn streams_are_seen_and_paused_by_who_may() {
    let (_folder, file) = stream();
    let setting = Setting::start(&["--stream", &file]);
    let Keys { admin, acme, other } = &setting.keys;
    let url = |path: &str| setting.server.admin_url() + path;
    let ask = |method: &str, path: &str, key: &str| -> Answer {
        http::send(method, &url(path), &[("x-api-key", key)], &[])
    };
    for path in ["/metrics", "/v2/health/ready"] {
        assert_eq!(http::send("GET", &url(path), &[], &[]).status, 200, "{path}");
    }
    let unknown = http::send("GET", &url("/v2/streams"), &[], &[]);
    unknown.assert_error(401, "credentials are missing");
    http::send("POST", &url("/v2/streams/flowers/pause"), &[], &[]).assert_error(401, "missing");

    let names = |key: &str| -> Vec<Value> {
        let listed = ask("GET", "/v2/streams", key).json();
        listed["streams"].as_array().unwrap().iter().map(|stream| stream["name"].clone()).collect()
    };
    assert_eq!((names(acme), names(other)), (vec![json!("flowers")], vec![]));
    assert_eq!(ask("GET", "/v2/streams/flowers/lag", acme).status, 200);
    // It sees the stream, and may not pause it; to the other there is none, under whatever name.
    ask("POST", "/v2/streams/flowers/pause", acme).assert_error(403, "manage streams");
    let hidden = ["flowers", "absent"].map(|name| {
        let answer = ask("POST", &format!("/v2/streams/{name}/pause"), other);
        (answer.status, String::from_utf8(answer.body).unwrap())
    });
    assert_eq!(hidden[0], hidden[1]);
    assert_eq!(hidden[0].0, 404);
    assert!(hidden[0].1.contains("no stream of that name here\""), "{}", hidden[0].1);

    assert_eq!(ask("POST", "/v2/streams/flowers/pause", admin).json()["paused"], true);
    wait::until("it is paused", || {
        (ask("GET", "/v2/streams/flowers", acme).json()["state"] == "paused").then_some(())
    });
    assert_eq!(ask("POST", "/v2/streams/flowers/resume", admin).json()["paused"], false);
    let denied = setting.audit(|line| line["action"] == "ManageStream" && line["outcome"] == "denied");
    assert_eq!((&denied["who"]["id"], &denied["model"]), (&json!("acme-ci"), &json!("iris")), "{denied}");
    let done = setting.audit(|line| line["action"] == "ManageStream" && line["outcome"] == "allowed");
    assert_eq!((&done["who"]["id"], &done["status"]), (&json!("boss"), &json!(200)), "{done}");
}

#[test]
fn an_admin_port_for_others_needs_a_word_about_who_may_pause() {
    let (folder, file) = stream();
    let refused = |arguments: &[&str]| {
        let refused = vespid(folder.path(), &[], arguments);
        let told = &refused.expect(2).stderr;
        assert!(told.contains("--admin 0.0.0.0:0") && told.contains("--no-authentication"), "{told}");
    };
    refused(&["stream", "--config", &file, "--store", "store", "--admin", "0.0.0.0:0"]);
    let local = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"];
    refused(
        &[&["serve", "--store", "store", "--stream", &file, "--admin", "0.0.0.0:0"], &local[..]].concat(),
    );
}
