//! Who asks, and what they may: over HTTP and over gRPC, on their way to pods.

use std::fs;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::any;
use bytes::Bytes;
use prost::Message as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_auth::{Access, AccessConfig, ApiKey};
use vespid_resources::names;

use crate::grpc::message::tests::request;
use crate::testing::{Front, Server, json_of, options};

const POLICIES: &str = r#"
@id("own models")
permit (principal, action in [Vespid::Action::"Predict", Vespid::Action::"ReadMetadata"], resource is Vespid::Model)
when { principal has tenant && resource has tenant && principal.tenant == resource.tenant };
"#;

/// A gateway to `iris`, which is the tenant `acme`'s, and two keys.
struct Setting {
    front: Front,
    acme: String,
    other: String,
    folder: TempDir,
    _pod: Server,
}

impl Setting {
    async fn start() -> Self {
        // It answers with the headers that it was sent.
        let mirror = async |request: Request| {
            let name = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
                (name.to_string(), Value::from(value.to_str().unwrap()))
            };
            axum::Json(json!(request.headers().iter().map(name).collect::<serde_json::Map<_, _>>()))
        };
        let pod = Server::start(Router::new().fallback(any(mirror))).await;
        let folder = tempfile::tempdir().unwrap();
        let key = |tenant: &str| {
            let (key, mut entry) = ApiKey::generate(tenant).unwrap();
            entry.tenant = Some(tenant.to_owned());
            (key.expose().to_owned(), entry.to_yaml().unwrap())
        };
        let ((acme, first), (other, second)) = (key("acme"), key("other"));
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("keys.yaml", &(first + &second));
        write("policies.cedar", POLICIES);
        write("access.yaml", "api_keys: keys.yaml\npolicies: policies.cedar\naudit: {file: audit.jsonl}\n");
        let access = Access::start(AccessConfig::read(&folder.path().join("access.yaml")).unwrap()).unwrap();
        let mut front = Front::with(options(), &[&pod.address], None, None, Some(access)).await;
        let label = [(names::TENANT_LABEL.to_owned(), "acme".to_owned())];
        front.world.change("iris", |model| model.metadata.labels = Some(label.into()));
        front.publish();
        Self { front, acme, other, folder, _pod: pod }
    }

    async fn ask(&self, path: &str, key: &str) -> axum::http::Response<hyper::body::Incoming> {
        let request = Request::post("/").header("x-api-key", key);
        self.front.send(request, path, Body::from("{}")).await
    }

    async fn get(&self, path: &str, key: &str) -> Value {
        let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {key}"));
        json_of(self.front.send(request, path, Body::empty()).await).await
    }

    /// The status of a call over gRPC.
    async fn call(&self, name: &str, key: &str) -> HeaderMap {
        let message = request(name, "").encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = Bytes::from([&[0][..], &length, &message].concat());
        let path = format!("http://{}/inference.GRPCInferenceService/ModelInfer", self.front.grpc.address);
        let call = Request::post(path).version(axum::http::Version::HTTP_2).header("te", "trailers");
        let call = call.header("content-type", "application/grpc").header("x-api-key", key);
        let answer = self.front.grpc_client.request(call.body(Body::from(body)).unwrap()).await.unwrap();
        answer.headers().clone()
    }
}

const INFER: &str = "/v2/models/iris/infer";

#[tokio::test]
async fn who_shows_nothing_gets_nowhere_but_probes() {
    let setting = Setting::start().await;
    let answer = setting.front.post(INFER, "{}").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"vespid\"");
    for path in ["/v2/models", "/v2", "/v1/models", "/v2/models/iris"] {
        assert_eq!(setting.front.get(path).await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(setting.front.get(path).await.status(), StatusCode::OK, "{path}");
    }
    let wrong = setting.ask(INFER, "vespid_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().contains("invalid_token"));
    assert_eq!(setting.call("iris", "nothing").await["grpc-status"], "16");
}

#[tokio::test]
async fn who_may_reaches_the_pod_which_does_not_see_the_credentials() {
    let setting = Setting::start().await;
    let answer = setting.ask(INFER, &setting.acme).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = json_of(answer).await;
    assert_eq!((&seen["x-api-key"], &seen["authorization"]), (&Value::Null, &Value::Null));
    let seen = setting.get("/v2/models/iris", &setting.acme).await;
    assert_eq!(seen["authorization"], Value::Null, "{seen}");
    assert_eq!(setting.call("iris", &setting.acme).await.get("grpc-status"), None, "the pod answered");
}

#[tokio::test]
async fn who_may_not_does_not_learn_whether_there_is_a_model() {
    let setting = Setting::start().await;
    for path in ["/v2/models/NAME/infer", "/v2/models/NAME/versions/7/infer", "/v2/models/NAME/ready"] {
        let mut answers = Vec::new();
        for name in ["iris", "absent"] {
            let request = if path.ends_with("ready") { Request::get("/") } else { Request::post("/") };
            let request = request.header("x-api-key", &setting.other);
            let answer = setting.front.send(request, &path.replace("NAME", name), Body::from("{}")).await;
            let status = answer.status();
            let text = json_of(answer).await.to_string().replace(name, "NAME");
            answers.push((status, text));
        }
        assert_eq!(answers[0].0, StatusCode::FORBIDDEN, "{path}: {answers:?}");
        assert_eq!(answers[0], answers[1], "{path}");
    }
    let body = json!({"model": "iris", "input": "a"}).to_string();
    let named_in_body = Request::post("/").header("x-api-key", &setting.other);
    let answer = setting.front.send(named_in_body, "/v1/embeddings", Body::from(body)).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    for name in ["iris", "absent"] {
        assert_eq!(setting.call(name, &setting.other).await["grpc-status"], "7", "{name}");
    }
}

#[tokio::test]
async fn lists_show_what_the_caller_may_read_of() {
    let setting = Setting::start().await;
    assert_eq!(setting.get("/v2/models", &setting.acme).await, json!({"models": ["iris"]}));
    assert_eq!(setting.get("/v2/models", &setting.other).await, json!({"models": []}));
    assert_eq!(setting.get("/v1/models", &setting.other).await["data"], json!([]));
    let index = setting.ask("/v2/repository/index", &setting.other).await;
    assert_eq!(json_of(index).await, json!([]));
}

#[tokio::test]
async fn each_denial_is_a_line_of_the_audit() {
    let setting = Setting::start().await;
    setting.ask(INFER, &setting.other).await;
    setting.ask(INFER, "vespid_secret").await;
    setting.front.gateway.shared.access.as_ref().unwrap().close().await;
    let audit = fs::read_to_string(setting.folder.path().join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [forbidden, unknown] = &lines[..] else { panic!("{audit}") };
    assert_eq!((&forbidden["who"]["id"], &forbidden["who"]["tenant"]), (&json!("other"), &json!("other")));
    assert_eq!((&forbidden["action"], &forbidden["model"]), (&json!("Predict"), &json!("iris")));
    assert_eq!((&forbidden["status"], &forbidden["reason"]), (&json!(403), &json!("forbidden")));
    assert_eq!((&unknown["who"], &unknown["status"]), (&Value::Null, &json!(401)));
    assert!(!audit.contains("secret") && !audit.contains(&setting.other), "{audit}");
    assert!(forbidden["request_id"].is_string() && forbidden["client"].is_string(), "{audit}");
}
