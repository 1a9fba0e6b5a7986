use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request as HttpRequest, Response as HttpResponse, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_auth::{Access, AccessConfig, ApiKey};
use vespid_package::StoreOptions;
use vespid_resources::names;

use super::*;
use crate::gateway::Options;
use crate::testing::{Front, Server, bytes, json_of, limits, options};

/// Models as an API server keeps them, for one that counts revisions and tests them.
#[derive(Clone, Default)]
struct ApiServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    models: HashMap<String, Value>,
    revision: u64,
    /// Changes that somebody else makes before the next of ours.
    others: u32,
    /// What the rules say of any change.
    refuses: Option<&'static str>,
}

impl ApiServer {
    fn client(&self) -> kube::Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: HttpRequest<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (code, answer) = server.answer(parts.method.as_str(), parts.uri.path(), &body);
                let answer = kube::client::Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(HttpResponse::builder().status(code).body(answer).unwrap())
            }
        });
        kube::Client::new(service, "models")
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        let name = path.split_once("/models/models/").map(|(_, name)| name.to_owned());
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let failed = |code: u16, reason: &str, message: &str| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
            )
        };
        if method != "GET" && state.others > 0 {
            state.others -= 1;
            state.revision += 1;
            let revision = state.revision;
            state
                .models
                .values_mut()
                .for_each(|model| model["metadata"]["resourceVersion"] = json!(revision.to_string()));
        }
        if method == "PATCH"
            && let Some(message) = state.refuses
        {
            let (code, mut answer) = failed(422, "Invalid", message);
            answer["details"] = json!({"name": "scaler"});
            return (code, answer);
        }
        match (method, name) {
            ("POST", None) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                if state.models.contains_key(&name) {
                    return failed(409, "AlreadyExists", "it exists");
                }
                (201, state.put(&name, body))
            }
            (_, Some(name)) if !state.models.contains_key(&name) => failed(404, "NotFound", "not found"),
            ("GET", Some(name)) => (200, state.models[&name].clone()),
            ("PATCH", Some(name)) => match patch(&state.models[&name], &body) {
                Some(model) => (200, state.put(&name, model)),
                None => {
                    failed(422, "Invalid", "the server rejected our request due to an error in our request")
                }
            },
            ("DELETE", Some(name)) => {
                if body["preconditions"]["resourceVersion"]
                    != state.models[&name]["metadata"]["resourceVersion"]
                {
                    return failed(409, "Conflict", "the precondition failed");
                }
                (200, state.models.remove(&name).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn model(&self, name: &str) -> Option<Model> {
        self.0.lock().unwrap().models.get(name).map(|model| serde_json::from_value(model.clone()).unwrap())
    }

    /// Tells the gateway of it, as its watch would.
    fn tell(&self, front: &mut Front) {
        let models = self.0.lock().unwrap().models.clone();
        front.world.objects.models.now =
            models.into_iter().map(|(name, model)| (name, serde_json::from_value(model).unwrap())).collect();
        front.publish();
    }
}

impl State {
    fn put(&mut self, name: &str, mut model: Value) -> Value {
        self.revision += 1;
        model["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        model["metadata"]["uid"] = json!(name);
        self.models.insert(name.to_owned(), model.clone());
        model
    }
}

/// As much of a JSON patch as is used.
fn patch(model: &Value, operations: &Value) -> Option<Value> {
    let mut patched = model.clone();
    for operation in operations.as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        match operation["op"].as_str().unwrap() {
            "test" if model.pointer(path) == Some(&operation["value"]) => {}
            "test" => return None,
            "add" => patched["spec"]["versions"].as_array_mut().unwrap().push(operation["value"].clone()),
            "remove" => {
                let at: usize = path.strip_prefix("/spec/versions/").unwrap().parse().unwrap();
                patched["spec"]["versions"].as_array_mut().unwrap().remove(at);
            }
            other => panic!("{other}"),
        }
    }
    Some(patched)
}

struct Setting {
    server: ApiServer,
    front: Front,
    _folder: TempDir,
}

async fn setting() -> Setting {
    setting_with(options(), None).await
}

async fn setting_with(options: Options, access: Option<Access>) -> Setting {
    let (server, folder) = (ApiServer::default(), tempfile::tempdir().unwrap());
    let store = Store::open(StoreOptions::folder(folder.path())).await.unwrap();
    let mut front = Front::with(options, &[], Some(server.client()), Some(store), access).await;
    server.tell(&mut front);
    Setting { server, front, _folder: folder }
}

fn package(name: &str, version: &str, graph: &[u8]) -> Vec<u8> {
    let manifest = format!(
        "[model]\nname = '{name}'\nversion = '{version}'\n[[graph]]\nname = 'g'\nfile = 'graphs/g.onnx'\nencoding = 'onnx'\n"
    );
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in [("model.toml", manifest.as_bytes()), ("graphs/g.onnx", graph)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, data).unwrap();
    }
    archive.into_inner().unwrap()
}

impl Setting {
    async fn put(&self, path: &str, kind: &str, body: Vec<u8>) -> (u16, Value) {
        let request = HttpRequest::put("/").header("content-type", kind);
        let response = self.front.send(request, path, body.into()).await;
        (response.status().as_u16(), json_of(response).await)
    }

    async fn upload(&self, name: &str, version: &str, query: &str) -> (u16, Value) {
        let path = format!("/v2/repository/models/{name}/versions/{version}{query}");
        self.put(&path, "application/x-tar", package(name, version, b"graph")).await
    }

    /// Uploads `scaler` version 1, of which a pod says this.
    async fn upload_and_say(&mut self, state: &str, message: Option<&str>) -> HttpResponse<Incoming> {
        self.front.world.pods("default", &["127.0.0.1:1"]);
        self.front.publish();
        let path = "/v2/repository/models/scaler/versions/1";
        let request = HttpRequest::put("/").header("content-type", "application/x-tar");
        let (server, shared) = (self.server.clone(), Arc::clone(&self.front.gateway.shared));
        let mut world = std::mem::take(&mut self.front.world);
        let told = async {
            while server.model("scaler").is_none() {
                tokio::task::yield_now().await;
            }
            let model = server.model("scaler").unwrap();
            world.objects.models.now.insert("scaler".to_owned(), model);
            for (state, message) in [("Loading", None), (state, message)] {
                world.says("scaler", "pod-0", &[(1, state, message)]);
                world.publish(&shared.routes);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(self.front.send(request, path, package("scaler", "1", b"graph").into()), told).0
    }

    async fn delete(&self, version: &str) -> u16 {
        let path = format!("/v2/repository/models/scaler/versions/{version}");
        self.front.send(HttpRequest::delete("/"), &path, Body::empty()).await.status().as_u16()
    }

    fn versions(&self) -> Vec<i64> {
        let model = self.server.model("scaler");
        model
            .map(|model| model.spec.versions.iter().map(|version| version.version).collect())
            .unwrap_or_default()
    }

    async fn is_stored(&self, version: &str) -> bool {
        let store = self.front.gateway.shared.uploads.store.clone().unwrap();
        store.contains(&"scaler".parse().unwrap(), version.parse().unwrap()).await.unwrap()
    }
}

const NOW: &str = "?wait=false";

#[tokio::test]
async fn an_upload_becomes_a_version_of_a_model() {
    let setting = setting().await;
    let (status, entry) = setting.upload("scaler", "1", NOW).await;
    assert_eq!(
        (status, entry),
        (201, json!({"name": "scaler", "version": "1", "state": "LOADING", "reason": ""}))
    );
    let model = setting.server.model("scaler").unwrap();
    assert_eq!((model.spec.pool.as_str(), model.spec.replicas), ("default", 1));
    assert!(model.spec.versions[0].package.upload.as_ref().unwrap().starts_with("sha256:"));
    assert_eq!(model.spec.versions[0].weight, None);
    // Others change the Model at the same time.
    setting.server.0.lock().unwrap().others = 3;
    assert_eq!(setting.upload("scaler", "2", NOW).await.0, 201);
    assert_eq!(setting.versions(), [1, 2]);
    let (status, error) = setting.upload("scaler", "2", NOW).await;
    assert_eq!(status, 409);
    assert_eq!(
        error["error"],
        "model 'scaler' version 2 exists already: delete it first, or upload another version"
    );
    setting.server.0.lock().unwrap().others = 2;
    assert_eq!((setting.delete("1").await, setting.delete("1").await), (204, 404));
    assert_eq!((setting.versions(), setting.is_stored("1").await), (vec![2], false));
    assert_eq!(setting.delete("2").await, 204);
    assert!(setting.server.model("scaler").is_none(), "it goes with its last version");
}

#[tokio::test]
async fn pods_fetch_what_was_uploaded() {
    let setting = setting().await;
    setting.upload("scaler", "1", NOW).await;
    let digest = setting.server.model("scaler").unwrap().spec.versions[0].package.upload.clone().unwrap();
    let packages = Server::start(setting.front.gateway.packages()).await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<Body>();
    let get = async |path: &str| {
        client.get(format!("http://{}{path}", packages.address).parse().unwrap()).await.unwrap()
    };
    let archive = bytes(get(&format!("/packages/scaler/1?digest={digest}")).await).await;
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(&archive[..]).unpack(folder.path()).unwrap();
    let (record, _) = vespid_package::Record::of_folder(folder.path()).unwrap();
    assert_eq!(record.digest().to_string(), digest);
    let other = format!("sha256:{}", "0".repeat(64));
    for (path, status) in [
        (format!("/packages/scaler/1?digest={other}"), 409),
        ("/packages/scaler/2".to_owned(), 404),
        ("/packages/scaler/1?digest=1".to_owned(), 400),
        ("/packages/scaler/1".to_owned(), 200),
    ] {
        assert_eq!(get(&path).await.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn packages_on_their_way_are_few_and_not_waited_for_for_ever() {
    let setting = setting().await;
    let path = "/v2/repository/models/scaler/versions/1?wait=false";
    // More than waits for the network.
    let large = package("scaler", "1", &vec![0; 3 << 20]);
    assert_eq!(setting.put(path, "application/x-tar", large).await.0, 201);
    let uploads = &setting.front.gateway.shared.uploads;
    let stored = async || {
        let store = uploads.store.as_ref().unwrap();
        store.fetch(&"scaler".parse().unwrap(), "1".parse().unwrap()).await.unwrap()
    };
    let place = async || Arc::clone(&uploads.downloads).acquire_owned().await.unwrap();
    let taken = packages::tar(stored().await, place().await, Duration::from_secs(600)).collect().await;
    assert!(taken.unwrap().to_bytes().len() > 3 << 20);
    let stalled = packages::tar(stored().await, place().await, Duration::from_millis(10));
    let all = u32::try_from(packages::DOWNLOADS).unwrap();
    let places = Arc::clone(&uploads.downloads).acquire_many_owned(all).await.unwrap();
    assert!(stalled.collect().await.is_err(), "a part is not taken for the whole");

    let server = Server::start(setting.front.gateway.packages()).await;
    let get = async || {
        let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build_http::<Body>();
        client.get(format!("http://{}/packages/scaler/1", server.address).parse().unwrap()).await.unwrap()
    };
    assert_eq!(get().await.status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(places);
    assert_eq!(get().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_answer_comes_when_a_pod_has_loaded_it_or_cannot() {
    for (state, message, status, expected) in [
        ("Ready", None, 201, json!({"name": "scaler", "version": "1", "state": "READY", "reason": ""})),
        (
            "Failed",
            Some("no room"),
            400,
            json!({"error": "model 'scaler' version 1 failed to load: no room"}),
        ),
    ] {
        let mut setting = setting().await;
        let answer = setting.upload_and_say(state, message).await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(json_of(answer).await, expected);
        let stays = state == "Ready";
        assert_eq!((setting.server.model("scaler").is_some(), setting.is_stored("1").await), (stays, stays));
    }
}

#[tokio::test]
async fn a_source_is_named_by_its_digest() {
    let setting = setting().await;
    let path = "/v2/repository/models/scaler/versions/1?wait=false&pool=gpu";
    let put = async |source: &str| {
        setting.put(path, "application/json", json!({"source": source}).to_string().into()).await
    };
    let (status, error) = put("oci://registry.example/models/scaler:1").await;
    assert!(status == 400 && error["error"].as_str().unwrap().starts_with("source: "), "{status} {error}");
    let pinned = format!("oci://registry.example/models/scaler@sha256:{}", "0".repeat(64));
    assert_eq!(put(&pinned).await.0, 201);
    let model = setting.server.model("scaler").unwrap();
    assert_eq!(
        (model.spec.pool.as_str(), model.spec.versions[0].package.oci.as_ref()),
        ("gpu", Some(&pinned))
    );
    assert_eq!(setting.delete("1").await, 204);
}

#[tokio::test]
async fn what_is_no_package_leaves_nothing() {
    let setting = setting().await;
    let path = |version: &str| format!("/v2/repository/models/scaler/versions/{version}");
    for (path, body, status, expected) in [
        (path("1"), b"no tar".to_vec(), 400, "not a readable tar"),
        (path("2"), package("scaler", "1", b"g"), 400, "the request names 'scaler' version 2"),
        (
            "/v2/repository/models/Scaler/versions/1".to_owned(),
            package("Scaler", "1", b"g"),
            400,
            "small letters",
        ),
        (format!("{}?wait=soon", path("1")), package("scaler", "1", b"g"), 400, "wait: use true"),
    ] {
        let (answered, error) = setting.put(&path, "application/x-tar", body).await;
        assert_eq!(answered, status, "{error}");
        assert!(error["error"].as_str().unwrap().contains(expected), "{error}");
    }
    assert!(setting.server.model("scaler").is_none() && !setting.is_stored("1").await);
    let none = Front::with(options(), &[], Some(setting.server.client()), None, None).await;
    let refused = none.send(HttpRequest::put("/"), &path("1"), package("scaler", "1", b"g").into()).await;
    assert_eq!(refused.status().as_u16(), 501);
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("--store"));
}

#[tokio::test]
async fn a_package_that_no_model_names_is_said_to_be_in_the_way() {
    let setting = setting().await;
    setting.upload("scaler", "1", NOW).await;
    setting.server.0.lock().unwrap().models.clear();
    let (status, error) = setting.upload("scaler", "1", NOW).await;
    assert!(
        status == 409 && error["error"].as_str().unwrap().contains("vespid delete scaler --version 1"),
        "{error}"
    );
    assert_eq!(setting.delete("1").await, 204);
    assert_eq!(setting.upload("scaler", "1", NOW).await.0, 201);
}

#[tokio::test]
async fn what_the_api_server_s_rules_refuse_is_told() {
    let setting = setting().await;
    setting.upload("scaler", "1", NOW).await;
    setting.server.0.lock().unwrap().refuses =
        Some("Model.vespid.dev \"scaler\" is invalid: spec.versions: no more");
    let (status, error) = setting.upload("scaler", "2", NOW).await;
    assert_eq!(status, 400);
    assert!(error["error"].as_str().unwrap().ends_with("spec.versions: no more"), "{error}");
    assert!(!setting.is_stored("2").await, "what came to nothing is not kept");
}

/// What a limit has used, as metrics tell it.
fn used(front: &Front, limit: &str, scope: &str, name: &str) -> f64 {
    let line = format!(r#"vespid_gateway_limit_used{{scope="{scope}",name="{name}",limit="{limit}"}} "#);
    let metrics = front.metrics();
    metrics.lines().find_map(|found| found.strip_prefix(&line)).expect(&metrics).parse().unwrap()
}

#[tokio::test]
async fn uploads_are_limited_in_an_hour_and_what_comes_to_nothing_is_not_counted() {
    let limited = Options { limits: limits("models: [{ match: '*', uploads: 2 }]"), ..options() };
    let mut setting = setting_with(limited, None).await;
    // No package; a rule of the API server's; one that a pod cannot load.
    let path = "/v2/repository/models/scaler/versions/1?wait=false";
    assert_eq!(setting.put(path, "application/x-tar", b"no tar".to_vec()).await.0, 400);
    assert_eq!(setting.upload_and_say("Failed", Some("no room")).await.status().as_u16(), 400);
    assert_eq!(setting.upload("scaler", "1", NOW).await.0, 201);
    setting.server.0.lock().unwrap().refuses = Some("no more");
    assert_eq!(setting.upload("scaler", "2", NOW).await.0, 400);
    setting.server.0.lock().unwrap().refuses = None;
    assert_eq!(setting.upload("scaler", "1", NOW).await.0, 409);
    assert_eq!(setting.upload("scaler", "2", NOW).await.0, 201);
    let body = package("scaler", "3", b"graph");
    let request = HttpRequest::put("/").header("content-type", "application/x-tar");
    let refused = setting.front.send(request, &path.replace("/1", "/3"), body.into()).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"1800".parse().unwrap())
    );
    let text = "model 'scaler' is at its limit of 2 uploads an hour; try again later";
    assert_eq!(json_of(refused).await, json!({"error": text}));
    assert!(!setting.is_stored("3").await);
    // Removing gives nothing back, and a neighbour is not concerned.
    assert_eq!(setting.delete("2").await, 204);
    assert_eq!(setting.upload("scaler", "3", NOW).await.0, 429);
    assert_eq!(setting.upload("other", "1", NOW).await.0, 201);
    let pinned = format!("oci://registry.example/models/scaler@sha256:{}", "0".repeat(64));
    let source = json!({"source": pinned}).to_string();
    assert_eq!(setting.put(path, "application/json", source.into()).await.0, 409, "it is there");
    setting.server.tell(&mut setting.front);
    assert!(used(&setting.front, "uploads", "model", "scaler") > 1.9);
}

#[tokio::test]
async fn the_store_has_room_for_so_much_of_a_model() {
    let limited = Options { limits: limits("models: [{ match: scaler, stored: 1KiB }]"), ..options() };
    let mut setting = setting_with(limited, None).await;
    let put = async |setting: &Setting, version: &str, size: usize| {
        let path = format!("/v2/repository/models/scaler/versions/{version}?wait=false");
        setting.put(&path, "application/x-tar", package("scaler", version, &vec![0; size])).await
    };
    let (status, error) = put(&setting, "1", 2000).await;
    assert_eq!(status, 413);
    let text = error["error"].as_str().unwrap();
    assert!(text.ends_with("of packages, and the limit of model 'scaler' is 1.0 KiB"), "{text}");
    assert_eq!(put(&setting, "1", 500).await.0, 201);
    // Nothing is left of one that the API server refuses.
    setting.server.0.lock().unwrap().refuses = Some("no more");
    assert_eq!(put(&setting, "2", 100).await.0, 400);
    setting.server.0.lock().unwrap().refuses = None;
    let (status, error) = put(&setting, "2", 500).await;
    assert_eq!(status, 429, "{error}");
    assert!(!setting.is_stored("2").await && setting.versions() == [1]);
    setting.server.tell(&mut setting.front);
    let before = used(&setting.front, "stored", "model", "scaler");
    assert!((500.0..700.0).contains(&before), "{before}");
    assert_eq!(setting.upload("other", "1", NOW).await.0, 201);
    assert_eq!(setting.delete("1").await, 204);
    assert_eq!(put(&setting, "2", 500).await.0, 201);
    // As it is found at the start.
    setting.front.gateway.shared.uploads.look(Coming::default()).await;
    assert!(used(&setting.front, "stored", "model", "scaler") > 500.0);
}

#[tokio::test]
async fn an_upload_that_makes_a_model_is_its_uploader_s_tenant_s() {
    let folder = tempfile::tempdir().unwrap();
    let [(acme, first), (other, second)] = ["acme", "other"].map(|tenant| {
        let (key, mut entry) = ApiKey::generate(tenant).unwrap();
        entry.tenant = Some(tenant.to_owned());
        (key.expose().to_owned(), entry.to_yaml().unwrap())
    });
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("keys.yaml", &(first + &second));
    write("policies.cedar", "permit (principal, action, resource);");
    write("access.yaml", "api_keys: keys.yaml\npolicies: policies.cedar\n");
    let access = Access::start(AccessConfig::read(&folder.path().join("access.yaml")).unwrap()).unwrap();
    let text = "tenants: [{ name: acme, uploads: 3, stored: 1KiB }]";
    let mut setting = setting_with(Options { limits: limits(text), ..options() }, Some(access)).await;
    let put = async |setting: &Setting, model: &str, version: &str, key: &str| {
        let path = format!("/v2/repository/models/{model}/versions/{version}?wait=false");
        let request =
            HttpRequest::put("/").header("content-type", "application/x-tar").header("x-api-key", key);
        let answer = setting.front.send(request, &path, package(model, version, &[0; 200]).into()).await;
        (answer.status().as_u16(), json_of(answer).await)
    };
    // Of models that the gateway has not heard of yet.
    assert_eq!(put(&setting, "a", "1", &acme).await.0, 201);
    assert_eq!(put(&setting, "b", "1", &acme).await.0, 201);
    let (status, error) = put(&setting, "c", "1", &acme).await;
    assert_eq!(status, 201, "{error}");
    let (status, error) = put(&setting, "d", "1", &acme).await;
    assert!(status == 429 && error["error"].as_str().unwrap().contains("tenant 'acme'"), "{error}");
    assert_eq!(put(&setting, "d", "1", &other).await.0, 201);
    // Whose a model is counts, and not who uploads to it.
    setting.server.tell(&mut setting.front);
    assert_eq!(put(&setting, "a", "2", &other).await.0, 429);
    assert_eq!(put(&setting, "d", "2", &acme).await.0, 201);
    let stored = used(&setting.front, "stored", "tenant", "acme");
    assert!((600.0..1024.0).contains(&stored), "{stored}");
    // It goes with the model.
    let label = [(names::TENANT_LABEL.to_owned(), "other".to_owned())];
    setting.front.world.change("a", |model| model.metadata.labels = Some(label.into()));
    setting.front.publish();
    assert!(used(&setting.front, "stored", "tenant", "acme") < stored - 200.0);
}
