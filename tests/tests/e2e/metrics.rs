//! Metrics: what the server says, what the page says of it, and that both are true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::thread;

use serde_json::json;
use vespid_tests::archive::Archive;
use vespid_tests::built::repository;
use vespid_tests::http::{self, Raw, head};
use vespid_tests::oip::{assert_setosa, flower, kind, request};
use vespid_tests::server::Server;
use vespid_tests::wait;

fn scrape(server: &Server) -> String {
    let answer = http::send("GET", &(server.admin_url() + "/metrics"), &[], &[]);
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    String::from_utf8(answer.body).unwrap()
}

/// The value of a sample, by its name and labels.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in:\n{text}")).parse().unwrap()
}

fn of(text: &str, model: &str, name: &str) -> f64 {
    value(text, &format!("{name}{{model=\"{model}\",version=\"1\"}}"))
}

fn failures(text: &str, model: &str) -> [f64; 4] {
    ["REJECTED", "CANCELED", "BACKEND", "OTHER"].map(|reason| {
        let labels = format!("{{model=\"{model}\",version=\"1\",reason=\"{reason}\"}}");
        value(text, &format!("nv_inference_request_failure{labels}"))
    })
}

#[test]
fn the_page_lists_what_the_server_exposes() {
    // What is there only where it is asked for is asked for.
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name).display().to_string();
    fs::write(path("all.cedar"), "permit (principal, action, resource);").unwrap();
    fs::write(path("access.yaml"), "anonymous: true\npolicies: all.cedar\n").unwrap();
    fs::write(path("limits.yaml"), "models: [{ match: iris, concurrent: 100 }]").unwrap();
    let (root, access, limits) = (path(""), path("access.yaml"), path("limits.yaml"));
    let arguments = [
        &["--memory-budget", "1GiB", "--batch-root", &root][..],
        &["--access", &access, "--limits", &limits],
    ]
    .concat();
    let server = Server::configured(&arguments, &["iris"]);
    let second = Archive::built("iris").version("2").to_tar();
    assert_eq!(server.upload("iris", "2", &second).status, 201);
    let traffic = br#"{"weights": {"1": 1}, "shadow": {"version": 2}}"#;
    let led = server.send("PUT", "/v2/repository/models/iris/traffic", &[], traffic);
    assert_eq!(led.status, 200, "{led}");
    assert_setosa(&server.infer("iris", &flower()));
    // A job that is not done so soon.
    fs::write(path("in.jsonl"), "{\"measurements\": [1, 2, 3, 4]}\n".repeat(100_000)).unwrap();
    let job = json!({
        "model": "iris",
        "input": {"url": path("in.jsonl")},
        "output": {"url": path("out")},
        "rows_per_call": 1,
    });
    assert_eq!(server.post("/v2/batches", &job).status, 202);
    let running = || Some(scrape(&server)).filter(|text| text.contains("vespid_batch_parts_done"));
    let text = wait::until("the job runs", running);
    let types: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let page = fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let listed: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        })
        .collect();
    assert_eq!(types, listed);
    // Each with its labels, too.
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let (name, labels) = (cells[0].trim_matches('`'), cells[2]);
        let expected: BTreeSet<&str> = labels.split(", ").filter(|label| !label.is_empty()).collect();
        let sample = text.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let found: BTreeSet<&str> = sample
            .and_then(|sample| Some(sample.split_once('{')?.1.split_once('}')?.0))
            .into_iter()
            .flat_map(|labels| labels.split(','))
            .filter_map(|label| Some(label.split_once('=')?.0))
            .collect();
        // A histogram's samples have another name, and one more label.
        assert!(found == expected || cells[1] == "histogram", "{name}: {found:?}");
    }
}

#[test]
fn requests_are_counted_once_and_their_parts_are_no_more_than_the_whole() {
    let server = Server::with(&["iris", "iris-native", "empty"]);
    for model in ["iris", "iris-native"] {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..8).for_each(|_| assert_eq!(server.infer(model, &flower()).status, 200)));
            }
        });
        let text = scrape(&server);
        let count = |name: &str| of(&text, model, name);
        assert_eq!(count("nv_inference_request_success"), 64.0);
        assert_eq!(count("nv_inference_count"), 64.0);
        assert!((1.0..=64.0).contains(&count("nv_inference_exec_count")), "{text}");
        assert_eq!(count("nv_inference_pending_request_count"), 0.0);
        assert_eq!(failures(&text, model), [0.0; 4]);
        let part = |name: &str| count(&format!("nv_inference_{name}_duration_us"));
        let parts = ["queue", "compute_input", "compute_infer", "compute_output"].map(part);
        assert!(parts.iter().sum::<f64>() <= part("request"), "{text}");
        assert!(
            parts[1..].iter().all(|part| *part > 0.0),
            "decoding, running and encoding take time: {text}"
        );
        assert_eq!(count("vespid_request_duration_seconds_count"), 64.0);
        // The counters of the statistics are the same.
        let stats = server.get(&format!("/v2/models/{model}/stats")).json();
        let spans = &stats["model_stats"][0]["inference_stats"];
        for name in ["success", "queue", "compute_input", "compute_infer", "compute_output"] {
            assert_eq!(spans[name]["count"], 64, "{name}: {stats}");
        }
        assert_eq!(spans["success"]["ns"].as_f64().unwrap() as u64 / 1000, part("request") as u64);
    }
    let text = scrape(&server);
    let plugin = |kind| {
        value(&text, &format!("vespid_plugin_instances{{model=\"iris\",version=\"1\",kind=\"{kind}\"}}"))
    };
    assert_eq!([plugin("fresh"), plugin("warm")], [64.0, 0.0]);
    assert!(of(&text, "iris", "vespid_plugin_cpu_seconds") > 0.0);
    assert!(value(&text, "vespid_requests{code=\"200\",protocol=\"http\"}") >= 128.0, "{text}");
}

#[test]
fn failures_are_counted_by_their_reason() {
    let server = Server::configured(&["--max-in-flight", "1"], &["iris", "loop", "trap", "error"]);
    assert_eq!(server.infer("trap", &kind(0)).status, 500);
    // The plugin says so itself: a request that is wrong, and no room.
    assert_eq!(server.infer("error", &kind(0)).status, 400);
    assert_eq!(server.infer("error", &kind(3)).status, 503);
    // Not a request at all, and one with the wrong input.
    assert_eq!(server.send("POST", "/v2/models/iris/infer", &[], b"{").status, 400);
    assert_eq!(server.infer("iris", &request("other", "FP32", &[1], vec![1.0])).status, 400);
    // One whose time is up, and while it runs one that is refused at the door.
    thread::scope(|scope| {
        let looping = scope.spawn(|| server.looping());
        server.wait_until_busy();
        assert_eq!(looping.join().unwrap().status, 504);
    });
    assert_eq!(server.infer("missing", &flower()).status, 404);
    let text = scrape(&server);
    assert_eq!(failures(&text, "trap"), [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(failures(&text, "error"), [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(failures(&text, "loop")[1], 1.0, "{text}");
    let [rejected, canceled, backend, other] = failures(&text, "iris");
    assert!(rejected >= 1.0, "{text}");
    assert_eq!([canceled, backend, other], [0.0, 0.0, 2.0], "{text}");
    let stats = server.get("/v2/models/loop/stats").json();
    let failed = &stats["model_stats"][0]["vespid"]["failed"];
    let ns = |part: &str| failed[part]["ns"].as_u64().unwrap();
    assert!(ns("compute_infer") > 400_000_000, "the plugin ran until its time was up: {stats}");
    assert_eq!(failed["reasons"]["CANCELED"], 1, "{stats}");
}

#[test]
fn a_caller_who_leaves_is_a_canceled_request() {
    let server = Server::with(&["iris"]);
    let package = Archive::built("loop").manifest("500ms", "60s").to_tar();
    assert_eq!(server.upload("loop", "1", &package).status, 201);
    let body = serde_json::to_vec(&kind(0)).unwrap();
    let mut connection = Raw::connect(server.address());
    connection.send(&head("POST", "/v2/models/loop/infer", body.len()));
    connection.send(&body);
    // It has begun: the plugin has an instance.
    let fresh = "vespid_plugin_instances{model=\"loop\",version=\"1\",kind=\"fresh\"}";
    wait::until("the plugin runs", || (value(&scrape(&server), fresh) >= 1.0).then_some(()));
    drop(connection);
    wait::until("it is counted", || {
        (failures(&scrape(&server), "loop") == [0.0, 1.0, 0.0, 0.0]).then_some(())
    });
}
