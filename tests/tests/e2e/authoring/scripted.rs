//! What the SDKs for Python and JavaScript can do: `tests/scripted`.

use std::ffi::OsStr;
use std::thread;

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::built::package;
use vespid_tests::cli;
use vespid_tests::oip::{output, request};
use vespid_tests::server::Server;

const MODELS: [&str; 2] = ["kinds-python", "kinds-js"];

/// A request that has the plugin do something other than copy.
fn does(what: &str) -> Value {
    json!({"inputs": [], "parameters": {"do": what}, "outputs": [{"name": "said"}]})
}

#[test]
fn all_datatypes_errors_and_calls_of_the_host_work() {
    let folder = tempfile::tempdir().unwrap();
    for model in MODELS {
        let package = package(model);
        let tested = cli::vespid(folder.path(), &[], &[OsStr::new("test"), package.as_os_str()]);
        assert!(tested.expect(0).stdout.ends_with("15 cases: 15 passed, 0 failed\n"), "{}", tested.stdout);
        // A mistake of the plugin's goes to the log with the place where it is.
        let place = if model == "kinds-python" { "plugin.py\", line" } else { "plugin.js:" };
        assert!(tested.stderr.contains(place), "{}", tested.stderr);
    }
}

#[test]
fn other_models_the_log_kept_instances_and_pieces() {
    let mut arguments = MODELS.to_vec();
    arguments.push("simple-string");
    let server = Server::with(&arguments);
    for model in MODELS {
        let sums: Vec<String> = (1..=16).map(|sum| sum.to_string()).collect();
        assert_eq!(output(&server.infer(model, &does("infer")), "said")["data"], json!(sums));

        assert_eq!(output(&server.infer(model, &does("log")), "said")["shape"], json!([0]));
        let log = server.log();
        for line in [
            "INFO plugin: a line of info",
            "WARN plugin: a line of warn",
            "INFO plugin: a line that was printed",
        ] {
            assert!(log.lines().any(|logged| logged.contains(line) && logged.contains(model)), "{log}");
        }

        let copy = request("fp32", "FP32", &[2], vec![1.5, 2.5]);
        let copy = json!({"inputs": copy["inputs"], "outputs": [{"name": "fp32"}]});
        for _ in 0..5 {
            assert_eq!(output(&server.infer(model, &copy), "fp32")["data"], json!([1.5, 2.5]));
        }
        // An instance that still holds a tensor is not kept.
        let statistics = server.get(&format!("/v2/models/{model}/stats")).json();
        let instances = &statistics["model_stats"][0]["vespid"]["instances"];
        assert!(instances["warm"].as_u64().unwrap() >= 5, "{instances}");

        let path = format!("/v2/models/{model}/generate_stream");
        let streamed = server.post(&path, &json!({"pieces": 3}));
        let text = String::from_utf8(streamed.body.clone()).unwrap();
        let pieces: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(pieces.len(), 3, "{text}");
        assert!(pieces[2].contains("\"said\":\"2\""), "{text}");
        let failed = String::from_utf8(server.post(&path, &json!({"pieces": 9})).body).unwrap();
        let pieces: Vec<&str> = failed.split_terminator("\n\n").collect();
        assert!(pieces.len() == 6 && pieces[5].contains("five pieces are enough"), "{failed}");

        // Each instance begins with the memory of the build, and yet not with its random numbers.
        let fresh = Archive::built(model).version("2").manifest("warm = 2", "warm = 0");
        assert_eq!(server.upload(model, "2", &fresh.to_tar()).status, 201);
        let [one, two] =
            [(); 2].map(|()| output(&server.infer(model, &does("random")), "said")["data"].clone());
        assert_ne!(one, two);
    }
}

#[test]
fn as_many_instances_of_many_modules_as_there_is_room_for() {
    let server = Server::configured(&["--max-instances", "12"], &["kinds-python"]);
    let url = server.url() + "/v2/models/kinds-python/infer";
    let body = serde_json::to_vec(&does("wait")).unwrap();
    let ask = || vespid_tests::http::send("POST", &url, &[], &body);
    let answers: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    for answer in answers {
        assert_eq!(output(&answer, "said")["data"], json!(["True", "True"]));
    }
}
