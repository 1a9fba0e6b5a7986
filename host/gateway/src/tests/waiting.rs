//! Calls that wait for a pod.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::gateway::Options;
use crate::testing::{Front, Server, breaks, bytes, json_of, nobody, options};
use crate::wake::HoldOptions;

async fn pod() -> Server {
    Server::start(Router::new().fallback(async || "answered")).await
}

/// An API server that takes any patch of a pool's status, and tells of it.
fn api_server() -> (kube::Client, mpsc::UnboundedReceiver<(String, Value)>) {
    let (patches, patched) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
        let patches = patches.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            patches.send((path, serde_json::from_slice(&body).unwrap())).unwrap();
            let object = json!({
                "apiVersion": "vespid.dev/v1alpha1", "kind": "ModelPool", "metadata": {"name": "default"}, "spec": {},
            });
            Ok::<_, std::convert::Infallible>(axum::http::Response::new(kube::client::Body::from(
                object.to_string().into_bytes(),
            )))
        }
    });
    (kube::Client::new(service, "models"), patched)
}

const INFER: &str = "/v2/models/iris/infer";

async fn until_held(front: &Front, calls: usize) {
    let line = format!(r#"vespid_gateway_held{{pool="default"}} {calls}"#);
    while !front.metrics().contains(&line) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_wait_for_a_pod_that_is_coming() {
    let pod = pod().await;
    let mut front = Front::start(options(), &[]).await;
    let calls = [front.begin(INFER), front.begin(INFER)];
    until_held(&front, 2).await;
    // There is room for two.
    let refused = front.post(INFER, "{}").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let error = json_of(refused).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("as many calls wait for pods as may"), "{error}");
    // And for as many of another pool.
    front.world.pool("other", None);
    front.world.model("other", &[(1, None)]);
    front.world.change("other", |model| model.spec.pool = "other".to_owned());
    front.publish();
    let other = front.begin("/v2/models/other/infer");
    while !front.metrics().contains(r#"vespid_gateway_held{pool="other"} 1"#) {
        tokio::task::yield_now().await;
    }
    other.abort();
    front.world.pods("default", &[&pod.address]);
    front.publish();
    for call in calls {
        assert_eq!(bytes(call.await.unwrap()).await, "answered");
    }
    assert!(front.metrics().contains(r#"vespid_gateway_holds{outcome="served",pool="default"} 2"#));
    until_held(&front, 0).await;
}

#[tokio::test]
async fn a_call_waits_while_the_one_pod_is_replaced() {
    let pod = pod().await;
    let mut front = Front::start(options(), &[&nobody().await]).await;
    let call = front.begin(INFER);
    until_held(&front, 1).await;
    front.world.pods("default", &[&pod.address]);
    front.publish();
    assert_eq!(bytes(call.await.unwrap()).await, "answered");
}

#[tokio::test]
async fn a_call_is_sent_again_when_its_pool_changes_and_not_before() {
    let well = pod().await;
    let pods = [breaks().await, breaks().await];
    let mut front = Front::start(options(), &[&pods[0].0]).await;
    front.world.model("other", &[(1, None)]);
    let call = front.begin(INFER);
    until_held(&front, 1).await;
    for change in 0..20 {
        front.world.change("other", |_| {});
        front.publish();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(pods[0].1.load(Relaxed), 1, "change {change} is none of the pool");
    }
    // It may change more often than a call has attempts.
    for change in 1..10 {
        let (address, calls) = &pods[change % 2];
        let before = calls.load(Relaxed);
        front.world.pods("default", &[address]);
        front.publish();
        let table = front.gateway.shared.routes.load();
        let pod = &table.pools["default"].members[0].pod;
        // Until the pod has had it, and it waits again.
        while calls.load(Relaxed) == before || pod.in_flight() > 0 {
            assert!(!call.is_finished(), "after change {change}");
            tokio::task::yield_now().await;
        }
    }
    front.world.pods("default", &[&well.address]);
    front.publish();
    assert_eq!(bytes(call.await.unwrap()).await, "answered");
}

#[tokio::test]
async fn a_pool_is_asked_as_long_as_its_pods_have_calls() {
    let (client, mut patches) = api_server();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let released = std::sync::Arc::new(tokio::sync::Mutex::new(released));
    let slow = async move || {
        let _ = (&mut *released.lock().await).await;
        "answered"
    };
    let pod = Server::start(Router::new().fallback(slow)).await;
    let mut front = Front::with(options(), &[&pod.address], Some(client), None, None).await;
    front.world.pool("default", Some(0));
    front.publish();
    let shared = &front.gateway.shared;
    let table = shared.routes.load();
    let (pool, asked) =
        (&table.pools["default"], |patch: (String, Value)| patch.1["status"]["asked"].is_string());
    let call = front.begin(INFER);
    assert!(asked(patches.recv().await.unwrap()));
    while pool.members[0].pod.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let look = async || {
        // As if that had been long ago.
        pool.shared.asked.store(0, Relaxed);
        tokio::select! {
            () = shared.holds.keep_awake(&shared.routes) => false,
            patch = patches.recv() => asked(patch.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(200)) => false,
        }
    };
    let mut look = look;
    assert!(look().await);
    release.send(()).unwrap();
    assert_eq!(bytes(call.await.unwrap()).await, "answered");
    while pool.members[0].pod.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(!look().await, "nobody asks any more");
}

#[tokio::test]
async fn a_call_does_not_wait_for_ever_nor_for_what_cannot_come() {
    let soon = HoldOptions { hold: Duration::from_millis(1), ..options().holds };
    let mut front = Front::start(Options { holds: soon, ..options() }, &[]).await;
    let given_up = front.post(INFER, "{}").await;
    assert_eq!(given_up.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        json_of(given_up).await,
        json!({"error": "pool 'default' has no pod that is ready: see `kubectl get modelpool default`"})
    );
    front.world.change("iris", |model| model.spec.pool = "nowhere".to_owned());
    front.publish();
    let error = json_of(front.post(INFER, "{}").await).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("pool 'nowhere' does not exist: create a ModelPool"), "{error}");
}

#[tokio::test]
async fn a_pool_without_pods_is_woken() {
    let (client, mut patches) = api_server();
    let pod = pod().await;
    let mut front = Front::with(options(), &[], Some(client), None, None).await;
    front.world.pool("default", Some(0));
    front.publish();
    let call = front.begin(INFER);
    let mut stamps = Vec::new();
    for _ in 0..2 {
        let (path, patch) = patches.recv().await.unwrap();
        assert_eq!(path, "/apis/vespid.dev/v1alpha1/namespaces/models/modelpools/default/status");
        for (name, time) in patch["status"].as_object().unwrap() {
            assert!(time.as_str().unwrap().parse::<k8s_openapi::jiff::Timestamp>().is_ok(), "{time}");
            stamps.push(name.clone());
        }
    }
    stamps.sort();
    assert_eq!(stamps, ["asked", "wake"]);
    front.world.pods("default", &[&pod.address]);
    front.publish();
    assert_eq!(bytes(call.await.unwrap()).await, "answered");
    // Within a minute it is told no more that it is asked, and one that is awake is not woken.
    assert_eq!(bytes(front.post(INFER, "{}").await).await, "answered");
    assert!(patches.try_recv().is_err());
}
