use serde_json::{Value, json};
use vespid_resources::Model;

use crate::testing::{Server, Stage, at, condition, events};

const ONE: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

fn model(versions: &[(i64, Option<u32>)], replicas: i32) -> Value {
    let version = |(version, weight): &(i64, Option<u32>)| {
        let package = json!({"oci": format!("oci://registry.example/iris:{version}")});
        json!({"version": version, "weight": weight, "package": package})
    };
    json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "Model", "metadata": {"name": "iris"},
        "spec": {"pool": "default", "replicas": replicas, "versions": versions.iter().map(version).collect::<Vec<_>>()},
    })
}

fn pod(name: &str, ready: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"vespid.dev/pool": "default"}},
        "status": {"conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn pool() -> Value {
    json!({"apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default"}, "spec": {}})
}

/// A pool with two pods, and a model.
fn stage(versions: &[(i64, Option<u32>)], replicas: i32) -> Stage {
    let server = Server::default();
    server.put("modelpools", &pool()).put("pods", &pod("a", true)).put("pods", &pod("b", true));
    server.put("models", &model(versions, replicas));
    Stage::new(server)
}

/// What a pod says.
fn says(stage: &Stage, pod: &str, versions: &Value) {
    let fields = json!({"status": {"pods": [{"pod": pod, "versions": versions}]}});
    stage.server.apply("models", "iris", &format!("vespid-pod-{pod} status"), &fields);
}

async fn seen(stage: &mut Stage) -> Value {
    stage.settle::<Model>("iris").await;
    stage.server.get("models", "iris").unwrap()
}

fn ready(model: &Value) -> (String, String, String) {
    condition(model, "Ready")
}

#[tokio::test]
async fn what_pods_say_is_put_together() {
    let mut stage = stage(&[(1, Some(90)), (2, Some(10)), (3, None)], 1);
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model), ("False".into(), "Loading".into(), "no pod has loaded version 1 yet".into()));
    says(
        &stage,
        "a",
        &json!([{"version": 1, "state": "Ready", "digest": ONE}, {"version": 2, "state": "Loading", "digest": OTHER}]),
    );
    says(&stage, "b", &json!([{"version": 1, "state": "Listed"}]));
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model).2, "no pod has loaded version 2 yet");
    says(
        &stage,
        "a",
        &json!([{"version": 1, "state": "Ready", "digest": ONE}, {"version": 2, "state": "Ready", "digest": OTHER}]),
    );
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model), ("True".into(), "Serving".into(), "requests are answered".into()));
    assert_eq!(at(&model, "status.serving"), "1 (90%), 2 (10%)");
    assert_eq!(
        (at(&model, "status.readyReplicas"), at(&model, "status.selector")),
        (&json!(1), &json!("vespid.dev/pool=default"))
    );
    assert_eq!(
        at(&model, "status.versions"),
        &json!([{"version": 1, "digest": ONE, "ready": 1}, {"version": 2, "digest": OTHER, "ready": 1}, {"version": 3, "ready": 0}])
    );
    assert_eq!(at(&model, "status.pods").as_array().unwrap().len(), 2, "what pods say stays");
}

#[tokio::test]
async fn without_weights_the_greatest_that_is_ready_answers() {
    let mut stage = stage(&[(1, None), (2, None)], 1);
    says(&stage, "a", &json!([{"version": 1, "state": "Ready", "digest": ONE}]));
    says(&stage, "b", &json!([{"version": 2, "state": "Failed", "message": "model.toml: no graph"}]));
    let model = seen(&mut stage).await;
    assert_eq!(at(&model, "status.serving"), "1");
    assert_eq!(ready(&model).2, "requests are answered; version 2: pod b: model.toml: no graph");
    assert_eq!(at(&model, "status.versions.1.message"), "pod b: model.toml: no graph");
}

#[tokio::test]
async fn a_version_that_does_not_load_is_told_with_its_reason() {
    let mut stage = stage(&[(1, None)], 2);
    for pod in ["a", "b"] {
        says(
            &stage,
            pod,
            &json!([{"version": 1, "state": "Failed", "message": "the registry refuses the credentials"}]),
        );
    }
    let model = seen(&mut stage).await;
    let message = "version 1 does not load: pod a: the registry refuses the credentials (and 1 more)";
    assert_eq!(ready(&model), ("False".into(), "LoadFailed".into(), message.into()));
    assert!(events(&stage.server).contains(&format!("LoadFailed {message}")));
}

#[tokio::test]
async fn the_first_digest_of_a_version_is_kept() {
    let mut stage = stage(&[(1, None)], 2);
    says(&stage, "a", &json!([{"version": 1, "state": "Ready", "digest": ONE}]));
    seen(&mut stage).await;
    // The pod that had it goes, and the tag leads somewhere else meanwhile.
    stage.server.delete("pods", "a");
    says(
        &stage,
        "b",
        &json!([{"version": 1, "state": "Failed", "digest": OTHER, "message": "sha256:1111 was expected"}]),
    );
    let model = seen(&mut stage).await;
    let (status, reason, message) = ready(&model);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "DigestChanged"));
    assert!(message.contains("a version is never overwritten: pod b: sha256:1111 was expected"), "{message}");
    assert_eq!(at(&model, "status.versions.0.digest"), ONE);
}

#[tokio::test]
async fn of_two_first_digests_one_is_refused() {
    let mut stage = stage(&[(1, None)], 2);
    says(&stage, "a", &json!([{"version": 1, "state": "Ready", "digest": ONE}]));
    stage.server.fail("PATCH models iris status", 409, "the object has been modified");
    assert!(stage.look::<Model>("iris").await.unwrap_err().is_conflict());
    let model = seen(&mut stage).await;
    assert_eq!(at(&model, "status.versions.0.digest"), ONE);
}

#[tokio::test]
async fn what_a_pod_said_that_is_gone_is_taken_away() {
    let mut stage = stage(&[(1, None)], 1);
    says(&stage, "a", &json!([{"version": 1, "state": "Ready", "digest": ONE}]));
    says(&stage, "b", &json!([{"version": 1, "state": "Listed"}]));
    seen(&mut stage).await;
    stage.server.delete("pods", "a");
    let model = seen(&mut stage).await;
    assert_eq!(
        at(&model, "status.pods"),
        &json!([{"pod": "b", "versions": [{"version": 1, "state": "Listed"}]}])
    );
    assert_eq!((ready(&model).1, at(&model, "status.readyReplicas")), ("Loading".to_owned(), &json!(0)));
    assert_eq!(at(&model, "status.versions.0.digest"), ONE, "what it read counts on");
}

#[tokio::test]
async fn what_a_pod_says_meanwhile_is_not_lost_when_another_is_taken_away() {
    let mut stage = stage(&[(1, None)], 1);
    says(&stage, "a", &json!([{"version": 1, "state": "Ready", "digest": ONE}]));
    seen(&mut stage).await;
    stage.server.delete("pods", "a");
    stage.server.fail("PATCH models iris status", 409, "the object has been modified");
    assert!(stage.look::<Model>("iris").await.unwrap_err().is_conflict());
    let model = seen(&mut stage).await;
    assert_eq!(at(&model, "status.pods"), &json!([]));
    // A pod of that name that comes again owns its entry again.
    stage.server.put("pods", &pod("a", true));
    says(&stage, "a", &json!([{"version": 1, "state": "Listed"}]));
    let model = seen(&mut stage).await;
    assert_eq!(at(&model, "status.pods.0.versions.0.state"), "Listed");
}

#[tokio::test]
async fn a_model_that_nobody_keeps_is_ready_where_it_may_be_loaded() {
    let mut stage = stage(&[(1, None)], 0);
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model), ("True".into(), "Serving".into(), "a pod loads it when it is asked".into()));
    says(&stage, "a", &json!([{"version": 1, "state": "Failed", "message": "no memory"}]));
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model).1, "LoadFailed");
}

#[tokio::test]
async fn without_a_pool_or_its_pods_the_model_says_so() {
    let server = Server::default();
    server.put("models", &model(&[(1, None)], 1));
    let mut stage = Stage::new(server);
    let model = seen(&mut stage).await;
    let message = "there is no pool 'default' in this namespace: make one, or name another in spec.pool";
    assert_eq!(ready(&model), ("False".into(), "PoolMissing".into(), message.into()));
    let told = |reason: &str| {
        let condition = json!({"type": "Ready", "status": "False", "reason": reason, "message": "why", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let mut pool = pool();
        pool["status"] = json!({"conditions": [condition]});
        pool
    };
    stage.server.put("modelpools", &told("PodsNotReady"));
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model), ("False".into(), "PoolNotReady".into(), "the pool 'default': why".into()));
    stage.server.put("modelpools", &told("Asleep"));
    let model = seen(&mut stage).await;
    assert_eq!((ready(&model).0, ready(&model).1), ("True".to_owned(), "PoolAsleep".to_owned()));
}

#[tokio::test]
async fn pods_of_other_pools_do_not_count_and_what_is_the_same_is_not_written() {
    let mut stage = stage(&[(1, None)], 1);
    let mut other = pod("c", true);
    other["metadata"]["labels"]["vespid.dev/pool"] = "other".into();
    stage.server.put("pods", &other);
    says(&stage, "c", &json!([{"version": 1, "state": "Ready", "digest": ONE}]));
    let model = seen(&mut stage).await;
    assert_eq!(ready(&model).1, "Loading");
    let before = stage.server.requests().len();
    stage.look::<Model>("iris").await.unwrap();
    assert_eq!(stage.server.requests().len(), before);
}

#[tokio::test]
async fn an_error_is_tried_again() {
    let mut stage = stage(&[(1, None)], 1);
    stage.server.fail("PATCH models iris status", 500, "etcd is away");
    let error = stage.look::<Model>("iris").await.unwrap_err();
    assert!(!error.is_conflict() && error.to_string().contains("etcd is away"), "{error}");
    assert_eq!(ready(&seen(&mut stage).await).1, "Loading");
}
