//! Many models on one server: loaded when they are asked, sent away when there is no room, shared where they are the same.

use std::collections::BTreeMap;
use std::thread;

use serde_json::json;
use vespid_tests::archive::Archive;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::{Home, Server};
use vespid_tests::{http, wait};

/// The metrics whose names begin with `vespid_model`, by name with labels.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let text = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]);
    let text = String::from_utf8(text.body).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("vespid_model"));
    let read = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(read).collect()
}

fn models(server: &Server, state: &str) -> f64 {
    metrics(server)[&format!("vespid_models{{state=\"{state}\"}}")]
}

/// `iris` under other names, each with a graph of its own.
fn push_models(server: &Server, number: usize) {
    for model in 0..number {
        let name = format!("iris-{model}");
        let package = Archive::built("iris")
            .manifest("name = \"iris\"\nversion", &format!("name = \"{name}\"\nversion"));
        // A text that says nothing makes another graph of it: `doc_string` of the model.
        let mut graph = package.data("iris.onnx").to_vec();
        graph.extend_from_slice(&[0x32, 4]);
        graph.extend_from_slice(format!("{model:04}").as_bytes());
        let answer = server.upload(&name, "1", &package.file("iris.onnx", graph).to_tar());
        assert_eq!(answer.status, 201, "{answer}");
    }
}

#[test]
fn models_are_loaded_when_they_are_asked_once_for_all_who_ask() {
    let home = Home::default();
    let server = home.start();
    push_models(&server, 2);
    server.stop();

    let server = home.start_with(&["--load", "when-asked"]);
    assert_eq!((models(&server, "idle"), models(&server, "ready")), (2.0, 0.0));
    // It can be called, as anyone who asks is told; but nothing is loaded for that.
    assert_eq!(
        server.index(),
        ["iris-0 1 READY loads when it is asked", "iris-1 1 READY loads when it is asked"]
    );
    assert_eq!(server.get("/v2/models/iris-0/ready").status, 200);
    assert_eq!(server.get("/v2/models").json(), json!({"models": ["iris-0", "iris-1"]}));
    assert_eq!((models(&server, "idle"), models(&server, "ready")), (2.0, 0.0));

    thread::scope(|scope| {
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(|| server.infer("iris-0", &flower()))).collect();
        callers.into_iter().for_each(|caller| assert_setosa(&caller.join().unwrap()));
    });
    assert_eq!((models(&server, "idle"), models(&server, "ready")), (1.0, 1.0));
    // Who asks what it takes has it loaded too.
    assert_eq!(server.get("/v2/models/iris-1").json()["inputs"][0]["name"], "measurements");
    assert_eq!(models(&server, "ready"), 2.0);
}

#[test]
fn what_was_asked_longest_ago_makes_room_and_its_counters_go_on() {
    let home = Home::default();
    let server = home.start();
    push_models(&server, 4);
    let one = metrics(&server)["vespid_model_memory_bytes{model=\"iris-0\",version=\"1\"}"];
    let all = metrics(&server)["vespid_models_memory_bytes"];
    // The plugin's code is there once, and each has its own graph.
    assert!(all < 4.0 * one, "{all} {one}");
    server.stop();

    // Room for two graphs, and the code that they share.
    let graph = (all - one) / 3.0;
    let budget = (one + 1.5 * graph) as u64;
    let server = home.start_with(&["--load", "when-asked", "--memory-budget", &format!("{budget}B")]);
    for asked in [0, 1, 0, 2, 0, 3, 0, 1] {
        assert_setosa(&server.infer(&format!("iris-{asked}"), &flower()));
        let metrics = metrics(&server);
        assert!(metrics["vespid_models_memory_bytes"] <= budget as f64, "{metrics:?} {budget}");
    }
    // Of those, `iris-2` and `iris-3` were asked longest ago.
    let ready: Vec<String> =
        server.index().into_iter().filter(|line| !line.contains("when it is asked")).collect();
    assert!(ready.iter().any(|line| line.starts_with("iris-1 ")), "{ready:?}");
    assert!(!ready.iter().any(|line| line.starts_with("iris-2 ")), "{ready:?}");
    let stats = server.get("/v2/models/iris-2/stats").json();
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 1);
    let stats = server.get("/v2/models/iris-1/stats").json();
    assert_eq!(stats["model_stats"][0]["inference_stats"]["success"]["count"], 2);
    assert_eq!(stats["model_stats"][0]["execution_count"], 2);
}

#[test]
fn a_model_that_is_larger_than_the_budget_is_refused() {
    let server = Server::configured(&["--memory-budget", "1KiB"], &[]);
    let answer = server.upload("iris", "1", &Archive::built("iris").to_tar());
    answer.assert_error(413, "--memory-budget");
    assert!(server.index().is_empty());
}

#[test]
fn a_model_that_does_not_load_when_it_is_asked_says_so_and_is_not_in_the_way() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    assert_eq!(server.upload("iris", "2", &Archive::built("iris").version("2").to_tar()).status, 201);
    server.stop();
    let broken = home.store().join("models/iris/3");
    std::fs::create_dir_all(&broken).unwrap();
    std::fs::write(broken.join("model.toml"), "[model]\nname = 'iris'\nversion = '3'\nplugin = 'p.wasm'\n")
        .unwrap();

    let server = home.start_with(&["--load", "when-asked"]);
    // The greatest is found not to load, and the next one answers in its place.
    let answer = server.infer("iris", &flower());
    assert_setosa(&answer);
    assert_eq!(answer.json()["model_version"], "2");
    let named = server.post("/v2/models/iris/versions/3/infer", &flower());
    named.assert_error(503, "failed to load");
    assert!(server.index()[2].contains("p.wasm"), "{:?}", server.index());
}

#[test]
fn only_what_is_asked_for_is_served_under_explicit_control() {
    let home = Home::default();
    let server = home.start();
    push_models(&server, 2);
    server.stop();
    let server = home.start_with(&["--model-control", "explicit", "--load-model", "iris-1"]);
    assert_eq!(server.index(), ["iris-0 1 UNAVAILABLE unloaded", "iris-1 1 READY"]);
    assert_eq!(server.send("POST", "/v2/repository/models/iris-0/load", &[], &[]).status, 200);
    assert_setosa(&server.infer("iris-0", &flower()));
}

#[test]
fn a_store_that_is_polled_is_followed() {
    let home = Home::default();
    let server = home.start_with(&["--model-control", "poll", "--poll-interval", "200ms"]);
    let folder = |version: &str| home.store().join("models/iris").join(version);
    let put = |version: &str, files: &[&str]| {
        let package = Archive::built("iris").version(version);
        std::fs::create_dir_all(folder(version)).unwrap();
        for file in files {
            std::fs::write(folder(version).join(file), package.data(file)).unwrap();
        }
    };
    let index = |expected: &[&str]| {
        wait::until("the index says so", || {
            let index = server.index();
            let same = index.len() == expected.len()
                && index.iter().zip(expected).all(|(line, start)| line.starts_with(start));
            same.then_some(())
        });
    };
    put("1", &["model.toml", "iris.onnx", "iris.wasm"]);
    index(&["iris 1 READY"]);
    // Half-written, then whole.
    put("2", &["model.toml"]);
    index(&["iris 1 READY", "iris 2 UNAVAILABLE failed to load"]);
    assert_eq!(server.infer("iris", &flower()).json()["model_version"], "1");
    put("2", &["iris.onnx", "iris.wasm"]);
    index(&["iris 1 READY", "iris 2 READY"]);
    // Broken while it serves: what was there goes on.
    std::fs::write(folder("2").join("iris.onnx"), "no graph").unwrap();
    index(&["iris 1 READY", "iris 2 READY it has changed, and what is there now failed to load"]);
    assert_eq!(server.infer("iris", &flower()).json()["model_version"], "2");
    std::fs::remove_dir_all(folder("2")).unwrap();
    index(&["iris 1 READY"]);
    assert_setosa(&server.infer("iris", &flower()));
}
