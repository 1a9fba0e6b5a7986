use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::http::{Request as HttpRequest, Response as HttpResponse};
use http_body_util::BodyExt;
use tempfile::TempDir;
use vespid_package::StoreOptions;

use super::*;
use crate::testing::{Front, Server, bytes, json_of, options};

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
    let (server, folder) = (ApiServer::default(), tempfile::tempdir().unwrap());
    let store = Store::open(StoreOptions::folder(folder.path())).await.unwrap();
    let mut front = Front::with(options(), &[], Some(server.client()), Some(store), None).await;
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
        setting.front.world.pods("default", &["127.0.0.1:1"]);
        setting.front.publish();
        let path = "/v2/repository/models/scaler/versions/1";
        let request = HttpRequest::put("/").header("content-type", "application/x-tar");
        let (answer, ()) = {
            let server = setting.server.clone();
            let routes = Arc::clone(&setting.front.gateway.shared);
            let mut world = std::mem::take(&mut setting.front.world);
            let told = async move {
                while server.model("scaler").is_none() {
                    tokio::task::yield_now().await;
                }
                let model = server.model("scaler").unwrap();
                world.objects.models.now.insert("scaler".to_owned(), model);
                world.says("scaler", "pod-0", &[(1, "Loading", None)]);
                world.publish(&routes.routes);
                tokio::task::yield_now().await;
                world.says("scaler", "pod-0", &[(1, state, message)]);
                world.publish(&routes.routes);
            };
            tokio::join!(setting.front.send(request, path, package("scaler", "1", b"graph").into()), told)
        };
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
