//! Who asks, and what they may, of a server by itself: API keys and policies, over HTTP and gRPC, and the audit.

mod oidc;
mod streams;
mod tls;

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use vespid_tests::archive::Archive;
use vespid_tests::cli::vespid;
use vespid_tests::http::{self, Answer};
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::{Home, Server, repository_path};
use vespid_tests::wait;

use crate::grpc::client::proto::{
    LogSettingsRequest, ModelReadyRequest, ModelStatisticsRequest, RepositoryIndexRequest,
    RepositoryModelUnloadRequest, ServerLiveRequest, ServerMetadataRequest,
};
use crate::grpc::client::{self, Client};
use crate::grpc::stream::Stream;

const POLICIES: &str = r#"
@id("own models")
permit (
    principal,
    action in [Vespid::Action::"Predict", Vespid::Action::"ReadMetadata", Vespid::Action::"RunBatch"],
    resource is Vespid::Model
) when { principal has tenant && resource has tenant && principal.tenant == resource.tenant };

@id("admins")
permit (principal in Vespid::Role::"admin", action, resource);
"#;

/// Who asks: a key for each.
struct Keys {
    admin: String,
    /// Of the tenant that `iris` is of.
    acme: String,
    other: String,
}

/// A server with `iris`, of the tenant `acme`.
struct Setting {
    server: Server,
    keys: Keys,
    folder: TempDir,
}

/// Writes what says who may do what into a folder; `further` stands in `access.yaml`.
fn configure(folder: &TempDir, further: &str) -> Keys {
    let key = |arguments: &[&str]| {
        let made = vespid(folder.path(), &[], &[&["authz", "key"], arguments].concat());
        let (key, entry) = made.expect(0).stdout.split_once('\n').unwrap();
        (key.to_owned(), entry.to_owned())
    };
    let (admin, first) = key(&["boss", "--role", "admin"]);
    let (acme, second) = key(&["acme-ci", "--tenant", "acme"]);
    let (other, third) = key(&["other-ci", "--tenant", "other"]);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("keys.yaml", &(first + &second + &third));
    write("policies.cedar", POLICIES);
    let models = "models: [{match: \"iris*\", tenant: acme}]";
    let files = "api_keys: keys.yaml\npolicies: policies.cedar\naudit: {file: audit.jsonl}";
    write("access.yaml", &format!("{files}\n{models}\n{further}\n"));
    Keys { admin, acme, other }
}

impl Setting {
    fn start(arguments: &[&str]) -> Self {
        let (folder, home) = (tempfile::tempdir().unwrap(), Home::default());
        let keys = configure(&folder, "");
        let access = folder.path().join("access.yaml");
        let arguments = [&["--access", access.to_str().unwrap()], arguments].concat();
        let server = home.start_with(&arguments).at(home);
        let setting = Self { server, keys, folder };
        let answer = setting.push(&setting.keys.admin, "1");
        assert_eq!(answer.status, 201, "{answer}");
        setting
    }

    fn push(&self, key: &str, version: &str) -> Answer {
        let package = Archive::built("iris").version(version).to_tar();
        self.send("PUT", &repository_path("iris", version), key, &package)
    }

    fn send(&self, method: &str, path: &str, key: &str, body: &[u8]) -> Answer {
        self.server.send(method, path, &[("x-api-key", key)], body)
    }

    fn get(&self, path: &str, key: &str) -> Value {
        let answer = self.send("GET", path, key, &[]);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        answer.json()
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.send("POST", path, key, body.to_string().as_bytes())
    }

    /// The lines of the audit that `is_meant`, once there is one.
    fn audit(&self, is_meant: impl Fn(&Value) -> bool) -> Value {
        wait::until("the audit has a line of it", || {
            let text = fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap_or_default();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.filter(|line| is_meant(line)).last()
        })
    }
}

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-api-key", MetadataValue::try_from(key).unwrap());
    request
}

#[test]
fn who_shows_nothing_gets_nowhere_but_probes() {
    let setting = Setting::start(&[]);
    let server = &setting.server;
    for path in ["/", "/v2/health/live", "/v2/health/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in
        ["/v2", "/v2/models", "/v1/models", "/v2/models/iris", "/v2/docs", "/v2/logging", "/v2/batches"]
    {
        let answer = server.get(path);
        answer.assert_error(401, "credentials are missing");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"vespid\""), "{path}");
    }
    server.infer("iris", &flower()).assert_error(401, "credentials are missing");
    server.post("/v1/embeddings", &json!({"model": "iris", "input": "a"})).assert_error(401, "missing");
    server.upload("iris", "2", b"a package").assert_error(401, "credentials are missing");
    server.delete("iris", "1").assert_error(401, "credentials are missing");
    let wrong = setting.post("/v2/models/iris/infer", &format!("vespid_{}", "A".repeat(43)), &flower());
    wrong.assert_error(401, "the API key is not valid");
    assert!(wrong.header("www-authenticate").unwrap().contains("invalid_token"), "{wrong}");
    let client = Client::of(server);
    assert_eq!(client.infer(client::flower()).unwrap_err().code(), Code::Unauthenticated);
    assert!(client.wait(client.service().server_live(ServerLiveRequest {})).unwrap().live);
    let described = client.wait(client.service().server_metadata(ServerMetadataRequest {}));
    assert_eq!(described.unwrap_err().code(), Code::Unauthenticated);
    let line = setting.audit(|line| line["model"] == "iris" && line["action"] == "Delete");
    assert_eq!(
        (&line["who"], &line["status"], &line["outcome"]),
        (&Value::Null, &json!(401), &json!("denied"))
    );
}

#[test]
fn who_may_is_answered_as_ever() {
    let setting = Setting::start(&[]);
    let acme = setting.keys.acme.as_str();
    assert_setosa(&setting.post("/v2/models/iris/infer", acme, &flower()));
    assert_eq!(setting.get("/v2/models", acme), json!({"models": ["iris"]}));
    assert_eq!(setting.get("/v1/models", acme)["data"][0]["id"], "iris");
    assert_eq!(setting.get("/v2/models/stats", acme)["model_stats"][0]["name"], "iris");
    assert_eq!(setting.get("/v2/models/iris/ready", acme)["ready"], true);
    let client = Client::of(&setting.server);
    assert_eq!(client.infer(with_key(client::flower(), acme)).unwrap().model_name, "iris");
    let token = [("VESPID_TOKEN", acme), ("VESPID_SERVER", &setting.server.url())];
    let listed = vespid(setting.folder.path(), &token, &["models"]);
    assert!(listed.expect(0).stdout.contains("iris"), "{}", listed.stdout);
    let none = vespid(setting.folder.path(), &[token[1]], &["models"]);
    assert!(none.expect(1).stderr.contains("VESPID_TOKEN"), "{}", none.stderr);
    let page = http::send("GET", &(setting.server.admin_url() + "/metrics"), &[], &[]);
    let counted = String::from_utf8(page.body).unwrap();
    assert!(counted.contains("vespid_access{outcome=\"permitted\"}"), "{counted}");
}

#[test]
fn who_may_not_does_not_learn_whether_there_is_a_model() {
    let setting = Setting::start(&[]);
    let other = setting.keys.other.as_str();
    let refused = |method: &str, path: &str, body: &Value| {
        let mut answers = ["iris", "iris-absent"].map(|name| {
            let body = body.to_string().replace("NAME", name);
            let answer = setting.send(method, &path.replace("NAME", name), other, body.as_bytes());
            (answer.status, String::from_utf8(answer.body).unwrap().replace(name, "NAME"))
        });
        answers.sort();
        let [first, second] = answers;
        assert_eq!(first, second, "{method} {path}");
        assert_eq!(first.0, 403, "{method} {path}: {}", first.1);
    };
    refused("POST", "/v2/models/NAME/infer", &flower());
    refused("POST", "/v2/models/NAME/versions/7/generate", &json!({}));
    refused("POST", "/v1/models/NAME:predict", &json!({}));
    refused("POST", "/v1/embeddings", &json!({"model": "NAME", "input": "a"}));
    refused("POST", "/v2/repository/models/NAME/load", &json!({}));
    for path in [
        "/v2/models/NAME",
        "/v2/models/NAME/ready",
        "/v2/models/NAME/stats",
        "/v2/models/NAME/docs",
        "/v1/models/NAME",
        "/openai/v1/models/NAME",
        "/v2/repository/models/NAME/traffic",
        "/v2/models/NAME/trace/setting",
    ] {
        refused("GET", path, &json!({}));
    }
    refused("DELETE", "/v2/repository/models/NAME/versions/1", &json!({}));
    assert_eq!(setting.get("/v2/models", other), json!({"models": []}));
    assert_eq!(setting.get("/v1/models", other)["data"], json!([]));
    assert_eq!(setting.get("/v2/models/stats", other)["model_stats"], json!([]));
    assert_eq!(setting.post("/v2/repository/index", other, &json!({})).json(), json!([]));
    let client = Client::of(&setting.server);
    for name in ["iris", "iris-absent"] {
        let mut message = client::flower();
        message.model_name = name.to_owned();
        let denied = client.infer(with_key(message, other)).unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{name}: {denied}");
        let ready = ModelReadyRequest { name: name.to_owned(), ..ModelReadyRequest::default() };
        let denied = client.wait(client.service().model_ready(with_key(ready, other))).unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{name}: {denied}");
        let unload = RepositoryModelUnloadRequest { model_name: name.to_owned(), ..Default::default() };
        let denied = client.wait(client.service().repository_model_unload(with_key(unload, other)));
        assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied, "{name}");
    }
    let all = ModelStatisticsRequest::default();
    let counted = client.wait(client.service().model_statistics(with_key(all, other))).unwrap();
    assert!(counted.model_stats.is_empty(), "{counted:?}");
    let index = RepositoryIndexRequest::default();
    let index = client.wait(client.service().repository_index(with_key(index, other))).unwrap();
    assert!(index.models.is_empty(), "{index:?}");
    let line = setting.audit(|line| line["who"]["id"] == "other-ci" && line["action"] == "Predict");
    assert_eq!((&line["outcome"], &line["reason"]), (&json!("denied"), &json!("forbidden")), "{line}");
}

#[test]
fn changes_are_for_who_may_and_stand_in_the_audit() {
    let setting = Setting::start(&[]);
    let Keys { admin, acme, .. } = &setting.keys;
    setting.push(acme, "2").assert_error(403, "you may not upload");
    assert_eq!(setting.push(admin, "2").status, 201);
    let line =
        setting.audit(|line| line["action"] == "Upload" && line["version"] == 2 && line["status"] == 201);
    assert_eq!((&line["who"]["id"], &line["outcome"]), (&json!("boss"), &json!("allowed")), "{line}");
    assert!(line["digest"].as_str().unwrap().starts_with("sha256:"), "{line}");
    assert_eq!(line["client"], "127.0.0.1", "{line}");
    // What fails is told of, too.
    assert_eq!(setting.push(admin, "2").status, 409);
    let line = setting.audit(|line| line["status"] == 409);
    assert_eq!((&line["outcome"], &line["reason"]), (&json!("failed"), &json!("ALREADY_EXISTS")), "{line}");
    setting.post("/v2/logging", acme, &json!({"log_verbose_level": 1})).assert_error(403, "this server");
    assert_eq!(setting.post("/v2/logging", admin, &json!({})).status, 200);
    setting.post("/v2/repository/models/iris/unload", acme, &json!({})).assert_error(403, "administer");
    assert_eq!(setting.send("DELETE", &repository_path("iris", "2"), admin, &[]).status, 204);
    let line = setting.audit(|line| line["action"] == "Delete");
    assert_eq!((&line["version"], &line["status"]), (&json!(2), &json!(204)), "{line}");
    assert!(line["digest"].is_string(), "{line}");
    let client = Client::of(&setting.server);
    let settings = |key: &str| with_key(LogSettingsRequest::default(), key);
    let denied = client.wait(client.service().log_settings(settings(acme))).unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    client.wait(client.service().log_settings(settings(admin))).unwrap();
    let text = fs::read_to_string(setting.folder.path().join("audit.jsonl")).unwrap();
    for secret in [admin, acme] {
        assert!(!text.contains(secret.as_str()) && !setting.server.log().contains(secret.as_str()));
    }
}

#[test]
fn a_job_is_seen_by_who_may_run_one() {
    let desk = tempfile::tempdir().unwrap();
    let place = desk.path().to_str().unwrap();
    let setting = Setting::start(&["--batch-root", place]);
    let Keys { acme, other, .. } = &setting.keys;
    fs::write(desk.path().join("in.csv"), "measurements\n\"[5.1, 3.5, 1.4, 0.2]\"\n").unwrap();
    let url = |name: &str| desk.path().join(name).to_str().unwrap().to_owned();
    let job = json!({"model": "iris", "input": {"url": url("in.csv")}, "output": {"url": url("out")}});
    setting.post("/v2/batches", other, &job).assert_error(403, "run batch jobs with model 'iris'");
    let created = setting.post("/v2/batches", acme, &job);
    assert_eq!(created.status, 202, "{created}");
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v2/batches/{id}");
    for method in ["GET", "DELETE"] {
        setting.send(method, &path, other, &[]).assert_error(404, "there is no job");
    }
    assert_eq!(setting.get("/v2/batches", other)["data"], json!([]));
    assert_eq!(setting.get("/v2/batches", acme)["data"][0]["id"], id.as_str());
    let line = setting.audit(|line| line["action"] == "RunBatch" && line["outcome"] == "allowed");
    assert_eq!((&line["who"]["id"], &line["model"]), (&json!("acme-ci"), &json!("iris")), "{line}");
}

#[test]
fn a_port_for_others_needs_a_word_about_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = "0.0.0.0:0";
    let arguments = ["serve", "--store", "store", "--http", everywhere, "--grpc", "127.0.0.1:0"];
    let refused = vespid(folder.path(), &[], &arguments);
    assert!(refused.expect(2).stderr.contains("--no-authentication"), "{}", refused.stderr);
    let home = Home::default();
    let server = home.start_with(&["--no-authentication"]);
    assert_eq!(server.get("/v2").status, 200);
    let both = ["serve", "--store", "store", "--access", "access.yaml", "--no-authentication"];
    assert!(vespid(folder.path(), &[], &both).expect(2).stderr.contains("cannot be used with"));
}

#[test]
fn a_stream_does_not_outlive_its_key() {
    const LEFT: Duration = Duration::from_secs(5);
    let setting = Setting::start(&[]);
    let made = vespid(setting.folder.path(), &[], &["authz", "key", "brief", "--tenant", "acme"]);
    let (key, entry) = made.expect(0).stdout.split_once('\n').unwrap();
    let until = SystemTime::now() + LEFT;
    let keys = setting.folder.path().join("keys.yaml");
    let known = fs::read_to_string(&keys).unwrap();
    let expires = humantime::format_rfc3339_millis(until);
    fs::write(&keys, format!("{known}{}\n  expires: {expires}\n", entry.trim_end())).unwrap();
    wait::until("the key is known", || {
        (setting.send("GET", "/v2/models", key, &[]).status == 200).then_some(())
    });
    let client = Client::of(&setting.server);
    let mut stream = Stream::with(&client, &[("x-api-key", key)]);
    stream.send(client::flower());
    assert_eq!(stream.answer().model_name, "iris");
    std::thread::sleep(until.duration_since(SystemTime::now()).unwrap() + Duration::from_millis(50));
    stream.send(client::flower());
    let (_, reason) = stream.failure();
    assert!(reason.contains("the API key is not valid"), "{reason}");
}
