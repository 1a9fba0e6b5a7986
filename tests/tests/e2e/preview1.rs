//! Commands: programs for WASI 0.1 and the wasi-nn crate, on the same lanes as everything else.

use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::built::repository;
use vespid_tests::http::{Raw, head};
use vespid_tests::oip::{assert_close, assert_setosa, flower, kind, numbers, output, request};
use vespid_tests::server::Server;
use vespid_tests::wait;

const PANICKED: &str =
    "the plugin handed the host what it cannot use, such as a pointer outside of its memory";
const MEMORY: &str = "memory limit of 16.0 MiB";

/// What the command is told, and the status and a part of the text that come of it.
const CASES: [(i32, u16, &str); 13] = [
    (1, 500, PANICKED),
    (2, 500, "the plugin trapped: Pointer out of bounds"),
    (3, 500, PANICKED),
    (4, 500, "the plugin exited with code 6: load said 6"),
    (5, 500, "the plugin exited with code 6: set_input said 6"),
    (6, 504, "the plugin did not answer before the deadline"),
    (7, 504, "the plugin did not answer before the deadline"),
    (8, 500, "the plugin exited with code 3: as the caller asked"),
    (9, 500, "the plugin trapped: it reached unreachable code"),
    (10, 500, MEMORY),
    (11, 500, MEMORY),
    (12, 500, MEMORY),
    (13, 500, "it wrote 13 bytes to its standard output, and output 'answer' is INT32 of shape [-1]"),
];

fn flowers() -> Vec<Vec<f64>> {
    let text = fs::read(repository("plugins/iris/expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    serde_json::from_value(expected["measurements"].clone()).unwrap()
}

fn measurements(rows: &[Vec<f64>]) -> Value {
    request("measurements", "FP32", &[rows.len(), 4], json!(rows))
}

/// A server with the hostile command, for which only the kinds that never end keep its time limit of 500 ms: what the
/// others come to must not depend on how busy the machine is.
fn hostile() -> Server {
    let server = Server::with(&["iris"]);
    let package = Archive::built("hostile-command");
    assert_eq!(server.upload("hostile-command", "1", &package.to_tar()).status, 201);
    let patient = package.version("2").manifest("500ms", "60s");
    assert_eq!(server.upload("hostile-command", "2", &patient.to_tar()).status, 201);
    server
}

fn ask(server: &Server, number: i32) -> vespid_tests::http::Answer {
    let version = if matches!(number, 6 | 7) { 1 } else { 2 };
    server.post(&format!("/v2/models/hostile-command/versions/{version}/infer"), &kind(number))
}

#[test]
fn a_command_predicts_what_the_graph_does() {
    let server = Server::with(&["iris-native", "iris-command"]);
    let flowers = flowers();
    let probabilities = |model: &str, rows: &[Vec<f64>]| {
        let answer = server.infer(model, &measurements(rows));
        let probabilities = output(&answer, "probabilities");
        assert_eq!(probabilities["shape"], json!([rows.len(), 3]), "{answer}");
        numbers(&probabilities["data"])
    };
    assert_eq!(probabilities("iris-command", &flowers), probabilities("iris-native", &flowers));
    for row in flowers.chunks(1) {
        assert_eq!(probabilities("iris-command", row), probabilities("iris-native", row));
    }
    let metadata = server.get("/v2/models/iris-command").json();
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 4]), "{metadata}");
    assert_eq!(metadata["outputs"][0]["name"], "probabilities", "{metadata}");
    assert_eq!(metadata["platform"], "vespid_plugin_embedded", "{metadata}");
    server
        .infer("iris-command", &request("measurements", "FP32", &[1, 3], json!([1, 2, 3])))
        .assert_error(400, "'measurements' has shape [1, 3]; the model expects [-1, 4]");
}

#[test]
fn commands_of_many_callers_share_the_runs_of_their_graph() {
    let server = Server::with(&["iris-native"]);
    // Rows that come while others are waited for run with them.
    let package = Archive::built("iris-command")
        .manifest("device = \"cpu\"", "device = \"cpu\"\nbatching = { max_rows = 8, max_delay = \"50ms\" }");
    let package = package.manifest("timeout = \"1s\"", "timeout = \"60s\"");
    assert_eq!(server.upload("iris-command", "1", &package.to_tar()).status, 201);
    let flowers = flowers();
    let expected: Vec<Vec<f64>> = flowers
        .chunks(1)
        .map(|row| {
            numbers(&output(&server.infer("iris-native", &measurements(row)), "probabilities")["data"])
        })
        .collect();
    thread::scope(|scope| {
        for client in 0..16 {
            let (server, flowers, expected) = (&server, &flowers, &expected);
            scope.spawn(move || {
                for asked in 0..10 {
                    let row = (client + asked) % flowers.len();
                    let answer = server.infer("iris-command", &measurements(&flowers[row..=row]));
                    assert_close(&numbers(&output(&answer, "probabilities")["data"]), &expected[row], 1e-5);
                }
            });
        }
    });
    let statistics = server.get("/v2/models/iris-command/versions/1/stats").json();
    let statistics = &statistics["model_stats"][0];
    assert_eq!(statistics["inference_count"], 160, "{statistics}");
    let runs = statistics["execution_count"].as_u64().unwrap();
    assert!((1..160).contains(&runs), "no calls ran together: {statistics}");
}

#[test]
fn a_hostile_command_costs_its_own_call_alone() {
    let server = hostile();
    for round in 0..2 {
        for (number, status, message) in CASES {
            println!("round {round}: {number}");
            ask(&server, number).assert_error(status, message);
            assert_setosa(&server.infer("iris", &flower()));
        }
        // It reads past the end of its input, and answers well.
        assert_eq!(output(&ask(&server, 0), "answer")["data"], json!([0]));
    }
    let log = server.log();
    assert!(log.contains("it is so,") && log.contains("as the caller asked"), "{log}");
    server.stop();
}

#[test]
fn a_flood_on_the_standard_error_is_held_back() {
    let server = hostile();
    assert_eq!(output(&ask(&server, 14), "answer")["data"], json!([14]));
    let log = server.log();
    assert!(log.contains("line 1 xx") && log.contains("further lines of this call are left out"), "{log}");
    assert!(log.lines().all(|line| line.len() < 5 << 10), "a line is longer than 5 KiB");
    assert!(log.len() < 600 << 10, "{} bytes of log", log.len());
}

#[test]
fn other_models_answer_while_commands_loop_and_sleep() {
    let server = hostile();
    let started = Instant::now();
    thread::scope(|scope| {
        // More of them than the server has threads.
        let server = &server;
        let calls: Vec<_> = (0..16).map(|call| scope.spawn(move || ask(server, 6 + call % 2))).collect();
        let mut answered = 0;
        while !calls.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_setosa(&server.infer("iris", &flower()));
            answered += 1;
        }
        assert!(answered > 0, "no other model was asked meanwhile");
        for call in calls {
            call.join().unwrap().assert_error(504, "the plugin did not answer before the deadline");
        }
    });
    assert!(started.elapsed() < wait::LIMIT, "they took {:?}", started.elapsed());
}

#[test]
fn callers_who_leave_take_their_commands_along() {
    // With two places, calls that went on without their callers would keep the next ones out.
    let server = Server::configured(&["--max-in-flight", "2", "--max-instances", "2"], &["iris"]);
    let package = Archive::built("hostile-command").manifest("500ms", "3600s");
    assert_eq!(server.upload("hostile-command", "1", &package.to_tar()).status, 201);
    for number in [6, 7, 6, 7] {
        let body = serde_json::to_vec(&kind(number)).unwrap();
        let mut connection = Raw::connect(server.address());
        connection.send(&head("POST", "/v2/models/hostile-command/infer", body.len()));
        connection.send(&body);
        drop(connection);
    }
    let answer = wait::until("there is room again", || {
        let answer = server.infer("iris", &flower());
        (answer.status != 503).then_some(answer)
    });
    assert_setosa(&answer);
    server.stop();
}

#[test]
fn a_command_that_cannot_be_served_is_refused() {
    let server = Server::with(&["iris"]);
    let command = || Archive::built("iris-command");
    let output = "[[output]]\nname = \"probabilities\"\ndatatype = \"FP32\"\nshape = [-1, 3]\n";
    let input = "[[input]]\nname = \"measurements\"\ndatatype = \"FP32\"\nshape = [-1, 4]\n";
    for (package, message) in [
        (
            command().manifest(output, "").manifest(input, ""),
            "model.plugin is a core module, and so a command: [[input]]: a command cannot describe itself",
        ),
        (command().manifest("[-1, 3]", "[-1, -1]"), "output.shape: one extent follows"),
        (command().manifest("[limits]", "[instances]\nwarm = 1\n[limits]"), "instances: "),
        (
            command().manifest("[limits]", "[grants]\nmodels = [\"iris\"]\n[limits]"),
            "grants: a command reaches nothing",
        ),
        (command().file("iris_command.wasm", b"\0asm\x01\0\0\0"), "it exports no function '_start'"),
        (command().file("iris_command.wasm", b"\0asm\x01\0\0\0\xff"), "not a valid WebAssembly module"),
    ] {
        server.upload("iris-command", "1", &package.to_tar()).assert_error(400, message);
    }
    assert_eq!(server.index(), ["iris 1 READY"]);
}
