//! The version that a gateway chooses for a request that names none: a header says it.

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::http::Answer;
use vespid_tests::oip::flower;
use vespid_tests::server::Server;

const HEADER: &str = "vespid-model-version";

/// A server with two versions of each of these.
fn server(models: &[&str]) -> Server {
    let server = Server::with(models);
    for model in models {
        let name = model.replace('-', "_");
        let answer = server.upload(&name, "2", &Archive::built(model).version("2").to_tar());
        assert_eq!(answer.status, 201, "{answer}");
    }
    server
}

fn ask(server: &Server, path: &str, version: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), (HEADER, version)];
    server.send("POST", path, &headers, body.to_string().as_bytes())
}

#[test]
fn a_header_names_the_version_where_neither_path_nor_body_does() {
    let server = server(&["iris"]);
    let answered = |path: &str, version: &str| {
        let answer = ask(&server, path, version, &flower());
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()["model_version"].clone()
    };
    assert_eq!(server.infer("iris", &flower()).json()["model_version"], "2");
    for version in ["1", "2"] {
        assert_eq!(answered("/v2/models/iris/infer", version), *version);
    }
    assert_eq!(answered("/v2/models/iris/versions/2/infer", "1"), "2");
    let of_1 = |path: &str| server.send("GET", path, &[(HEADER, "1")], &[]);
    let of_9 = |path: &str| server.send("GET", path, &[(HEADER, "9")], &[]);
    for path in ["/v2/models/iris", "/v2/models/iris/ready", "/v2/models/iris/config"] {
        assert_eq!(of_1(path).status, 200, "{path}");
        of_9(path).assert_error(404, "version 9 is not found");
    }
    let rows = json!({"instances": [[5.1, 3.5, 1.4, 0.2]]});
    assert_eq!(ask(&server, "/v1/models/iris:predict", "1", &rows).status, 200);
    // Nobody answers in the place of a version that is not there.
    for (path, body) in [("/v2/models/iris/infer", flower()), ("/v1/models/iris:predict", rows)] {
        ask(&server, path, "9", &body).assert_error(404, "version 9 is not found");
        ask(&server, path, "first", &body).assert_error(400, "header vespid-model-version: 'first'");
    }
    let text = json!({"text_input": "x"});
    for path in ["/v2/models/iris/generate", "/v2/models/iris/generate_stream"] {
        ask(&server, path, "9", &text).assert_error(404, "version 9 is not found");
    }
    let counted = server.get("/v2/models/iris/stats").json();
    let counts = counted["model_stats"].as_array().unwrap().iter();
    let counts: Vec<_> = counts.map(|stats| stats["inference_count"].as_u64().unwrap()).collect();
    assert_eq!(counts, [2, 3]);
}

#[test]
fn embeddings_come_from_the_version_that_the_header_names() {
    let server = server(&["embed"]);
    let body = json!({"model": "embed", "input": "a text"});
    for path in ["/v1/embeddings", "/openai/v1/embeddings"] {
        assert_eq!(ask(&server, path, "1", &body).status, 200);
        for (version, status) in [("9", 404), ("-1", 400)] {
            let answer = ask(&server, path, version, &body);
            assert_eq!(answer.status, status, "{answer}");
        }
    }
    let counted = server.get("/v2/models/embed/versions/1/stats").json();
    assert_eq!(counted["model_stats"][0]["inference_count"], 2);
}

#[test]
fn a_sequence_stays_with_the_version_that_keeps_it() {
    let server = server(&["simple-sequence"]);
    let next = |version: &str, start: bool, value: i32| {
        let body = json!({
            "parameters": {"sequence_id": 7, "sequence_start": start},
            "inputs": [{"name": "INPUT", "shape": [1, 1], "datatype": "INT32", "data": [value]}],
        });
        let answer = ask(&server, "/v2/models/simple_sequence/infer", version, &body);
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()["model_version"].clone()
    };
    assert_eq!(next("1", true, 1), "1");
    assert_eq!(next("2", false, 2), "1");
}
