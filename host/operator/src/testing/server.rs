//! An API server in memory: objects by kind and name, server-side apply by manager, deletion with what belongs to an object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::{NAMESPACE, merge};

/// Kinds whose objects have a generation.
const GENERATIONS: [&str; 7] = [
    "deployments",
    "networkpolicies",
    "modelpools",
    "models",
    "batchpredictions",
    "streampredictions",
    "jobs",
];

/// An API server. Clones share everything.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Object>,
    version: u64,
    uids: u64,
    requests: Vec<String>,
    not_served: BTreeSet<String>,
    faults: Vec<(String, u16, String)>,
    /// Requests that are still answered.
    left: Option<usize>,
}

/// An object: what was written, and over it what managers have applied, the last one last.
#[derive(Clone, Default)]
struct Object {
    base: Value,
    applied: Vec<(String, Value)>,
    version: u64,
    generation: u64,
}

type Answer = Result<Value, (u16, String)>;

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, NAMESPACE)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
        let query = head.uri.query().unwrap_or_default().to_owned();
        let kind = head.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let mut state = self.state();
        match &mut state.left {
            Some(0) => return Err(std::io::Error::other("killed")),
            Some(left) => *left -= 1,
            None => {}
        }
        let answer = state.answer(&head.method, head.uri.path(), &query, kind, &body);
        drop(state);
        let (code, body) = match answer {
            Ok(body) => (200, body),
            Err((code, message)) => (
                code,
                json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                    "message": message, "reason": match code { 404 => "NotFound", 409 => "Conflict", 422 => "Invalid", _ => "Unknown" },
                }),
            ),
        };
        let body = Body::from(serde_json::to_vec(&body)?);
        Ok(Response::builder().status(code).body(body).unwrap())
    }

    /// Puts an object there, as a user or another controller does.
    pub(crate) fn put(&self, plural: &str, object: &Value) -> &Self {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let mut state = self.state();
        let key = (plural.to_owned(), name);
        let there = state.objects.remove(&key).unwrap_or_default();
        let mut base = object.clone();
        base["metadata"]["uid"] = there.base["metadata"]["uid"].clone();
        state.objects.insert(key.clone(), Object { base, ..there });
        state.touch(&key, None);
        drop(state);
        self
    }

    /// Changes fields of an object, as a user or another controller does.
    pub(crate) fn patch(&self, plural: &str, name: &str, fields: &Value) {
        let key = (plural.to_owned(), name.to_owned());
        self.state().write(&key, fields);
    }

    /// Fields that another manager applies.
    pub(crate) fn apply(&self, plural: &str, name: &str, manager: &str, fields: &Value) {
        let mut state = self.state();
        state.apply(&(plural.to_owned(), name.to_owned()), manager, fields.clone()).unwrap();
    }

    /// What managers have applied of an object, as text.
    pub(crate) fn applied(&self, plural: &str, name: &str) -> String {
        let state = self.state();
        let object = &state.objects[&(plural.to_owned(), name.to_owned())];
        Value::from_iter(object.applied.iter().map(|(_, fields)| fields.clone())).to_string()
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let mut state = self.state();
        state.objects.remove(&(plural.to_owned(), name.to_owned())).expect("there is such an object");
        state.collect();
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        let state = self.state();
        let key = (plural.to_owned(), name.to_owned());
        state.objects.contains_key(&key).then(|| state.view(&key))
    }

    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        let state = self.state();
        state.objects.keys().filter(|(kind, _)| kind == plural).map(|key| state.view(key)).collect()
    }

    /// Changes with every write.
    pub(crate) fn version(&self) -> u64 {
        self.state().version
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Has a kind that the cluster does not serve.
    pub(crate) fn without(&self, plural: &str) -> &Self {
        self.state().not_served.insert(plural.to_owned());
        self
    }

    /// Has the next request that has this in it (`PATCH deployments`) fail.
    pub(crate) fn fail(&self, request: &str, code: u16, message: &str) {
        self.state().faults.push((request.to_owned(), code, message.to_owned()));
    }

    /// Has nothing answered after so many more requests.
    pub(crate) fn break_after(&self, requests: usize) {
        self.state().left = Some(requests);
    }

    pub(crate) fn mend(&self) {
        self.state().left = None;
    }

    /// All that there is but events, without what differs from run to run.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, Value> {
        let state = self.state();
        let keys = state.objects.keys().filter(|(kind, _)| kind != "events");
        keys.map(|key| {
            let mut object = state.view(key);
            for field in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
                object["metadata"].as_object_mut().unwrap().remove(field);
            }
            for owner in list(&mut object, "/metadata/ownerReferences") {
                owner.as_object_mut().unwrap().remove("uid");
            }
            for condition in list(&mut object, "/status/conditions") {
                condition.as_object_mut().unwrap().remove("lastTransitionTime");
            }
            (format!("{}/{}", key.0, key.1), object)
        })
        .collect()
    }
}

fn list<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Fields that a manager has no more, since somebody else has written them.
fn take_over(applied: &mut Value, fields: &Value) {
    let (Some(applied), Some(fields)) = (applied.as_object_mut(), fields.as_object()) else { return };
    for (field, value) in fields {
        if value.is_object() {
            if let Some(applied) = applied.get_mut(field) {
                take_over(applied, value);
            }
        } else {
            applied.remove(field);
        }
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, query: &str, kind: &str, body: &Value) -> Answer {
        let (_, rest) = path.split_once("/namespaces/").ok_or((404, format!("no such path: {path}")))?;
        let parts: Vec<&str> = rest.split('/').skip(1).collect();
        let (plural, name, sub) = (parts[0], parts.get(1).copied(), parts.get(2).copied());
        let request = [method.as_str(), plural, name.unwrap_or_default(), sub.unwrap_or_default()].join(" ");
        let request = request.trim_end().to_owned();
        self.requests.push(request.clone());
        if let Some(at) = self.faults.iter().position(|(fault, ..)| request.contains(fault)) {
            let (_, code, message) = self.faults.remove(at);
            return Err((code, message));
        }
        if self.not_served.contains(plural) {
            return Err((404, "the server could not find the requested resource".to_owned()));
        }
        let Some(name) = name else {
            return if method == Method::POST {
                self.create(plural, body)
            } else {
                Ok(self.list(plural, query))
            };
        };
        let key = (plural.to_owned(), name.to_owned());
        if method == Method::PATCH && kind.starts_with("application/apply-patch") {
            return self.apply_request(&key, query, sub, body);
        }
        if !self.objects.contains_key(&key) {
            return Err((404, format!("{plural} \"{name}\" not found")));
        }
        match *method {
            Method::GET => Ok(self.view(&key)),
            Method::PATCH => {
                self.check_version(&key, body)?;
                Ok(self.write(&key, body))
            }
            Method::PUT => {
                self.check_version(&key, body)?;
                let uid = self.objects[&key].base["metadata"]["uid"].clone();
                let object = self.objects.get_mut(&key).unwrap();
                object.base = body.clone();
                object.base["metadata"]["uid"] = uid;
                Ok(self.touch(&key, None))
            }
            Method::DELETE => {
                let uid = &body["preconditions"]["uid"];
                if !uid.is_null() && *uid != self.objects[&key].base["metadata"]["uid"] {
                    return Err((409, "the uid is another".to_owned()));
                }
                self.objects.remove(&key);
                self.version += 1;
                self.collect();
                Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}))
            }
            _ => Err((405, format!("{method} is not known here"))),
        }
    }

    fn list(&self, plural: &str, query: &str) -> Value {
        let wanted = query.split('&').find_map(|pair| pair.strip_prefix("labelSelector="));
        let wanted = wanted.map(|wanted| wanted.replace("%3D", "=").replace("%2F", "/"));
        let keys = self.objects.keys().filter(|(kind, _)| kind == plural);
        let all = keys.map(|key| self.view(key)).filter(|object| {
            match wanted.as_deref().and_then(|w| w.split_once('=')) {
                Some((label, value)) => object["metadata"]["labels"][label] == value,
                None => true,
            }
        });
        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": all.collect::<Vec<_>>()})
    }

    fn create(&mut self, plural: &str, body: &Value) -> Answer {
        let name =
            body["metadata"]["name"].as_str().ok_or((422, "metadata.name: Required value".to_owned()))?;
        let key = (plural.to_owned(), name.to_owned());
        if self.objects.contains_key(&key) {
            return Err((409, format!("{plural} \"{name}\" already exists")));
        }
        let mut base = body.clone();
        if base["status"].is_object() && plural != "events" {
            base.as_object_mut().unwrap().remove("status");
        }
        self.objects.insert(key.clone(), Object { base, ..Object::default() });
        Ok(self.touch(&key, None))
    }

    fn apply_request(
        &mut self,
        key: &(String, String),
        query: &str,
        sub: Option<&str>,
        body: &Value,
    ) -> Answer {
        let manager = query.split('&').find_map(|pair| pair.strip_prefix("fieldManager="));
        let manager = manager.ok_or((400, "fieldManager is required for apply patch".to_owned()))?;
        if !query.contains("force=true") {
            return Err((409, "conflicts are not told apart here: use force".to_owned()));
        }
        let uid = &body["metadata"]["uid"];
        if !uid.is_null() && self.objects.get(key).is_none_or(|object| object.base["metadata"]["uid"] != *uid)
        {
            return Err((409, "uid mismatch".to_owned()));
        }
        if self.objects.contains_key(key) {
            self.check_version(key, body)?;
        } else if sub.is_some() {
            return Err((404, format!("{} \"{}\" not found", key.0, key.1)));
        }
        if key.0 == "rolebindings"
            && self.objects.contains_key(key)
            && self.view(key)["roleRef"] != body["roleRef"]
        {
            return Err((422, "roleRef: Invalid value: cannot change roleRef".to_owned()));
        }
        let mut fields = body.clone();
        let whole = fields.as_object_mut().unwrap();
        match sub {
            Some(_) => whole.retain(|field, _| field == "status"),
            None => drop(whole.remove("status")),
        }
        let manager = match sub {
            Some(sub) => format!("{manager} {sub}"),
            None => manager.to_owned(),
        };
        self.apply(key, &manager, fields)
    }

    fn apply(&mut self, key: &(String, String), manager: &str, mut fields: Value) -> Answer {
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("uid");
        }
        let before = self.objects.contains_key(key).then(|| self.view(key));
        let object = self.objects.entry(key.clone()).or_default();
        object.applied.retain(|(other, _)| other != manager);
        object.applied.push((manager.to_owned(), fields));
        Ok(self.touch(key, before))
    }

    /// A merge patch. Whoever writes a field has it from then on.
    fn write(&mut self, key: &(String, String), fields: &Value) -> Value {
        let before = self.view(key);
        let object = self.objects.get_mut(key).expect("there is such an object");
        merge::patch(&mut object.base, fields);
        for (_, applied) in &mut object.applied {
            take_over(applied, fields);
        }
        self.touch(key, Some(before))
    }

    fn check_version(&self, key: &(String, String), body: &Value) -> Result<(), (u16, String)> {
        let known = self.objects[key].version.to_string();
        match body["metadata"]["resourceVersion"].as_str() {
            Some(version) if version != known => Err((409, "the object has been modified".to_owned())),
            _ => Ok(()),
        }
    }

    /// The object, as everybody sees it.
    fn view(&self, key: &(String, String)) -> Value {
        let object = &self.objects[key];
        let mut view = if object.base.is_null() { json!({}) } else { object.base.clone() };
        for (_, fields) in &object.applied {
            merge::merge(&mut view, fields);
        }
        view["metadata"]["name"] = key.1.clone().into();
        view["metadata"]["namespace"] = NAMESPACE.into();
        view["metadata"]["resourceVersion"] = object.version.to_string().into();
        if GENERATIONS.contains(&key.0.as_str()) {
            view["metadata"]["generation"] = object.generation.into();
        }
        if key.0 == "deployments" && view["spec"]["replicas"].is_null() {
            view["spec"]["replicas"] = 1.into();
        }
        view
    }

    /// Gives an object that was written its version, where it has changed.
    fn touch(&mut self, key: &(String, String), before: Option<Value>) -> Value {
        if self.objects[key].base["metadata"]["uid"].is_null() {
            self.uids += 1;
            let object = self.objects.get_mut(key).unwrap();
            if object.base.is_null() {
                object.base = json!({});
            }
            object.base["metadata"]["uid"] = format!("uid-{}", self.uids).into();
        }
        let now = self.view(key);
        if before.as_ref() != Some(&now) {
            self.version += 1;
            let version = self.version;
            let object = self.objects.get_mut(key).unwrap();
            object.version = version;
            if before.is_none_or(|before| before["spec"] != now["spec"]) {
                object.generation += 1;
            }
        }
        self.view(key)
    }

    /// Takes away what belongs to something that is gone.
    fn collect(&mut self) {
        loop {
            let uids: BTreeSet<String> = self
                .objects
                .values()
                .filter_map(|object| Some(object.base["metadata"]["uid"].as_str()?.to_owned()))
                .collect();
            let lost: Vec<_> = self
                .objects
                .keys()
                .filter(|key| {
                    let owners =
                        self.view(key)["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                    !owners.is_empty()
                        && owners.iter().all(|owner| !uids.contains(owner["uid"].as_str().unwrap()))
                })
                .cloned()
                .collect();
            if lost.is_empty() {
                return;
            }
            lost.iter().for_each(|key| drop(self.objects.remove(key)));
        }
    }
}
