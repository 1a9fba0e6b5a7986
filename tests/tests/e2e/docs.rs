//! The OpenAPI documents, and the page that shows them.

use serde_json::{Value, json};
use vespid_tests::oip::output;
use vespid_tests::server::Server;

#[test]
fn the_server_s_document_is_about_what_it_has() {
    let server = Server::with(&["iris"]);
    let document = server.get("/v2/docs/dataplane.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v2/models/{model}/infer"]["post"]["responses"]["503"].is_object());
    assert_eq!(document["paths"]["/v2/models/{model}"]["get"]["parameters"][0]["example"], "iris");
}

#[test]
fn a_model_s_document_has_examples_that_it_takes() {
    let server = Server::with(&["iris", "simple", "simple-string", "simple-identity", "embed"]);
    for model in ["iris", "simple", "simple_identity", "embed"] {
        for path in [format!("/v2/models/{model}"), format!("/v2/models/{model}/versions/1")] {
            let document = server.get(&format!("{path}/docs/dataplane.json")).json();
            assert_eq!(document["info"]["title"], model);
            let example = |schema: &str| document["components"]["schemas"][schema]["examples"][0].clone();
            let answer = server.post(&format!("{path}/infer"), &example("InferRequest"));
            assert_eq!(answer.status, 200, "{answer}");
            let answer = server.post(&format!("{path}/generate"), &example("GenerateRequest"));
            assert_eq!(answer.status, 200, "{answer}");
            let answer = server.post(&format!("/v1/models/{model}:predict"), &example("PredictRequest"));
            assert_eq!(answer.status, 200, "{answer}");
        }
    }
    let embeddings = server.get("/v2/models/embed/docs/dataplane.json").json();
    let request: Value = embeddings["components"]["schemas"]["EmbeddingsRequest"]["examples"][0].clone();
    assert_eq!(server.post("/v1/embeddings", &request).status, 200);
    // What it says that it takes is what its metadata says.
    let request = server.get("/v2/models/iris/docs/dataplane.json").json();
    let input = &request["components"]["schemas"]["InferInput"]["anyOf"][0]["properties"];
    assert_eq!(
        (&input["name"]["const"], &input["datatype"]["const"]),
        (&json!("measurements"), &json!("FP32"))
    );
    server.get("/v2/models/other/docs/dataplane.json").assert_error(404, "unknown model");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let server = Server::with(&["iris"]);
    for (page, assets) in [
        ("/v2/docs", "docs/"),
        ("/v2/models/iris/docs", "../../docs/"),
        ("/v2/models/iris/versions/1/docs", "../../../../docs/"),
    ] {
        let answer = server.get(page);
        let html = String::from_utf8(answer.body.clone()).unwrap();
        assert!(answer.header("content-type").unwrap().starts_with("text/html"), "{answer}");
        assert!(html.contains(&format!("href=\"{assets}swagger-ui.css\"")), "{html}");
        assert!(!html.contains("//"), "{html}");
    }
    for (asset, kind) in [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")] {
        let answer = server.get(&format!("/v2/docs/{asset}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
        assert!(answer.body.len() > 100_000);
    }
    server.get("/v2/docs/index.html").assert_error(404, "no such path");
    assert_eq!(
        output(&server.infer("iris", &vespid_tests::oip::flower()), "species")["data"],
        json!(["setosa"])
    );
}
