//! OpenAI's API, against the sentence encoder.

use serde_json::{Value, json};
use vespid_tests::http::Answer;
use vespid_tests::oip::{assert_close, numbers, output, request};
use vespid_tests::server::Server;

const PATHS: [&str; 2] = ["/v1/embeddings", "/openai/v1/embeddings"];

#[test]
fn embeddings_are_those_that_the_model_gives() {
    let server = Server::with(&["embed"]);
    let texts = json!(["hello world", "", "something else"]);
    let answer = server.infer("embed", &request("text", "BYTES", &[3], texts.clone()));
    let expected = numbers(&output(&answer, "embedding")["data"]);
    for path in PATHS {
        let answer = server.post(path, &json!({"model": "embed", "input": texts, "user": "somebody"}));
        let json = answer.json();
        assert_eq!((&json["object"], &json["model"]), (&json!("list"), &json!("embed")), "{answer}");
        // Of "hello world" two, of "something else" two, and each with its beginning and end.
        assert_eq!(json["usage"], json!({"prompt_tokens": 10, "total_tokens": 10}));
        let data = json["data"].as_array().unwrap();
        assert_eq!(data.len(), 3);
        for (index, embedding) in data.iter().enumerate() {
            assert_eq!((&embedding["object"], &embedding["index"]), (&json!("embedding"), &json!(index)));
            let expected = &expected[index * 384..(index + 1) * 384];
            assert_close(&numbers(&embedding["embedding"]), expected, 1e-6);
        }
        let one =
            json!({"model": "embed", "input": "hello world", "dimensions": 384, "encoding_format": "float"});
        let one = server.post(path, &one).json();
        assert_close(&numbers(&one["data"][0]["embedding"]), &expected[..384], 1e-6);

        let base64 = json!({"model": "embed", "input": "hello world", "encoding_format": "base64"});
        let text = server.post(path, &base64).json()["data"][0]["embedding"].as_str().unwrap().to_owned();
        assert_eq!(text.len(), 384 * 4 / 3 * 4);
    }
}

/// Checks a refusal in OpenAI's shape.
fn assert_refused(answer: &Answer, status: u16, code: &str, param: &Value, message: &str) {
    let json = answer.json();
    let error = &json["error"];
    assert_eq!((answer.status, &error["code"], &error["param"]), (status, &json!(code), param), "{answer}");
    assert!(error["message"].as_str().unwrap().contains(message), "{answer}");
    assert!(error["type"].is_string(), "{answer}");
    assert!(answer.header("x-request-id").is_some());
}

#[test]
fn refusals_have_openai_s_shape_whatever_was_wrong() {
    let server = Server::configured(&["--max-body", "64KiB"], &["embed", "iris"]);
    let invalid = "invalid_argument";
    for path in PATHS {
        let ask = |body: Value| server.post(path, &body);
        let refused = ask(json!({"model": "other", "input": "a"}));
        assert_refused(&refused, 404, "model_not_found", &json!("model"), "Request for unknown model");
        let refused = ask(json!({"model": "iris", "input": "a"}));
        assert_refused(&refused, 400, invalid, &json!("model"), "does not answer embeddings");
        let refused = ask(json!({"model": "embed", "input": [[1, 2]]}));
        assert_refused(&refused, 400, invalid, &json!("input"), "tokens are not supported");
        let refused = ask(json!({"model": "embed", "input": "a", "dimensions": 8}));
        assert_refused(&refused, 400, invalid, &json!("dimensions"), "the model's are 384");
        let refused = ask(json!([]));
        assert_refused(&refused, 400, invalid, &Value::Null, "not a request for embeddings");
        let refused = ask(json!({"model": "embed", "input": "a".repeat(1 << 17)}));
        assert_refused(&refused, 413, "too_large", &Value::Null, "larger than the limit");
        let refused = server.send("POST", path, &[("content-encoding", "br")], b"{}");
        assert_refused(&refused, 415, invalid, &Value::Null, "header Content-Encoding: br");
        assert_refused(&server.get(path), 405, invalid, &Value::Null, "does not take that method");
    }
    let refused = server.get("/openai/v1/models/other");
    assert_refused(&refused, 404, "model_not_found", &Value::Null, "Request for unknown model");
    assert_refused(&server.get("/openai/v1/files"), 404, "model_not_found", &Value::Null, "no such path");
}
