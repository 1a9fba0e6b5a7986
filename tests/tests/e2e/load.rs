//! Models that are taken out of service and brought back, as they are stored or otherwise.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::built::{package, repository};
use vespid_tests::http::Answer;
use vespid_tests::oip::{assert_setosa, flower, kind, numbers, output, request};
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

fn act(server: &Server, model: &str, action: &str, parameters: &Value) -> Answer {
    let path = format!("/v2/repository/models/{model}/{action}");
    server.post(&path, &json!({"parameters": parameters}))
}

fn load(server: &Server, model: &str) -> Answer {
    act(server, model, "load", &json!({}))
}

/// Loads with a configuration, which is text in the request.
fn load_as(server: &Server, model: &str, config: &Value) -> Answer {
    act(server, model, "load", &json!({"config": config.to_string()}))
}

fn load_files(server: &Server, model: &str, config: &Value, files: &[(&str, &[u8])]) -> Answer {
    let mut parameters = json!({"config": config.to_string()});
    for (name, content) in files {
        parameters[format!("file:{name}")] = json!(BASE64_STANDARD.encode(content));
    }
    act(server, model, "load", &parameters)
}

fn unload(server: &Server, model: &str) {
    assert_done(&act(server, model, "unload", &json!({"unload_dependents": false})));
}

/// Triton answers with nothing.
fn assert_done(answer: &Answer) {
    assert!(answer.status == 200 && answer.body.is_empty(), "{answer}");
}

fn config(server: &Server, model: &str) -> Value {
    let answer = server.get(&format!("/v2/models/{model}/config"));
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()
}

fn version(server: &Server, model: &str) -> String {
    let answer = server.infer(model, &flower());
    assert_eq!(answer.status, 200, "{answer}");
    answer.json()["model_version"].as_str().unwrap().to_owned()
}

/// Every file of a store, but for what the compiler caches.
fn stored(server: &Server) -> Vec<String> {
    let mut folders = vec![server.store().join("models"), server.store().join("staging")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.display().to_string());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn what_is_unloaded_comes_back_by_a_load_or_a_restart() {
    let home = Home::default();
    let server = home.start();
    server.push("iris");
    assert_eq!(server.upload("iris", "2", &Archive::built("iris").version("2").to_tar()).status, 201);
    unload(&server, "iris");
    let unloaded = ["iris 1 UNAVAILABLE unloaded", "iris 2 UNAVAILABLE unloaded"];
    assert_eq!(server.index(), unloaded);
    let ready = server.post("/v2/repository/index", &json!({"ready": true}));
    assert_eq!(ready.json(), json!([]));
    for path in ["/v2/models/iris", "/v2/models/iris/ready", "/v2/models/iris/versions/1/config"] {
        server.get(path).assert_error(404, "Request for unknown model");
    }
    server
        .infer("iris", &flower())
        .assert_error(404, "has no available versions: it was taken out of service");
    // It is still there: it cannot be uploaded again, and it can be removed.
    let again = server.upload("iris", "1", &Archive::built("iris").to_tar());
    again.assert_error(409, "exists already");
    assert_eq!(server.delete("iris", "2").status, 204);
    unload(&server, "iris");
    assert_eq!(server.index(), unloaded[..1]);

    for _ in 0..2 {
        assert_done(&load(&server, "iris"));
        assert_eq!(server.index(), ["iris 1 READY"]);
        assert_setosa(&server.infer("iris", &flower()));
    }
    unload(&server, "iris");
    server.stop();
    let server = home.start();
    assert_eq!(server.index(), ["iris 1 READY"]);
    // As with Triton, it is no error to unload what is not there, and one to load it.
    unload(&server, "nobody");
    load(&server, "nobody")
        .assert_error(404, "failed to load 'nobody', failed to poll from model repository");
    assert_done(&server.send("POST", "/v2/repository/models/iris/load", &[], &[]));
}

#[test]
fn a_load_tries_again_what_failed() {
    let home = Home::default();
    let server = home.start();
    server.push("iris-native");
    let second = Archive::built("iris-native").version("2").to_tar();
    assert_eq!(server.upload("iris-native", "2", &second).status, 201);
    server.stop();
    let record = home.store().join("models/iris-native/2.json");
    let good = fs::read(&record).unwrap();
    fs::write(&record, "no record").unwrap();
    let server = home.start();
    assert!(
        server.index()[1].starts_with("iris-native 2 UNAVAILABLE failed to load"),
        "{:?}",
        server.index()
    );
    load(&server, "iris-native").assert_error(400, "failed to load 'iris-native', version 2: the record");
    // A load brings back what it can.
    unload(&server, "iris-native");
    load(&server, "iris-native").assert_error(400, "failed to load 'iris-native', version 2");
    assert_eq!(server.index()[0], "iris-native 1 READY");
    assert_eq!(version(&server, "iris-native"), "1");
    fs::write(&record, good).unwrap();
    assert_done(&load(&server, "iris-native"));
    assert_eq!(version(&server, "iris-native"), "2");
}

#[test]
fn calls_end_before_their_version_is_gone() {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris", "loop"]);
    thread::scope(|scope| {
        let looping = scope.spawn(|| server.looping());
        server.wait_until_busy();
        unload(&server, "loop");
        assert_eq!(server.index()[1], "loop 1 UNLOADING");
        looping.join().unwrap().assert_error(504, "the plugin did not answer before the deadline");
    });
    wait::until("the version is gone", || (server.index()[1] == "loop 1 UNAVAILABLE unloaded").then_some(()));
    server.infer("loop", &kind(0)).assert_error(404, "Request for unknown model");
}

#[test]
fn callers_notice_nothing_of_loads_and_are_told_of_unloads() {
    let server = Server::with(&["iris-native"]);
    let (stop, unloads, answered) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let answer = server.infer("iris-native", &flower());
                        if answer.status == 200 {
                            assert_eq!(numbers(&output(&answer, "probabilities")["data"]).len(), 3);
                            answered.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        assert!(unloads.load(Ordering::SeqCst), "a load alone is not noticed: {answer}");
                        match answer.status {
                            404 => answer.assert_error(404, "Request for unknown model"),
                            _ => answer.assert_error(503, "is still loading"),
                        }
                    }
                })
            })
            .collect();
        for round in 0..6 {
            assert_done(&load_as(&server, "iris-native", &json!({"max_batch_size": 2 + round})));
            assert_done(&load(&server, "iris-native"));
        }
        let before = answered.load(Ordering::Relaxed);
        assert!(before > 0);
        unloads.store(true, Ordering::SeqCst);
        for _ in 0..6 {
            unload(&server, "iris-native");
            assert_done(&load(&server, "iris-native"));
        }
        wait::until("callers are answered again", || {
            (answered.load(Ordering::Relaxed) > before).then_some(())
        });
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
    assert_eq!(server.index(), ["iris-native 1 READY"]);
}

#[test]
fn loads_uploads_and_removals_at_once_leave_what_the_store_holds() {
    let server = Server::with(&["iris-native"]);
    thread::scope(|scope| {
        for worker in 0..3 {
            let server = &server;
            scope.spawn(move || {
                let version = (worker + 2).to_string();
                let package = Archive::built("iris-native").version(&version).to_tar();
                for _ in 0..4 {
                    assert_eq!(server.upload("iris-native", &version, &package).status, 201);
                    assert_done(&load(server, "iris-native"));
                    let config = json!({"version_policy": {"latest": {"num_versions": worker + 1}}});
                    // Versions come and go while it is loaded.
                    let loaded = load_as(server, "iris-native", &config);
                    assert!(loaded.status == 200 || loaded.error().contains("failed to load"), "{loaded}");
                    unload(server, "iris-native");
                    assert_eq!(server.delete("iris-native", &version).status, 204);
                }
            });
        }
    });
    assert_done(&load(&server, "iris-native"));
    assert_eq!(server.index(), ["iris-native 1 READY"]);
    assert_eq!(version(&server, "iris-native"), "1");
}

#[test]
fn a_configuration_lasts_until_the_next_load() {
    let server = Server::with(&["iris-native", "image-classify"]);
    let plain = config(&server, "iris-native");
    assert_eq!(plain["max_batch_size"], 64, "{plain:#}");
    // What is given back changes nothing.
    assert_done(&load_as(&server, "iris-native", &plain));
    assert_eq!(config(&server, "iris-native"), plain);

    let batching = json!({"preferred_batch_size": ["4"], "max_queue_delay_microseconds": "1500"});
    let asked = json!({
        "name": "iris-native",
        "max_batch_size": "8",
        "dynamic_batching": batching,
        "instance_group": [{"count": "2", "kind": "KIND_CPU"}],
        "parameters": {"colour": {"string_value": "blue"}},
        "input": [{"name": "measurements", "data_type": "TYPE_FP32", "dims": ["4"]}],
    });
    assert_done(&load_as(&server, "iris-native", &asked));
    let changed = config(&server, "iris-native");
    assert_eq!(changed["max_batch_size"], 8);
    assert_eq!(changed["dynamic_batching"]["preferred_batch_size"], json!([4]));
    assert_eq!(changed["dynamic_batching"]["max_queue_delay_microseconds"], 1500);
    assert_eq!(changed["instance_group"][0]["count"], 2);
    assert_eq!(changed["parameters"], json!({"colour": {"string_value": "blue"}}));
    assert_eq!(version(&server, "iris-native"), "1");

    assert_done(&load(&server, "iris-native"));
    assert_eq!(config(&server, "iris-native"), plain);

    // A plugin reads it.
    let image = fs::read(repository("plugins/image-classify/cases/grey-1.png")).unwrap();
    let classes = || {
        let raw = [("content-type", "application/octet-stream")];
        let answer = server.send("POST", "/v2/models/image-classify/infer", &raw, &image);
        output(&answer, "index")["shape"].clone()
    };
    let before = classes();
    assert_done(&load_as(
        &server,
        "image-classify",
        &json!({"parameters": {"top_k": {"string_value": "2"}}}),
    ));
    assert_eq!(classes(), json!([1, 2]));
    unload(&server, "image-classify");
    assert_done(&load(&server, "image-classify"));
    assert_eq!(classes(), before);
}

#[test]
fn a_configuration_may_be_given_back_as_it_is() {
    let server =
        Server::with(&["iris", "iris-native", "simple", "simple-sequence", "file-type", "image-classify"]);
    let repeat = fs::read(package("repeat-int32")).unwrap();
    assert_eq!(server.upload("repeat_int32", "1", &repeat).status, 201);
    for model in
        ["iris", "iris-native", "simple", "simple_sequence", "file-type", "image-classify", "repeat_int32"]
    {
        let has = config(&server, model);
        assert_done(&load_as(&server, model, &has));
        assert_eq!(config(&server, model), has);
        // What metadata says in other words.
        let metadata = server.get(&format!("/v2/models/{model}")).json();
        assert_eq!(has["platform"], metadata["platform"]);
        let rows = usize::from(has["max_batch_size"].as_u64().unwrap() > 0);
        for (of, configured) in [("inputs", "input"), ("outputs", "output")] {
            for (metadata, configured) in
                metadata[of].as_array().unwrap().iter().zip(has[configured].as_array().unwrap())
            {
                assert_eq!(configured["name"], metadata["name"]);
                let shape = metadata["shape"].as_array().unwrap();
                assert_eq!(configured["dims"].as_array().unwrap(), &shape[rows..]);
            }
        }
    }
    assert_eq!(config(&server, "repeat_int32")["model_transaction_policy"]["decoupled"], true);
    assert_eq!(config(&server, "repeat_int32")["max_batch_size"], 0);
}

#[test]
fn sequences_are_configured() {
    let server = Server::with(&["simple-sequence"]);
    let one = json!({"sequence_batching": {"oldest": {"max_candidate_sequences": 1}}});
    assert_done(&load_as(&server, "simple_sequence", &one));
    let has = config(&server, "simple_sequence");
    assert_eq!(has["sequence_batching"]["max_sequence_idle_microseconds"], 5_000_000, "as model.toml says");
    let begin = |id: u32| {
        let mut request = request("INPUT", "INT32", &[1, 1], json!([1]));
        request["parameters"] = json!({"sequence_id": id, "sequence_start": true});
        server.infer("simple_sequence", &request)
    };
    assert_eq!(begin(1).status, 200);
    begin(2).assert_error(503, "1 sequences are open");
    assert_done(&load(&server, "simple_sequence"));
    assert_eq!(begin(2).status, 200);
    assert_eq!(begin(3).status, 200);
}

#[test]
fn what_cannot_be_honoured_is_named_and_what_served_goes_on() {
    let server = Server::with(&["iris-native", "iris"]);
    assert_done(&load_as(&server, "iris-native", &json!({"max_batch_size": 8})));
    for (model, config, status, expected) in [
        ("iris-native", json!({"max_batch": 4}), 400, "config: unrecognized field name 'max_batch'"),
        (
            "iris-native",
            json!({"dynamic_batching": {"delay": 1}}),
            400,
            "config: dynamic_batching: unrecognized",
        ),
        ("iris-native", json!({"model_warmup": [{"name": "w"}]}), 400, "config: model_warmup"),
        ("iris-native", json!({"name": "iris"}), 400, "config: name"),
        ("iris-native", json!({"backend": "onnxruntime"}), 501, "onnxruntime"),
        ("iris-native", json!({"instance_group": [{"kind": "KIND_GPU"}]}), 501, "gpu:0"),
        ("iris-native", json!({"instance_group": [{"count": 1000}]}), 400, "instances: use 1 to 64"),
        (
            "iris-native",
            json!({"input": [{"name": "x"}]}),
            400,
            "config: input: the model has none of the name",
        ),
        ("iris-native", json!({"output": [{"name": "probabilities", "dims": [4]}]}), 400, "its dims are [3]"),
        ("iris-native", json!({"model_transaction_policy": {"decoupled": true}}), 400, "decoupled"),
        ("iris-native", json!({"version_policy": {"specific": {"versions": [7]}}}), 400, "no version 7"),
        ("iris", json!({"max_batch_size": 0}), 400, "config: max_batch_size"),
        ("iris", json!({"backend": "embedded"}), 400, "config: backend"),
    ] {
        let answer = load_as(&server, model, &config);
        assert_eq!(answer.status, status, "{config}: {answer}");
        answer.assert_error(status, expected);
        answer.assert_error(status, &format!("failed to load '{model}', "));
        assert_eq!(server.index(), ["iris 1 READY", "iris-native 1 READY"]);
    }
    assert_eq!(config(&server, "iris-native")["max_batch_size"], 8);
    let answer = act(&server, "iris-native", "load", &json!({"confg": "{}"}));
    answer.assert_error(400, "'confg': it is not known");
    // What does not serve says why.
    unload(&server, "iris-native");
    let broken = json!({"backend": "onnxruntime"});
    assert_ne!(load_as(&server, "iris-native", &broken).status, 200);
    assert!(
        server.index()[1].starts_with("iris-native 1 UNAVAILABLE failed to load"),
        "{:?}",
        server.index()
    );
}

#[test]
fn a_policy_chooses_versions() {
    let server = Server::with(&["iris-native"]);
    for version in ["2", "3"] {
        let package = Archive::built("iris-native").version(version).to_tar();
        assert_eq!(server.upload("iris-native", version, &package).status, 201);
    }
    let states = || server.index().iter().map(|line| line.contains("READY")).collect::<Vec<_>>();
    let policy = |policy: Value| json!({"version_policy": policy});
    assert_done(&load_as(&server, "iris-native", &policy(json!({"latest": {"num_versions": 2}}))));
    assert_eq!(states(), [false, true, true]);
    assert_eq!(config(&server, "iris-native")["version_policy"], json!({"latest": {"num_versions": 2}}));
    assert_done(&load_as(&server, "iris-native", &policy(json!({"specific": {"versions": [1]}}))));
    assert_eq!(states(), [true, false, false]);
    assert_eq!(version(&server, "iris-native"), "1");
    assert_done(&load(&server, "iris-native"));
    assert_eq!(states(), [true; 3]);
    assert_eq!(config(&server, "iris-native")["version_policy"], json!({"all": {}}));
}

#[test]
fn files_serve_in_place_of_the_store_until_the_next_load() {
    let server = Server::with(&["iris-native"]);
    let before = stored(&server);
    let native = Archive::built("iris-native");
    let graph = native.data("iris.onnx");
    assert_done(&load_files(&server, "iris-native", &json!({}), &[("7/model.onnx", graph)]));
    assert_eq!(server.index(), ["iris-native 1 UNAVAILABLE unloaded", "iris-native 7 READY"]);
    assert_eq!(version(&server, "iris-native"), "7");
    assert_eq!(config(&server, "iris-native")["default_model_filename"], "model.onnx");
    assert_eq!(stored(&server), before, "nothing of it is kept");

    let labels = json!({"output": [{"name": "probabilities", "label_filename": "labels.txt"}]});
    load_files(&server, "iris-native", &labels, &[("7/model.onnx", graph)])
        .assert_error(400, "label_filename: the package does not hold 'labels.txt'");
    let files = [("7/model.onnx", graph), ("7/labels.txt", b"setosa\nversicolor\nvirginica\n")];
    assert_done(&load_files(&server, "iris-native", &labels, &files));
    let mut asked = flower();
    asked["outputs"] = json!([{"name": "probabilities", "parameters": {"classification": 1}}]);
    let class = output(&server.infer("iris-native", &asked), "probabilities")["data"].clone();
    assert!(class[0].as_str().unwrap().ends_with(":0:setosa"), "{class}");

    // A broken one leaves it, and so does one that is too much for the model.
    for files in [
        &[("7/model.onnx", &b"no graph"[..])][..],
        &[("7/labels.txt", b"a")],
        &[("7/a.onnx", graph), ("7/b.onnx", graph)],
    ] {
        load_files(&server, "iris-native", &json!({}), files)
            .assert_error(400, "failed to load 'iris-native', version 7");
    }
    let two = [("1/model.onnx", graph), ("2/model.onnx", b"no graph")];
    load_files(&server, "iris-native", &json!({}), &two).assert_error(400, "version 2");
    assert_eq!(version(&server, "iris-native"), "7");
    // The store goes on beside it.
    assert_eq!(server.upload("iris-native", "7", &native.clone().version("7").to_tar()).status, 201);
    assert_eq!(server.delete("iris-native", "7").status, 204);

    assert_done(&load_files(&server, "iris-native", &json!({}), &[("7/model.onnx", graph)]));
    assert_done(&load(&server, "iris-native"));
    assert_eq!(server.index(), ["iris-native 1 READY"]);
    assert_eq!(version(&server, "iris-native"), "1");
    assert_eq!(stored(&server), before);
}

#[test]
fn files_may_be_a_whole_package_or_a_model_that_the_store_does_not_have() {
    let server = Server::with(&[]);
    let iris = Archive::built("iris");
    let manifest = iris.data("model.toml");
    let whole: Vec<(String, &[u8])> =
        ["model.toml", "iris.wasm", "iris.onnx"].map(|name| (format!("1/{name}"), iris.data(name))).into();
    let whole: Vec<(&str, &[u8])> = whole.iter().map(|(name, data)| (name.as_str(), *data)).collect();
    assert_done(&load_files(&server, "iris", &json!({"max_batch_size": 4}), &whole));
    assert_setosa(&server.infer("iris", &flower()));
    assert_eq!(config(&server, "iris")["max_batch_size"], 4);
    // Its manifest is of another version.
    load_files(
        &server,
        "iris",
        &json!({}),
        &[("2/model.toml", manifest), ("2/iris.wasm", iris.data("iris.wasm"))],
    )
    .assert_error(400, "failed to load 'iris', version 2: ");

    // Without a manifest, graphs bear the names of their files.
    let made = [("1/p.wasm", iris.data("iris.wasm")), ("1/iris.onnx", iris.data("iris.onnx"))];
    assert_done(&load_files(&server, "iris", &json!({}), &made));
    assert_setosa(&server.infer("iris", &flower()));
    assert_eq!(config(&server, "iris")["default_model_filename"], "p.wasm");

    load(&server, "iris").assert_error(404, "failed to load 'iris', failed to poll from model repository");
    assert_setosa(&server.infer("iris", &flower()));
    unload(&server, "iris");
    assert!(server.index().is_empty(), "nothing is left of it");
    assert!(stored(&server).is_empty());
    server.push("iris");
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn files_over_the_limits_are_refused() {
    let server = Server::configured(&["--max-package", "64KiB", "--max-body", "128KiB"], &["iris-native"]);
    let graph = Archive::built("iris-native").data("iris.onnx").to_vec();
    let more = vec![0; 70 << 10];
    let large = [("1/model.onnx", &graph[..]), ("1/more", &more)];
    let answer = load_files(&server, "iris-native", &json!({}), &large);
    answer.assert_error(413, "the package is larger than the limit of 64.0 KiB");
    let much = vec![0; 100 << 10];
    let answer =
        load_files(&server, "iris-native", &json!({}), &[("1/model.onnx", &graph), ("1/more", &much)]);
    answer.assert_error(413, "the limit of 128.0 KiB");
    let small = vec![0; 40 << 10];
    assert_done(&load_files(
        &server,
        "iris-native",
        &json!({}),
        &[("1/model.onnx", &graph), ("1/more", &small)],
    ));
    assert_eq!(version(&server, "iris-native"), "1");
}
