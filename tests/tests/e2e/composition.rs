//! Models that call other models: in a chain, and not in a circle.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vespid_tests::archive::Archive;
use vespid_tests::built::repository;
use vespid_tests::http::Answer;
use vespid_tests::oip::{output, request};
use vespid_tests::server::Server;

/// A model that hands on to another one, under a name of its own.
fn relay(name: &str, target: &str) -> Vec<u8> {
    Archive::built("relay")
        .manifest("name = \"relay\"", &format!("name = \"{name}\""))
        .manifest("models = [\"empty\"]", &format!("models = [\"{target}\"]"))
        .manifest("target = \"empty\"", &format!("target = \"{target}\""))
        .to_tar()
}

fn numbers() -> Value {
    request("input", "FP32", &[2], vec![1.0, 2.0])
}

#[test]
fn models_call_each_other_in_a_chain_and_not_in_a_circle() {
    let server = Server::with(&["empty"]);
    for (name, target) in
        [("first", "second"), ("second", "empty"), ("round", "about"), ("about", "round"), ("self", "self")]
    {
        let answer = server.upload(name, "1", &relay(name, target));
        assert_eq!(answer.status, 201, "{answer}");
    }
    assert_eq!(output(&server.infer("first", &numbers()), "output")["data"], json!([1.0, 2.0]));
    let answer = server.infer("round", &numbers());
    answer.assert_error(500, "in a circle: round version 1 -> about version 1 -> round version 1");
    server.infer("self", &numbers()).assert_error(500, "in a circle: self version 1 -> self version 1");

    // Another version is another model; and a chain has an end.
    let depth = 9;
    for place in 0..depth {
        let (name, target) = (format!("deep-{place}"), format!("deep-{}", place + 1));
        let target = if place + 1 == depth { "empty" } else { &target };
        assert_eq!(server.upload(&name, "1", &relay(&name, target)).status, 201);
    }
    server.infer("deep-0", &numbers()).assert_error(500, "more than 8 deep");
    assert_eq!(server.infer("deep-1", &numbers()).status, 200);
}

#[test]
fn a_model_s_deadline_is_that_of_the_models_that_it_calls() {
    let server = Server::with(&[]);
    let slow = Archive::built("relay")
        .manifest("target = \"empty\"", "sleep = 60000")
        .manifest("\"relay\"", "\"slow\"");
    assert_eq!(server.upload("slow", "1", &slow.to_tar()).status, 201);
    let hasty = relay("hasty", "slow");
    assert_eq!(server.upload("hasty", "1", &hasty).status, 201);
    let mut asked = numbers();
    asked["parameters"] = json!({"timeout": 300_000});
    let started = Instant::now();
    server.infer("hasty", &asked).assert_error(504, "deadline");
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
}

/// Asks about files, in Triton's binary layout.
fn ask(server: &Server, model: &str, input: &str, files: &[Vec<u8>]) -> Answer {
    let element =
        |file: &Vec<u8>| [&u32::try_from(file.len()).unwrap().to_le_bytes(), file.as_slice()].concat();
    let data: Vec<u8> = files.iter().flat_map(element).collect();
    let size = json!({"binary_data_size": data.len()});
    let input = json!({"name": input, "datatype": "BYTES", "shape": [files.len()], "parameters": size});
    let head = serde_json::to_vec(&json!({"inputs": [input]})).unwrap();
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", length.as_str())];
    server.send("POST", &format!("/v2/models/{model}/infer"), &headers, &[head, data].concat())
}

#[test]
fn a_pipeline_answers_what_the_models_that_it_calls_say() {
    let server = Server::with(&["file-type", "image-classify", "file-describe"]);
    let read = |path: &str| fs::read(repository(path)).unwrap();
    let (text, code) = (read("tests/cases/files/prose.txt"), read("tests/cases/files/sieve.py"));
    let pictures =
        ["rgb.png", "baseline-420.jpg"].map(|name| read(&format!("plugins/image-classify/cases/{name}")));
    let answer = ask(&server, "image-classify", "image", &pictures);
    let seen: Vec<Value> =
        output(&answer, "label")["data"].as_array().unwrap().iter().step_by(5).cloned().collect();
    assert_eq!(seen.len(), 2, "{answer}");

    let [png, jpeg] = pictures;
    let answer = ask(&server, "file-describe", "file", &[text, png.clone(), code.clone(), jpeg.clone()]);
    assert_eq!(output(&answer, "type")["data"], json!(["txt", "png", "python", "jpeg"]));
    assert_eq!(output(&answer, "content")["data"], json!(["", seen[0], "", seen[1]]));
    // Pictures alone.
    let answer = ask(&server, "file-describe", "file", &[png.clone(), jpeg]);
    assert_eq!(output(&answer, "content")["data"], json!(seen));

    // A model that it needs is gone.
    assert_eq!(server.delete("image-classify", "1").status, 204);
    let answer = ask(&server, "file-describe", "file", std::slice::from_ref(&png));
    answer.assert_error(404, "model 'image-classify'");
    let answer = ask(&server, "file-describe", "file", &[code]);
    assert_eq!(output(&answer, "content")["data"], json!([""]));
}
