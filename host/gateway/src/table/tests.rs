use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use vespid_resources::rank;

use super::*;

fn model(name: &str, revision: u32, spec: &Value, status: &Value) -> Model {
    let metadata = json!({"name": name, "uid": name, "resourceVersion": revision.to_string()});
    let kind = json!({"apiVersion": "vespid.dev/v1alpha1", "kind": "Model"});
    let mut model = json!({"metadata": metadata, "spec": spec, "status": status});
    model.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
    serde_json::from_value(model).unwrap()
}

fn slice(name: &str, service: &str, endpoints: &Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {SERVICE: service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000}, {"name": "grpc", "port": 8001}, {"name": "admin", "port": 8002}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn endpoint(pod: &str, address: &str, conditions: &Value) -> Value {
    json!({"addresses": [address], "targetRef": {"kind": "Pod", "name": pod}, "conditions": conditions})
}

fn objects(models: Vec<Model>, slices: Vec<EndpointSlice>) -> Objects {
    let mut objects = Objects::default();
    for model in models {
        objects.models.take(Event::Apply(model));
    }
    for slice in slices {
        objects.slices.take(Event::Apply(slice));
    }
    objects
}

fn pods(ready: &[&str]) -> Value {
    ready
        .iter()
        .zip(1..)
        .map(|(pod, number)| endpoint(pod, &format!("10.0.0.{number}"), &json!({})))
        .collect()
}

fn versions() -> Value {
    let upload = format!("sha256:{}", "0".repeat(64));
    json!([
        {"version": 1, "package": {"upload": upload}, "weight": 9},
        {"version": 2, "package": {"upload": upload}, "weight": 1},
    ])
}

fn build(objects: &Objects, before: &Table) -> Table {
    Table::new(objects, before, RetryBudget::default(), &Limits::default())
}

#[test]
fn a_model_leads_to_the_pods_of_its_pool_in_its_order() {
    let names = ["a", "b", "c", "d"];
    let status = json!({"pods": [
        {"pod": "a", "versions": [{"version": 1, "state": "Ready"}, {"version": 2, "state": "Loading"}]},
        {"pod": "b", "versions": [{"version": 2, "state": "Failed", "message": "no room"}]},
        {"pod": "gone", "versions": [{"version": 2, "state": "Ready"}]},
    ]});
    let table = build(
        &objects(
            vec![model("iris", 1, &json!({"pool": "gpu", "versions": versions()}), &status)],
            vec![slice("s", "gpu-pool", &pods(&names)), slice("t", "kubernetes", &pods(&["x"]))],
        ),
        &Table::default(),
    );
    assert!(!table.is_whole);
    assert_eq!(table.pools.keys().collect::<Vec<_>>(), ["gpu"]);
    let route = &table.routes["iris"];
    let order: Vec<_> = route.order.iter().map(|at| route.pool.members[*at].pod.name.as_str()).collect();
    assert_eq!(order, rank("iris", names));
    let first = &route.pool.members[0].pod;
    assert_eq!(first.http.as_ref().unwrap(), "10.0.0.1:8000");
    assert_eq!(first.grpc.as_ref().unwrap(), "10.0.0.1:8001");
    assert_eq!(route.versions[&1].warm, [true, false, false, false]);
    assert_eq!(route.versions[&2].message.as_deref(), Some("no room"));
    let Standing { ready, loading, failed, .. } = route.versions[&2].standing;
    assert_eq!((ready, loading, failed), (0, 1, 1), "the pod that is gone does not count");
    // The second version is not ready anywhere: the first answers all.
    assert!((0..100_u64).all(|draw| route.split.choose(draw << 57) == Some(1)));
}

#[test]
fn flags_of_endpoints_are_read_as_kubernetes_means_them() {
    let endpoints = json!([
        endpoint("said-nothing", "10.0.0.1", &json!({})),
        endpoint("not-ready", "10.0.0.2", &json!({"ready": false})),
        endpoint("ending", "10.0.0.3", &json!({"ready": true, "serving": true, "terminating": true})),
        endpoint("six", "fd00::1", &json!({"ready": true})),
        endpoint("no address", "pod.example", &json!({})),
        {"addresses": ["10.0.0.9"]},
    ]);
    let moved = json!([endpoint("not-ready", "10.0.0.2", &json!({"ready": true}))]);
    let table = build(
        &objects(vec![], vec![slice("s", "default-pool", &endpoints), slice("t", "default-pool", &moved)]),
        &Table::default(),
    );
    let pool = &table.pools["default"];
    let open: Vec<_> = pool.open().map(|member| member.pod.name.as_str()).collect();
    assert_eq!(open, ["10.0.0.9", "not-ready", "said-nothing", "six"]);
    let six = pool.members.iter().find(|member| member.pod.name == "six").unwrap();
    assert_eq!(six.pod.http.as_ref().unwrap(), "[fd00::1]:8000");
    assert!(!pool.is_known && !pool.may_sleep);
}

#[test]
fn what_has_not_changed_is_taken_over() {
    let spec = || json!({"versions": versions()});
    let models = |revision| {
        vec![model("iris", 1, &spec(), &Value::Null), model("other", revision, &spec(), &Value::Null)]
    };
    let first =
        build(&objects(models(1), vec![slice("s", "default-pool", &pods(&["a", "b"]))]), &Table::default());
    let _call = first.pools["default"].members[0].pod.take();
    let second = build(&objects(models(2), vec![slice("s", "default-pool", &pods(&["a", "b"]))]), &first);
    assert!(Arc::ptr_eq(&first.pools["default"], &second.pools["default"]));
    assert!(Arc::ptr_eq(&first.routes["iris"], &second.routes["iris"]));
    assert!(!Arc::ptr_eq(&first.routes["other"], &second.routes["other"]));
    // A pod goes, and another keeps its name and has another address: the calls of the first are not its.
    let third = build(&objects(models(2), vec![slice("s", "default-pool", &pods(&["b", "a"]))]), &second);
    assert!(!Arc::ptr_eq(&second.routes["iris"], &third.routes["iris"]));
    assert_eq!(third.pools["default"].members.iter().map(|member| member.pod.in_flight()).sum::<usize>(), 0);
    assert!(Arc::ptr_eq(&first.pools["default"].shared, &third.pools["default"].shared));
}

#[test]
fn a_pool_may_sleep_where_its_scaling_says_so() {
    let pool = |minimum: i32| {
        serde_json::from_value(json!({
            "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default"},
            "spec": {"autoscaling": {"minReplicas": minimum, "maxReplicas": 3}},
        }))
        .unwrap()
    };
    for (minimum, may_sleep) in [(0, true), (1, false)] {
        let mut objects = Objects::default();
        objects.pools.take(Event::Apply(pool(minimum)));
        let table = build(&objects, &Table::default());
        let pool = &table.pools["default"];
        assert_eq!((pool.is_known, pool.may_sleep), (true, may_sleep));
    }
}

#[tokio::test]
async fn whoever_waits_is_told_of_a_new_table() {
    let routes = Routes::new(Limits::default());
    let mut changes = routes.changes();
    assert!(!changes.has_changed().unwrap());
    routes.rebuild(&objects(vec![], vec![slice("s", "default-pool", &pods(&["a"]))]), RetryBudget::default());
    changes.changed().await.unwrap();
    assert_eq!(routes.load().pools.len(), 1);
}
