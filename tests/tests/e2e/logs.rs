//! The log: its fields, and what of it is written.

use serde_json::{Value, json};
use vespid_tests::oip::{assert_setosa, flower, kind};
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn start(arguments: &[&str], environment: &[(&str, &str)], models: &[&str]) -> (Home, Server) {
    let home = Home::default();
    let server = home.start_in(arguments, environment);
    models.iter().for_each(|model| server.push(model));
    (home, server)
}

fn lines(server: &Server) -> Vec<Value> {
    let log = server.log();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

/// The first line whose message holds a text, once it is there.
fn line(server: &Server, message: &str) -> Value {
    wait::until(message, || {
        lines(server)
            .into_iter()
            .find(|line| line["message"].as_str().is_some_and(|text| text.contains(message)))
    })
}

#[test]
fn lines_of_a_request_name_the_model_and_the_request() {
    let models = ["iris", "trap", "log-flood"];
    let (_home, server) = start(&["--log-format", "json"], &[("VESPID_LOG", "info,vespid=debug")], &models);
    let mut asked = flower();
    asked["id"] = json!("mine");
    assert_setosa(&server.infer("iris", &asked));
    let access = line(&server, "POST /v2/models/iris/infer");
    let told =
        ["level", "protocol", "status", "model", "version", "request_id"].map(|field| access[field].as_str());
    assert_eq!(told, ["DEBUG", "http", "200", "iris", "1", "mine"].map(Some), "{access}");
    assert!(access["duration_us"].is_u64(), "{access}");

    // Without an id of the caller's it is that of the caller's trace.
    let body = serde_json::to_vec(&kind(0)).unwrap();
    let answer = server.send("POST", "/v2/models/trap/infer", &[("traceparent", PARENT)], &body);
    assert_eq!(answer.status, 500);
    let failed = line(&server, "the plugin trapped");
    let told = ["level", "code", "model", "version", "request_id"].map(|field| failed[field].as_str());
    let trace = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(told, ["WARN", "PLUGIN_FAILED", "trap", "1", trace].map(Some), "{failed}");

    // Without either that of the answer's header, the same in all lines of the request.
    let answer = server.infer("log-flood", &kind(0));
    assert_eq!(answer.status, 200);
    let access = line(&server, "POST /v2/models/log-flood/infer");
    let guest = lines(&server).into_iter().find(|line| line["target"] == "plugin").expect("the plugin logs");
    let told = ["model", "version"].map(|field| guest[field].as_str());
    assert_eq!(told, ["log-flood", "1"].map(Some), "{guest}");
    assert_eq!(guest["request_id"], answer.headers["x-request-id"].to_str().unwrap(), "{guest}");
    assert_eq!(guest["request_id"], access["request_id"]);
    // What is no request to a model has that alone.
    assert_eq!(server.get("/v2/health/ready").status, 200);
    let probe = line(&server, "GET /v2/health/ready");
    assert!(probe["request_id"].is_string() && probe["model"].is_null(), "{probe}");
}

#[test]
fn settings_change_what_is_written() {
    let (_home, server) = start(&["--log-format", "json"], &[], &["iris"]);
    let start = server.get("/v2/logging").json();
    let expected = json!({
        "log_file": "", "log_info": true, "log_warning": true, "log_error": true, "log_verbose_level": 0,
        "log_format": "ISO8601",
    });
    assert_eq!(start, expected);
    let change = |settings| {
        let answer = server.post("/v2/logging", &settings);
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    };
    let seen = |path: &str| {
        lines(&server).iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains(path)))
    };
    assert_eq!(server.get("/v2/models/iris").status, 200);
    assert_eq!(change(json!({"log_verbose_level": 1}))["log_verbose_level"], 1);
    assert_eq!(server.get("/v2/models/iris/ready").status, 200);
    line(&server, "GET /v2/models/iris/ready");
    assert!(!seen("GET /v2/models/iris\""));
    change(json!({"log_verbose_level": null, "log_info": false}));
    assert_eq!(server.delete("iris", "1").status, 204);
    assert_eq!(change(json!({"log_info": true})), start);
    server.push("iris");
    line(&server, "ready");
    assert!(!seen("removed") && !seen("DELETE"), "{}", server.log());
    for (asked, message) in [
        (json!({"log_file": "/tmp/log"}), "log_file: the log goes to"),
        (json!({"log_format": "default"}), "use 'ISO8601'"),
    ] {
        server.post("/v2/logging", &asked).assert_error(501, message);
    }
    server
        .post("/v2/logging", &json!({"log_loud": true}))
        .assert_error(400, "'log_loud' is no setting of the log");
    server.send("POST", "/v2/logging", &[], b"").assert_error(400, "a JSON object of settings");
}
