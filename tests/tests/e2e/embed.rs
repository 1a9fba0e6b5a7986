//! The sentence encoder, against what sentence-transformers gives.

use std::fs;

use serde::Deserialize;
use serde_json::json;
use vespid_tests::built::repository;
use vespid_tests::oip::{assert_close, numbers, output, request};
use vespid_tests::server::Server;

const TOLERANCE: f64 = 1e-4;
const DIMENSIONS: usize = 384;

/// A text of `plugins/embed/expected.json`, which `compare.py` writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    text: String,
    repeat: Option<usize>,
    embedding: Vec<f64>,
}

impl Expected {
    fn read() -> Vec<Self> {
        let text = fs::read(repository("plugins/embed/expected.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn text(&self) -> String {
        self.text.repeat(self.repeat.unwrap_or(1))
    }
}

fn check(server: &Server, cases: &[Expected]) {
    let texts: Vec<String> = cases.iter().map(Expected::text).collect();
    let answer = server.infer("embed", &request("text", "BYTES", &[texts.len()], json!(texts)));
    let embedding = output(&answer, "embedding");
    assert_eq!(embedding["shape"], json!([texts.len(), DIMENSIONS]), "{answer}");
    let expected: Vec<f64> = cases.iter().flat_map(|case| &case.embedding).copied().collect();
    assert_close(&numbers(&embedding["data"]), &expected, TOLERANCE);
}

#[test]
fn texts_alone_and_together_are_embedded_as_the_reference_does() {
    let server = Server::with(&["embed"]);
    let cases = Expected::read();
    assert!(cases.len() > 20, "there are texts of all kinds");
    check(&server, &cases);
    cases.chunks(1).for_each(|case| check(&server, case));
    check(&server, &[]);

    let raw = [("content-type", "application/octet-stream")];
    let path = "/v2/models/embed/infer";
    let answer = server.send("POST", path, &raw, cases[0].text().as_bytes());
    assert_close(&numbers(&output(&answer, "embedding")["data"]), &cases[0].embedding, TOLERANCE);
    server.send("POST", path, &raw, b"\xff").assert_error(400, "input 'text': element 0 is not UTF-8");
}
