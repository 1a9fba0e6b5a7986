//! Plugins that mean harm: each costs its own call alone.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use vespid_tests::archive::Archive;
use vespid_tests::oip::{assert_setosa, flower, kind, output};
use vespid_tests::server::Server;
use vespid_tests::wait;

/// The memory limit that the hostile packages have.
const MEMORY: &str = "memory limit of 16.0 MiB";

/// The plugin, what it is told, and the status and a part of the text that come of it.
const CASES: [(&str, i32, u16, &str); 21] = [
    ("trap", 0, 500, "the plugin trapped: it reached unreachable code"),
    ("trap", 1, 500, "the plugin trapped: it reached unreachable code"),
    ("recurse", 0, 500, "the plugin trapped: it recursed too deeply"),
    ("loop", 0, 504, "the plugin did not answer before the deadline"),
    ("allocate", 0, 500, MEMORY),
    ("hoard", 1 << 20, 500, MEMORY),
    ("hoard", 1 << 10, 500, MEMORY),
    ("hoard", i32::MAX, 500, MEMORY),
    ("hoard", -1, 500, "the plugin trapped"),
    ("hoard", -2, 500, MEMORY),
    ("wrong-output", 0, 500, "output 'answer' has shape [2, 2]; the model expects [-1]"),
    ("wrong-output", 1, 500, "output 'answer' has datatype FP32; the model expects INT32"),
    ("wrong-output", 2, 500, "output 'reply' is not in its signature"),
    ("wrong-output", 3, 500, "output 'answer' is missing"),
    ("wrong-output", 4, 500, "output 'answer' is given twice"),
    ("error", 0, 400, "InvalidArgument, as the caller asked"),
    ("error", 1, 404, "NotFound, as the caller asked"),
    ("error", 2, 501, "Unsupported, as the caller asked"),
    ("error", 3, 503, "Unavailable, as the caller asked"),
    ("error", 4, 504, "DeadlineExceeded, as the caller asked"),
    ("error", 5, 500, "Internal, as the caller asked"),
];

const MODELS: [&str; 7] = ["trap", "recurse", "loop", "allocate", "hoard", "wrong-output", "error"];

/// A server with these models, of which `loop` alone keeps its time limit of 500 ms: what the others come to must not
/// depend on how busy the machine is.
fn serving(models: &[&str]) -> Server {
    let server = Server::with(&["iris"]);
    for model in models {
        let package = Archive::built(model);
        let package = if *model == "loop" { package } else { package.manifest("500ms", "60s") };
        assert_eq!(server.upload(model, "1", &package.to_tar()).status, 201);
    }
    server
}

#[test]
fn a_hostile_plugin_costs_its_own_call_alone() {
    let server = serving(&MODELS);
    for round in 0..2 {
        for (model, number, status, message) in CASES {
            println!("round {round}: {model} {number}");
            let answer = server.infer(model, &kind(number));
            answer.assert_error(status, message);
            assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer}");
            // What the plugin says by itself it would say on any host.
            assert_eq!(answer.header("vespid-retry"), None, "{answer}");
            assert_setosa(&server.infer("iris", &flower()));
        }
    }
    server.stop();
}

#[test]
fn what_a_call_held_is_given_back() {
    let server = serving(&["allocate", "hoard"]);
    let ask = |calls: usize| {
        for _ in 0..calls {
            server.infer("allocate", &kind(0)).assert_error(500, MEMORY);
            server.infer("hoard", &kind(1 << 20)).assert_error(500, MEMORY);
        }
        server.resident()
    };
    // Each call holds 16 MiB: what is never given back would show.
    let before = ask(10);
    let after = ask(40);
    assert!(after < before + (64 << 20), "{before} bytes, and after more calls {after}");
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn other_models_answer_while_plugins_loop() {
    let server = serving(&["loop"]);
    let started = Instant::now();
    thread::scope(|scope| {
        // More of them than the server has threads.
        let loops: Vec<_> = (0..16).map(|_| scope.spawn(|| server.infer("loop", &kind(0)))).collect();
        let mut answered = 0;
        while !loops.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_setosa(&server.infer("iris", &flower()));
            answered += 1;
        }
        assert!(answered > 0, "no other model was asked meanwhile");
        for answer in loops {
            answer.join().unwrap().assert_error(504, "the plugin did not answer before the deadline");
        }
    });
    assert!(started.elapsed() < wait::LIMIT, "the loops took {:?}", started.elapsed());
}

#[test]
fn a_caller_may_wait_for_less_than_the_model_s_own_limit_and_not_for_more() {
    let server = serving(&["loop"]);
    let took = |micros: u64| {
        let mut request = kind(0);
        request["parameters"] = json!({"timeout": micros});
        let started = Instant::now();
        server.infer("loop", &request).assert_error(504, "deadline");
        started.elapsed()
    };
    assert!(took(100_000) >= Duration::from_millis(100));
    assert!(took(3_600_000_000) < wait::LIMIT, "the model's own limit is 500 ms");
}

#[test]
fn a_flood_of_log_lines_is_held_back() {
    let server = serving(&["log-flood"]);
    let answer = server.infer("log-flood", &kind(5000));
    assert_eq!(output(&answer, "answer")["data"], json!([5000]));
    let log = server.log();
    assert!(log.contains("line 1") && log.contains("further lines of this call are left out"), "{log}");
    assert!(log.len() < 100 << 10, "{} bytes of log", log.len());
    assert!(log.lines().all(|line| line.len() < 5 << 10), "a line is longer than 5 KiB");
}
