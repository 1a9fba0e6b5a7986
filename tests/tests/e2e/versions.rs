//! Versions of a model: swapped under load, led traffic to, tried on copies, selected by policy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::http::Answer;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::{Home, Server};
use vespid_tests::{cli, wait};

const TRAFFIC: &str = "/v2/repository/models/iris/traffic";

fn version(number: u32) -> Vec<u8> {
    Archive::built("iris").version(&number.to_string()).to_tar()
}

fn push(server: &Server, number: u32, package: &[u8]) {
    let answer = server.upload("iris", &number.to_string(), package);
    assert_eq!(answer.status, 201, "{answer}");
}

fn lead(server: &Server, traffic: &Value) -> Answer {
    server.send("PUT", TRAFFIC, &[("content-type", "application/json")], traffic.to_string().as_bytes())
}

fn led(server: &Server, traffic: &Value) {
    let answer = lead(server, traffic);
    assert_eq!(answer.status, 200, "{answer}");
}

/// The versions that answer requests which name none, and how often.
fn answering(server: &Server, requests: usize) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for _ in 0..requests {
        let answer = server.infer("iris", &flower());
        assert_setosa(&answer);
        *versions.entry(answer.json()["model_version"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    versions
}

fn metric(server: &Server, name: &str) -> Option<f64> {
    let text = vespid_tests::http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]);
    let text = String::from_utf8(text.body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().parse().unwrap())
}

#[test]
fn twenty_versions_come_and_go_under_load_and_no_call_fails() {
    const CHANGES: u32 = 20;
    const BROKEN: u32 = 11;
    let server = Server::with(&["iris"]);
    let (done, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let seen: Vec<Vec<u64>> = thread::scope(|scope| {
        let call = || {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let answer = server.infer("iris", &flower());
                assert_setosa(&answer);
                calls.fetch_add(1, Ordering::Relaxed);
                seen.push(answer.json()["model_version"].as_str().unwrap().parse().unwrap());
            }
            seen
        };
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
        for number in 2..CHANGES + 2 {
            if number == BROKEN {
                let broken = Archive::built("iris").version("11").file("iris.onnx", "no graph").to_tar();
                let answer = server.upload("iris", "11", &broken);
                answer.assert_error(400, "failed to load");
            } else {
                push(&server, number, &version(number));
                assert_eq!(server.delete("iris", &old(number, BROKEN).to_string()).status, 204);
            }
            let before = calls.load(Ordering::Relaxed);
            wait::until("calls go on", || (calls.load(Ordering::Relaxed) > before + 8).then_some(()));
        }
        done.store(true, Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    // Each caller's answers come from later and later versions.
    assert!(seen.iter().all(|versions| versions.is_sorted()), "{seen:?}");
    assert_eq!(server.index(), [format!("iris {} READY", CHANGES + 1)]);
}

/// The version that serves before this one comes.
fn old(number: u32, broken: u32) -> u32 {
    if number - 1 == broken { number - 2 } else { number - 1 }
}

#[test]
fn traffic_is_shared_out_by_weight_and_survives_a_restart() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    for number in [2, 3] {
        push(&server, number, &version(number));
    }
    assert_eq!(answering(&server, 20).into_keys().collect::<Vec<_>>(), ["3"]);
    led(&server, &json!({"weights": {"1": 1, "2": 3}}));
    let shares = answering(&server, 200);
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["1", "2"]);
    assert!((25..=80).contains(&shares["1"]), "{shares:?}");
    // A version that is named answers whatever its weight.
    let named = server.post("/v2/models/iris/versions/3/infer", &flower());
    assert_eq!(named.json()["model_version"], "3");
    server.stop();

    let server = home.start();
    assert_eq!(server.get(TRAFFIC).json(), json!({"versions": "all", "weights": {"1": 1, "2": 3}}));
    assert_eq!(answering(&server, 100).into_keys().collect::<Vec<_>>(), ["1", "2"]);
    // What is left takes over the share of what is gone.
    assert_eq!(server.delete("iris", "2").status, 204);
    assert_eq!(answering(&server, 20).into_keys().collect::<Vec<_>>(), ["1"]);
    let here = std::path::Path::new(".");
    let shown = cli::vespid(here, &[], &["traffic", "iris", "--server", &server.url()]);
    assert!(shown.expect(0).stdout.contains("traffic 75.0 % to version 2"), "{}", shown.stdout);
    cli::vespid(here, &[], &["traffic", "iris", "--reset", "--server", &server.url()]).expect(0);
    assert_eq!(answering(&server, 20).into_keys().collect::<Vec<_>>(), ["3"]);
}

#[test]
fn a_policy_selects_versions_and_a_broken_one_does_not_count() {
    let home = Home::default();
    let server = home.start();
    for number in 1..=3 {
        push(&server, number, &version(number));
    }
    led(&server, &json!({"versions": {"latest": 2}}));
    let out = "not among the versions that the model's policy selects";
    assert_eq!(
        server.index(),
        [format!("iris 1 UNAVAILABLE {out}"), "iris 2 READY".into(), "iris 3 READY".into()]
    );
    server.post("/v2/models/iris/versions/1/infer", &flower()).assert_error(404, "policy");
    push(&server, 4, &version(4));
    assert_eq!(server.get("/v2/models/iris").json()["versions"], json!(["3", "4"]));
    assert_eq!(server.delete("iris", "4").status, 204);
    assert_eq!(server.get("/v2/models/iris").json()["versions"], json!(["2", "3"]));
    led(&server, &json!({"versions": {"specific": [1]}}));
    assert_eq!(server.get("/v2/models/iris").json()["versions"], json!(["1"]));
    led(&server, &json!({"versions": {"latest": 1}}));
    server.stop();
    // As a hand would that breaks something off.
    let broken = home.store().join("models/iris/5");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(broken.join("model.toml"), Archive::built("iris").version("5").data("model.toml"))
        .unwrap();
    let server = home.start();
    let index = server.index();
    assert!(index[3].starts_with("iris 5 UNAVAILABLE failed to load:"), "{index:?}");
    assert_eq!(answering(&server, 5).into_keys().collect::<Vec<_>>(), ["3"]);
}

#[test]
fn a_shadow_version_gets_copies_whose_answers_are_compared_and_never_returned() {
    let server = Server::with(&["iris"]);
    push(&server, 2, &version(2));
    push(&server, 3, &other(3));
    led(&server, &json!({"weights": {"1": 1}, "shadow": {"version": 2}}));
    let count = |version: &str, result: &str| {
        let name =
            format!("vespid_shadow_requests{{model=\"iris\",version=\"{version}\",result=\"{result}\"}}");
        metric(&server, &name).unwrap_or_default()
    };
    assert_eq!(answering(&server, 10).into_keys().collect::<Vec<_>>(), ["1"]);
    wait::until("all copies are compared", || (count("2", "equal") == 10.0).then_some(()));
    led(&server, &json!({"weights": {"1": 1}, "shadow": {"version": 3}}));
    assert_eq!(answering(&server, 10).into_keys().collect::<Vec<_>>(), ["1"]);
    wait::until("all copies are compared", || (count("3", "different") == 10.0).then_some(()));
    // Requests that name a version are not copied.
    assert_setosa(&server.post("/v2/models/iris/versions/1/infer", &flower()));
    assert_eq!(count("3", "different"), 10.0);
}

/// A version without the plugin, which has the probabilities and not the species.
fn other(number: u32) -> Vec<u8> {
    Archive::built("iris-native")
        .version(&number.to_string())
        .manifest("name = \"iris-native\"", "name = \"iris\"")
        .to_tar()
}

#[test]
fn traffic_that_leads_nowhere_is_refused_and_changes_nothing() {
    let server = Server::with(&["iris"]);
    lead(&server, &json!({"weights": {"7": 1}})).assert_error(404, "the model has no version 7");
    let unserved = json!({"versions": {"specific": [2]}, "weights": {"1": 1}});
    lead(&server, &unserved).assert_error(404, "the model has no version 1 among those");
    for (traffic, message) in [
        (json!({"weights": {"1": 0}}), "traffic: "),
        (json!({"weight": {}}), "unknown field `weight`"),
        (json!({"shadow": {"version": 1, "percent": 200}}), "shadow.percent"),
    ] {
        lead(&server, &traffic).assert_error(400, message);
    }
    assert_eq!(server.get(TRAFFIC).json(), json!({"versions": "all"}));
    server.get("/v2/repository/models/nobody/traffic").assert_error(404, "nobody");
}

#[test]
fn a_document_that_is_no_traffic_leaves_the_model_served() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    push(&server, 2, &version(2));
    server.stop();
    let document = home.store().join("models/iris/settings.json");
    std::fs::write(&document, "no document").unwrap();
    let server = home.start_with(&["--model-control", "poll", "--poll-interval", "200ms"]);
    assert_eq!(answering(&server, 5).into_keys().collect::<Vec<_>>(), ["2"]);
    assert!(server.log().contains("not all taken up: traffic: "), "{}", server.log());
    // Another server, or a hand, sets it: no version changes with it.
    std::fs::write(&document, r#"{"weights": {"1": 1}}"#).unwrap();
    wait::until("it is in effect", || {
        (answering(&server, 1).into_keys().next().unwrap() == "1").then_some(())
    });
    std::fs::write(&document, r#"{"weights": {"2": 1}}"#).unwrap();
    wait::until("it is in effect", || {
        (answering(&server, 1).into_keys().next().unwrap() == "2").then_some(())
    });
}

#[test]
fn a_version_that_fails_its_warm_up_does_not_come_in() {
    let server = Server::with(&["iris"]);
    let case = |shape: usize| {
        let request = json!({"request": {"inputs": [{
            "name": "measurements", "datatype": "FP32", "shape": [1, shape], "data": vec![1.0; shape]
        }]}});
        request.to_string()
    };
    let with = |number: &str, shape| {
        let manifest =
            String::from_utf8(Archive::built("iris").version(number).data("model.toml").to_vec()).unwrap();
        let manifest = manifest + "\n[[warmup]]\ncase = \"cases/one.json\"\ncount = 3\n";
        Archive::built("iris").file("model.toml", manifest).file("cases/one.json", case(shape)).to_tar()
    };
    let refused = server.upload("iris", "2", &with("2", 5));
    refused.assert_error(400, "[[warmup]] cases/one.json");
    assert_eq!(server.index(), ["iris 1 READY"]);
    push(&server, 3, &with("3", 4));
    assert_eq!(answering(&server, 5).into_keys().collect::<Vec<_>>(), ["3"]);
    // What it is asked before it serves is nobody's request.
    let stats = server.get("/v2/models/iris/versions/3/stats").json();
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 5);
}
