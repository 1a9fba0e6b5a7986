//! What each model and each tenant may use: what is beyond is refused, the neighbour is not, and what was used comes back.

use std::fs;
use std::thread;

use serde_json::Value;
use tonic::Code;
use vespid_tests::archive::Archive;
use vespid_tests::http::{self, Answer, Raw, head};
use vespid_tests::oip::{assert_setosa, flower, kind, request};
use vespid_tests::server::{Home, Server, serve};
use vespid_tests::wait;

use super::grpc::client::{self, Client, assert_status};

/// A server with these limits. The file goes: it is read at the start.
fn limited(home: &Home, limits: &str) -> Server {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("limits.yaml");
    fs::write(&file, limits).unwrap();
    home.start_with(&["--limits", file.to_str().unwrap()])
}

/// A metric of a limit: `used`, `value` or `refused`.
fn metric(server: &Server, what: &str, scope: &str, name: &str, limit: &str) -> f64 {
    let sample = format!("vespid_limit_{what}{{scope=\"{scope}\",name=\"{name}\",limit=\"{limit}\"}} ");
    let text = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]).body;
    let text = String::from_utf8(text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap_or_else(|| panic!("no {sample} in:\n{text}")).parse().unwrap()
}

fn push_as(server: &Server, model: &str, name: &str, version: &str) -> Answer {
    let from = format!("name = \"{model}\"\nversion");
    let package = Archive::built(model).manifest(&from, &format!("name = \"{name}\"\nversion"));
    server.upload(name, version, &package.version(version).to_tar())
}

/// `loop`, which computes for so long.
fn push_loop(server: &Server, time: &str) {
    let answer = server.upload("loop", "1", &Archive::built("loop").manifest("500ms", time).to_tar());
    assert_eq!(answer.status, 201, "{answer}");
}

/// When to come again, in seconds.
fn retry_after(answer: &Answer) -> Option<u64> {
    Some(answer.header("retry-after")?.parse().unwrap())
}

fn retried(answer: &Answer, expected: std::ops::RangeInclusive<u64>) {
    assert!(retry_after(answer).is_some_and(|wait| expected.contains(&wait)), "{:?}", answer.headers);
}

#[test]
fn calls_in_flight() {
    let home = Home::default();
    let server = limited(&home, "models: [{ match: loop, concurrent: 1 }]");
    push_loop(&server, "3s");
    server.push("iris");
    let client = Client::of(&server);
    thread::scope(|scope| {
        let looping = scope.spawn(|| server.infer("loop", &kind(0)));
        let busy = || (metric(&server, "used", "model", "loop", "concurrent") == 1.0).then_some(());
        wait::until("it is in flight", busy);
        let text = "model 'loop' is at its limit of 1 concurrent calls; try again later";
        let refused = server.infer("loop", &kind(0));
        refused.assert_error(429, text);
        assert_eq!(retry_after(&refused), None, "nobody knows when it ends");
        assert_status(client.infer(client::kind("loop", 0)), Code::ResourceExhausted, text);
        assert_setosa(&server.infer("iris", &flower()));
        assert_eq!(looping.join().unwrap().status, 504);
    });
    // Its place comes back, also where its caller leaves; and what is no request takes none.
    assert_eq!(server.send("POST", "/v2/models/loop/infer", &[], b"{").status, 400);
    assert_eq!(metric(&server, "used", "model", "loop", "concurrent"), 0.0);
    let body = serde_json::to_vec(&kind(0)).unwrap();
    let mut connection = Raw::connect(server.address());
    connection.send(&head("POST", "/v2/models/loop/infer", body.len()));
    connection.send(&body);
    let used =
        |expected: f64| (metric(&server, "used", "model", "loop", "concurrent") == expected).then_some(());
    wait::until("it is in flight", || used(1.0));
    drop(connection);
    wait::until("it is gone", || used(0.0));
    assert_eq!(server.infer("loop", &kind(0)).status, 504);
    assert_eq!(metric(&server, "refused", "model", "loop", "concurrent"), 2.0);
    let stats = server.get("/v2/models/loop/stats").json();
    assert_eq!(stats["model_stats"][0]["vespid"]["failed"]["reasons"]["REJECTED"], 2, "{stats}");
}

#[test]
fn calls_a_second() {
    let home = Home::default();
    let server = limited(
        &home,
        "models: [{ match: iris, rate: 0.05, burst: 3 }]\n\
         tenants: [{ name: acme, models: ['acme-*'], rate: 0.05, burst: 2 }]",
    );
    ["iris", "iris-native"].iter().for_each(|model| server.push(model));
    ["acme-a", "acme-b"].iter().for_each(|name| assert_eq!(push_as(&server, "iris", name, "1").status, 201));
    (0..3).for_each(|_| assert_setosa(&server.infer("iris", &flower())));
    let text = "model 'iris' is at its limit of 0.05 calls a second (3 at once); try again later";
    let refused = server.infer("iris", &flower());
    refused.assert_error(429, text);
    retried(&refused, 1..=20);
    // Before it is read what the request is.
    server.send("POST", "/v2/models/iris/infer", &[], b"{").assert_error(429, text);
    let client = Client::of(&server);
    assert_status(client.infer(client::flower()), Code::ResourceExhausted, text);
    (0..9).for_each(|_| assert_eq!(server.infer("iris-native", &flower()).status, 200));
    assert_eq!(metric(&server, "refused", "model", "iris", "rate"), 3.0);

    assert_setosa(&server.infer("acme-a", &flower()));
    assert_setosa(&server.infer("acme-b", &flower()));
    for model in ["acme-a", "acme-b"] {
        server
            .infer(model, &flower())
            .assert_error(429, "tenant 'acme' is at its limit of 0.05 calls a second");
    }
    assert_eq!(metric(&server, "refused", "tenant", "acme", "rate"), 2.0);
    let comes_back = || (server.infer("acme-a", &flower()).status == 200).then_some(());
    wait::until("a call comes back", comes_back);
}

#[test]
fn processor_time() {
    let home = Home::default();
    let server = limited(&home, "models: [{ match: loop, cpu: 0.2 }]");
    push_loop(&server, "3s");
    server.push("iris");
    assert_eq!(server.infer("loop", &kind(0)).status, 504);
    // Two seconds were saved up.
    let used = || Some(metric(&server, "used", "model", "loop", "cpu")).filter(|used| *used > 0.0);
    let used = wait::until("it is charged", used);
    assert!((2.3..=3.2).contains(&used), "{used}");
    assert_eq!(metric(&server, "value", "model", "loop", "cpu"), 2.0);
    let text = "model 'loop' is at its limit of 0.2 CPUs; try again later";
    let refused = server.infer("loop", &kind(0));
    refused.assert_error(429, text);
    retried(&refused, 1..=6);
    let client = Client::of(&server);
    assert_status(client.infer(client::kind("loop", 0)), Code::ResourceExhausted, text);
    assert_setosa(&server.infer("iris", &flower()));
    wait::until("the debt is paid", || (server.infer("loop", &kind(0)).status == 504).then_some(()));
    assert!(metric(&server, "refused", "model", "loop", "cpu") >= 2.0);
}

#[test]
fn a_model_that_another_one_asks() {
    let home = Home::default();
    let server = limited(
        &home,
        "models: [{ match: empty, rate: 0.001, burst: 1 }]\ntenants: [{ name: all, models: ['*'], concurrent: 1 }]",
    );
    ["empty", "relay"].iter().for_each(|model| server.push(model));
    let numbers = request("input", "FP32", &[2], vec![1.0, 2.0]);
    // The tenant has room for one call, and a part of it is none.
    let answer = server.infer("relay", &numbers);
    assert_eq!(answer.status, 200, "{answer}");
    let refused = server.infer("relay", &numbers);
    assert!(refused.status >= 500 && refused.error().contains("model 'empty' is at its limit"), "{refused}");
    assert_eq!(metric(&server, "refused", "model", "empty", "rate"), 1.0);
    assert_eq!(metric(&server, "used", "tenant", "all", "concurrent"), 0.0);
}

#[test]
fn memory_of_loaded_versions() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    let stats = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]).body;
    let stats = String::from_utf8(stats).unwrap();
    let sample = "vespid_model_memory_bytes{model=\"iris\",version=\"1\"} ";
    let one: u64 = stats.lines().find_map(|line| line.strip_prefix(sample)).unwrap().parse().unwrap();
    server.stop();

    let home = Home::default();
    let limits = format!(
        "tenants: [{{ name: acme, models: ['acme-*'], memory: {}B }}, {{ name: small, models: [small], memory: 1KiB }}]",
        one * 3 / 2
    );
    let server = limited(&home, &limits);
    assert_eq!(push_as(&server, "iris", "acme-a", "1").status, 201);
    push_as(&server, "iris", "acme-b", "1").assert_error(429, "tenant 'acme' is at its limit of");
    push_as(&server, "iris", "small", "1").assert_error(413, "the limit of tenant 'small' is 1.0 KiB");
    server.push("iris");
    assert_eq!(server.index(), ["acme-a 1 READY", "iris 1 READY"]);
    assert_eq!(metric(&server, "used", "tenant", "acme", "memory"), one as f64);
    assert_eq!(metric(&server, "refused", "tenant", "acme", "memory"), 1.0);
    // It may be loaded anew: that is no second one.
    let config = serde_json::json!({"parameters": {"config": "{\"version_policy\": {\"latest\": {\"num_versions\": 1}}}"}});
    let loaded = server.post("/v2/repository/models/acme-a/load", &config);
    assert_eq!(loaded.status, 200, "{loaded}");
    assert_eq!(server.send("POST", "/v2/repository/models/acme-a/unload", &[], &[]).status, 200);
    let pushed = || (push_as(&server, "iris", "acme-b", "1").status == 201).then_some(());
    wait::until("there is room again", pushed);
    let refused = server.send("POST", "/v2/repository/models/acme-a/load", &[], &[]);
    refused.assert_error(429, "tenant 'acme' is at its limit of");
    server.stop();

    // One that is loaded when it is asked.
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("limits.yaml");
    fs::write(&file, &limits).unwrap();
    let server = home.start_with(&["--limits", file.to_str().unwrap(), "--load", "when-asked"]);
    assert_setosa(&server.infer("acme-a", &flower()));
    for _ in 0..2 {
        server.infer("acme-b", &flower()).assert_error(429, "tenant 'acme' is at its limit of");
    }
    let client = Client::of(&server);
    let asked = client::proto::ModelInferRequest { model_name: "acme-b".to_owned(), ..client::flower() };
    assert_status(client.infer(asked), Code::ResourceExhausted, "model 'acme-b' version 1 takes");
    assert_eq!(server.delete("acme-a", "1").status, 204);
    wait::until("there is room again", || (server.infer("acme-b", &flower()).status == 200).then_some(()));
}

#[test]
fn packages_in_the_store() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    server.stop();
    let record = fs::read(home.store().join("models/iris/1.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let one: u64 =
        record["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();

    let limits = format!("models: [{{ match: 'iris*', stored: {}B }}]", one * 5 / 2);
    let server = limited(&home, &limits);
    wait::until("what is there is counted", || {
        (metric(&server, "used", "model", "iris", "stored") == one as f64).then_some(())
    });
    assert_eq!(push_as(&server, "iris", "iris", "2").status, 201);
    let refused = push_as(&server, "iris", "iris", "3");
    refused.assert_error(429, "model 'iris' is at its limit of");
    refused.assert_error(429, "of packages");
    assert_eq!(retry_after(&refused), None);
    assert_eq!(push_as(&server, "iris", "iris-b", "1").status, 201, "each model counts by itself");
    assert_eq!(server.delete("iris", "1").status, 204);
    assert_eq!(metric(&server, "refused", "model", "iris", "stored"), 1.0);
    // Nothing is left of what was refused, and what goes makes room.
    assert_eq!(push_as(&server, "iris", "iris", "3").status, 201);
    assert!(
        metric(&server, "used", "model", "iris", "stored")
            <= metric(&server, "value", "model", "iris", "stored")
    );
}

#[test]
fn versions_added_in_an_hour() {
    let home = Home::default();
    let server = limited(&home, "models: [{ match: 'acme-*', uploads: 2 }]");
    assert_eq!(push_as(&server, "iris", "acme-a", "1").status, 201);
    // What comes to nothing does not count.
    assert_eq!(server.upload("acme-a", "2", b"no tar").status, 400);
    assert_eq!(push_as(&server, "iris", "acme-a", "1").status, 409);
    assert_eq!(push_as(&server, "iris", "acme-a", "2").status, 201);
    let refused = push_as(&server, "iris", "acme-a", "3");
    refused.assert_error(429, "model 'acme-a' is at its limit of 2 uploads an hour; try again later");
    retried(&refused, 1000..=1800);
    assert_eq!(push_as(&server, "iris", "acme-b", "1").status, 201);
    server.push("iris");
    // To remove it gives nothing back, or one could go on for ever.
    assert_eq!(server.delete("acme-a", "1").status, 204);
    assert_eq!(server.delete("acme-a", "2").status, 204);
    push_as(&server, "iris", "acme-a", "4").assert_error(429, "2 uploads an hour");
    assert_eq!(push_as(&server, "iris", "acme-b", "2").status, 201);
}

#[test]
fn a_file_that_says_what_cannot_be_keeps_the_server_from_starting() {
    let home = Home::default();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("limits.yaml");
    fs::write(&file, "models: [{ match: a, rate: -1 }]").unwrap();
    let output = serve(&home.store(), &["--limits", file.to_str().unwrap()]).output().unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("--limits") && error.contains("models[0].rate: -1 is no limit"), "{error}");
}

#[test]
fn limits_that_nobody_meets_change_nothing() {
    let home = Home::default();
    let server = limited(
        &home,
        "{ models: [{ match: '*', concurrent: 1000, rate: 100000, cpu: 100, memory: 1TiB, stored: 1TiB, uploads: 1000 }],\n\
         tenants: [{ name: all, models: ['*'], concurrent: 1000, rate: 100000, cpu: 100, memory: 1TiB }] }",
    );
    server.push("iris");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..20).for_each(|_| assert_setosa(&server.infer("iris", &flower()))));
        }
    });
    for (scope, name) in [("model", "iris"), ("tenant", "all")] {
        assert_eq!(metric(&server, "used", scope, name, "concurrent"), 0.0);
        for limit in ["concurrent", "rate", "cpu", "memory"] {
            assert_eq!(metric(&server, "refused", scope, name, limit), 0.0);
        }
    }
}
