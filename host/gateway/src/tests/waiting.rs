//! Calls that wait for a pod.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::gateway::Options;
use crate::testing::{Front, Server, bytes, json_of, nobody, options};
use crate::wake::HoldOptions;

async fn pod() -> Server {
    Server::start(Router::new().fallback(async || "answered")).await
}

/// An API server that takes any patch of a pool, and tells of it.
fn api_server() -> (kube::Client, mpsc::UnboundedReceiver<(String, Value)>) {
    let (patches, patched) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: axum::http::Request<kube::client::Body>| {
        let patches = patches.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            patches.send((path, serde_json::from_slice(&body).unwrap())).unwrap();
            let object = json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "default"},
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
    let mut front = Front::with(options(), &[], Some(client), None).await;
    front.world.pool("default", Some(0));
    front.publish();
    let call = front.begin(INFER);
    let mut annotations = Vec::new();
    for _ in 0..2 {
        let (path, patch) = patches.recv().await.unwrap();
        assert_eq!(path, "/apis/vespid.dev/v1alpha1/namespaces/models/modelpools/default");
        for (name, time) in patch["metadata"]["annotations"].as_object().unwrap() {
            assert!(time.as_str().unwrap().parse::<k8s_openapi::jiff::Timestamp>().is_ok(), "{time}");
            annotations.push(name.clone());
        }
    }
    annotations.sort();
    assert_eq!(annotations, ["vespid.dev/asked", "vespid.dev/wake"]);
    front.world.pods("default", &[&pod.address]);
    front.publish();
    assert_eq!(bytes(call.await.unwrap()).await, "answered");
    // Within a minute it is told no more that it is asked, and one that is awake is not woken.
    assert_eq!(bytes(front.post(INFER, "{}").await).await, "answered");
    assert!(patches.try_recv().is_err());
}
