//! `vespid bench`: what it counts is what was sent.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use vespid_tests::cli::{self, Outcome};
use vespid_tests::oip::{flower, kind};
use vespid_tests::server::Server;
use vespid_tests::{built, wait};

/// Runs a bench with a warm-up that is none of what it counts.
fn bench(server: &Server, folder: &Path, arguments: &[&str]) -> Outcome {
    let url = server.url();
    let line = [&["bench"], arguments, &["--warmup", "20ms", "--server", &url]].concat();
    cli::vespid(folder, &[], &line)
}

/// The report, which is the whole of standard output.
fn report(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}{}", outcome.stdout, outcome.stderr))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no count"))
}

/// Checks that a run's figures agree with each other.
fn check(run: &Value) {
    let of = |key: &str| number(&run[key]);
    let errors: u64 = run["errors"].as_array().unwrap().iter().map(|error| number(&error["count"])).sum();
    assert_eq!(of("requests"), of("succeeded") + of("refused") + of("failed"), "{run:#}");
    assert_eq!(errors, of("refused") + of("failed"), "{run:#}");
    let latency = &run["latency_us"];
    assert_eq!(latency.is_null(), of("succeeded") == 0, "{run:#}");
    if !latency.is_null() {
        let steps =
            ["min", "p50", "p90", "p95", "p99", "p99_9", "max"].map(|key| latency[key].as_f64().unwrap());
        assert!(steps.is_sorted() && steps[0] > 0.0, "{run:#}");
        assert!(run["requests_per_s"].as_f64().unwrap() > 0.0 && of("bytes_received") > 0, "{run:#}");
    }
    if let Some(schedule) = run["schedule"].as_object() {
        assert_eq!(number(&schedule["due"]), of("requests") + number(&schedule["unsent"]), "{run:#}");
    }
    let told = run["breakdown"].is_object();
    if told {
        // The warm-up is none of it.
        assert_eq!(run["breakdown"]["requests"], run["succeeded"], "{run:#}");
    }
    assert_ne!(told, run["breakdown_missing"].is_string(), "one or the other: {run:#}");
}

#[test]
fn a_closed_loop_sends_what_it_is_told() {
    let server = Server::with(&["iris"]);
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["iris", "--concurrency", "1,3", "--requests", "40", "--shape", "measurements=8,4"];
    let outcome = bench(&server, folder.path(), &[&arguments[..], &["--output", "json"]].concat());
    outcome.expect(0);
    assert!(outcome.stderr.contains("made 'measurements' FP32 [8, 4]"), "{}", outcome.stderr);
    let report = report(&outcome);
    assert_eq!(report["model"], "iris");
    let request = &report["request"];
    assert_eq!(
        (&request["encoding"], &request["rows"], &request["made"]),
        (&json!("binary"), &json!(8), &json!(true))
    );
    assert_eq!(request["inputs"][0], json!({"name": "measurements", "datatype": "FP32", "shape": [8, 4]}));
    let runs = report["runs"].as_array().unwrap();
    for (run, concurrency) in runs.iter().zip([1, 3]) {
        check(run);
        assert_eq!(run["load"], json!({"mode": "closed", "concurrency": concurrency}));
        assert_eq!((number(&run["requests"]), number(&run["succeeded"])), (40, 40));
        let (requests, rows) = (run["requests_per_s"].as_f64(), run["rows_per_s"].as_f64());
        assert!((requests.unwrap() * 8.0 - rows.unwrap()).abs() < 1e-6 * rows.unwrap(), "{run:#}");
    }
    assert_eq!(runs.len(), 2);
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let server = Server::with(&["iris"]);
    let folder = tempfile::tempdir().unwrap();
    for (arrivals, limit, requests) in
        [("constant", ["--duration", "1s"], 50), ("poisson", ["--requests", "60"], 60)]
    {
        let load = ["iris", "measurements=5.1,3.5,1.4,0.2", "--rate", "50", "--arrivals", arrivals];
        let outcome = bench(&server, folder.path(), &[&load[..], &limit, &["--output", "json"]].concat());
        outcome.expect(0);
        let report = report(&outcome);
        assert_eq!((&report["request"]["made"], &report["request"]["rows"]), (&json!(false), &json!(1)));
        let run = &report["runs"][0];
        check(run);
        let load = json!({"mode": "open", "rate": 50.0, "arrivals": arrivals, "max_outstanding": 256});
        assert_eq!(run["load"], load);
        // On a machine that is busy with other things some of them may come to late.
        assert_eq!(number(&run["schedule"]["due"]), requests, "{run:#}");
        assert_eq!(number(&run["refused"]) + number(&run["failed"]), 0, "{run:#}");
    }
}

#[test]
fn the_table_and_the_json_request_work_with_every_way_to_give_inputs() {
    let server = Server::with(&["iris", "file-type", "simple-string"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("request.json"), flower().to_string()).unwrap();
    let limit = ["--requests", "3"];
    for arguments in [
        &["iris", "--json", "request.json"][..],
        &["iris", "--json-request"],
        &["iris", "--data", "zeros", "--version", "1"],
        &["file-type", "--file", "request.json", "--json-request"],
        &["file-type"],
        &[
            "simple_string",
            "INPUT0[1,16]=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
            "INPUT1[1,16]=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
        ],
    ] {
        let outcome = bench(&server, folder.path(), &[arguments, &limit].concat());
        outcome.expect(0);
        for row in ["requests", "succeeded"] {
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert!(outcome.stdout.lines().any(|line| words(line) == [row, "3"]), "{}", outcome.stdout);
        }
        assert!(outcome.stdout.contains("latency p99.9"), "{}", outcome.stdout);
    }
}

#[test]
fn what_cannot_be_measured_is_told_at_once() {
    let server = Server::with(&["iris"]);
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, message) in [
        (&["iriss"][..], 1, "Request for unknown model"),
        (&["iris", "--version", "7"], 1, "iris"),
        (&["iris", "measurements=1,2,3"], 2, "measurements"),
        (&["iris", "--shape", "flower=1,4"], 2, "no input 'flower'"),
        (&["iris", "--shape", "measurements=1,5"], 2, "[1, 5]"),
        (&["iris", "--json", "nothing.json"], 1, "nothing.json"),
        (&["iris", "--rate", "0"], 2, "--rate"),
        (&["iris", "--server", "http://127.0.0.1:9"], 1, "no server answers at"),
    ] {
        let line = [&["bench"], arguments].concat();
        let outcome = cli::vespid(folder.path(), &[("VESPID_SERVER", &server.url())], &line);
        outcome.expect(code);
        assert!(outcome.stderr.contains(message), "'{message}' is not in\n{}", outcome.stderr);
        assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    }
    std::fs::write(folder.path().join("wrong.json"), r#"{"inputs":[]}"#).unwrap();
    let outcome = bench(&server, folder.path(), &["iris", "--json", "wrong.json"]);
    outcome.expect(1);
    assert!(outcome.stderr.contains("input 'measurements' is missing"), "{}", outcome.stderr);
}

#[test]
fn refused_calls_are_counted_as_refused() {
    let server = Server::configured(&["--max-in-flight", "1"], &["loop"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("request.json"), kind(0).to_string()).unwrap();
    let load = ["loop", "--json", "request.json", "--concurrency", "4", "--requests", "20"];
    let outcome = bench(&server, folder.path(), &[&load[..], &["--output", "json"]].concat());
    // The plugin never answers: the calls that are taken end at its time limit.
    outcome.expect(1);
    assert!(outcome.stderr.contains("no request succeeded"), "{}", outcome.stderr);
    let report = report(&outcome);
    let run = &report["runs"][0];
    check(run);
    assert_eq!((number(&run["requests"]), number(&run["succeeded"])), (20, 0), "{run:#}");
    let error = |cause: &str| {
        let errors = run["errors"].as_array().unwrap();
        errors.iter().find(|error| error["cause"] == cause).unwrap_or_else(|| panic!("no '{cause}': {run:#}"))
    };
    let refused = error("refused");
    assert_eq!((&refused["status"], &refused["count"]), (&json!(503), &run["refused"]));
    assert!(refused["message"].as_str().unwrap().contains("1 requests are in flight"), "{refused}");
    let late = error("status");
    assert_eq!((&late["status"], &late["count"]), (&json!(504), &run["failed"]));
}

#[test]
fn an_interrupt_ends_early_and_reports() {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris", "loop"]);
    let mut command = Command::new(built::vespid());
    let load = ["--concurrency", "2", "--warmup", "0s", "--duration", "1h", "--output", "json"];
    command.args(["bench", "loop", "--server", &server.url()]).args(load);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| line.starts_with("measuring:")).expect("it says that it measures");
    // With one of the measured calls.
    server.wait_until_busy();
    let process = child.id().to_string();
    assert!(
        Command::new("sh").args(["-c", "kill -s INT \"$1\"", "sh", &process]).status().unwrap().success()
    );
    wait::until("the bench ends", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &report["runs"][0];
    check(run);
    assert_eq!(run["interrupted"], true, "{run:#}");
    assert!(number(&run["requests"]) > 0, "{run:#}");
    assert_eq!(output.status.code(), Some(1), "nothing succeeded");
}
