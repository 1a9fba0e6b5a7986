//! What limits refuse, over HTTP and over gRPC.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::Semaphore;
use vespid_resources::names;

use crate::gateway::Options;
use crate::grpc::message::tests::request;
use crate::testing::{Front, Server, bytes, framed, grpc_end, json_of, limits, options, piecewise};

const INFER: &str = "/v2/models/iris/infer";
const OTHER: &str = "/v2/models/other/infer";

/// A gateway under limits to `iris` and `other`, whose tenants these are.
async fn front(text: &str, pods: &[&str], tenants: [Option<&str>; 2]) -> Front {
    let mut front = Front::start(Options { limits: limits(text), ..options() }, pods).await;
    front.world.model("other", &[(1, None)]);
    for (name, tenant) in ["iris", "other"].into_iter().zip(tenants) {
        label(&mut front, name, tenant);
    }
    front
}

fn label(front: &mut Front, name: &str, tenant: Option<&str>) {
    let label = tenant.map(|tenant| [(names::TENANT_LABEL.to_owned(), tenant.to_owned())].into());
    front.world.change(name, |model| model.metadata.labels = label);
    front.publish();
}

/// A pod that answers with what it was sent, as it comes, and says over gRPC that it is well.
async fn echo() -> Server {
    let echo = async |request: Request| {
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
        let frames = http_body_util::BodyStream::new(request.into_body());
        let end = futures_util::stream::iter([Ok(Frame::trailers(trailers))]);
        Response::new(Body::new(StreamBody::new(futures_util::StreamExt::chain(frames, end))))
    };
    Server::start(Router::new().fallback(echo)).await
}

/// A pod that answers when there is a permit for it.
async fn slow() -> (Server, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&permits);
    let slow = async move || {
        waits.acquire().await.unwrap().forget();
        "answered"
    };
    (Server::start(Router::new().fallback(slow)).await, permits)
}

async fn until(front: &Front, line: &str) {
    while !front.metrics().contains(line) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn calls_that_come_too_often_are_told_when_to_come_again() {
    let pod = echo().await;
    let front =
        front("models: [{ match: iris, rate: 0.001, burst: 2, memory: 1 }]", &[&pod.address], [None; 2])
            .await;
    // What is refused or answered otherwise takes nothing.
    assert_eq!(front.post("/v2/models/iris/versions/9/infer", "{}").await.status(), StatusCode::NOT_FOUND);
    for path in ["/v2/models/iris", "/v2/models/iris/ready", "/v2/models/iris/config"] {
        assert_eq!(front.get(path).await.status(), StatusCode::OK, "{path}");
    }
    for _ in 0..2 {
        assert_eq!(front.post(INFER, "{}").await.status(), StatusCode::OK);
    }
    let refused = front.post(INFER, "{}").await;
    assert_eq!(
        (refused.status(), &refused.headers()[header::RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &HeaderValue::from(1000))
    );
    assert_eq!(refused.headers().get("vespid-retry"), None, "another gateway or pod would not help");
    let text = "model 'iris' is at its limit of 0.001 calls a second (2 at once); try again later";
    assert_eq!(json_of(refused).await, json!({"error": text}));
    for (path, body) in [
        ("/v2/models/iris/generate", "{}"),
        ("/v1/models/iris:predict", "{}"),
        ("/v1/embeddings", r#"{"model": "iris", "input": "a"}"#),
    ] {
        let refused = front.post(path, body).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        let is_openai = path.ends_with("embeddings");
        let told = json_of(refused).await;
        assert_eq!(told["error"]["type"] == "rate_limit_error", is_openai, "{told}");
    }
    let refused = grpc_end(front.call("ModelInfer", framed(&request("iris", ""))).await).await;
    assert_eq!(refused.0, "8");
    // A neighbour, and what is no prediction, goes on.
    assert_eq!(front.post(OTHER, "{}").await.status(), StatusCode::OK);
    let neighbour = grpc_end(front.call("ModelInfer", framed(&request("other", ""))).await).await;
    assert_eq!(neighbour.0, "0");
    let metrics = front.metrics();
    let labels = r#"{scope="model",name="iris",limit="rate"}"#;
    for line in [format!("refused{labels} 5"), format!("value{labels} 2"), format!("used{labels} 1.99")] {
        assert!(metrics.contains(&format!("vespid_gateway_limit_{line}")), "{line}: {metrics}");
    }
    assert!(!metrics.contains(r#"limit="memory""#), "that is the pods'");
}

#[tokio::test]
async fn without_limits_nothing_is_told_of_them() {
    let front = Front::start(options(), &[]).await;
    assert!(!front.metrics().contains("limit_"));
    assert!(front.gateway.shared.routes.load().routes["iris"].limited.is_none());
}

#[tokio::test]
async fn a_tenant_s_calls_in_flight_count_until_their_answers_have_ended() {
    let (pod, permits) = slow().await;
    let text = "tenants: [{ name: acme, concurrent: 1 }]";
    let mut front = front(text, &[&pod.address], [Some("acme"), Some("acme")]).await;
    let used = |calls: u32| {
        format!(r#"vespid_gateway_limit_used{{scope="tenant",name="acme",limit="concurrent"}} {calls}"#)
    };
    let call = front.begin(INFER);
    until(&front, &used(1)).await;
    let refused = front.post(OTHER, "{}").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers().get(header::RETRY_AFTER), None, "nobody knows when a call ends");
    let text = "tenant 'acme' is at its limit of 1 concurrent calls; try again later";
    assert_eq!(json_of(refused).await, json!({"error": text}));
    // One that turns to somebody else is no more the tenant's.
    label(&mut front, "other", None);
    permits.add_permits(2);
    assert_eq!(bytes(front.post(OTHER, "{}").await).await, "answered");
    assert_eq!(bytes(call.await.unwrap()).await, "answered");
    until(&front, &used(0)).await;

    let pieces = async |request: Request| Response::new(request.into_body()).into_response();
    let pod = Server::start(Router::new().fallback(pieces)).await;
    front.world.pods("default", &[&pod.address]);
    front.publish();
    let (sender, body) = piecewise();
    sender.send("a piece".into()).unwrap();
    let mut answer = front.post(INFER, body).await.into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    assert_eq!(front.post(INFER, "{}").await.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(sender);
    while answer.frame().await.is_some() {}
    until(&front, &used(0)).await;
    assert_eq!(front.post(INFER, "{}").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_call_is_counted_once_however_often_it_is_sent() {
    let full = async || {
        let marks = [("retry-after", "1"), ("vespid-retry", "elsewhere")];
        (StatusCode::SERVICE_UNAVAILABLE, marks, "full")
    };
    let pods = [Server::start(Router::new().fallback(full)).await, echo().await];
    let pods = [&*pods[0].address, &*pods[1].address];
    let front = front("models: [{ match: '*', rate: 0.001, burst: 5 }]", &pods, [None; 2]).await;
    for path in [INFER, OTHER] {
        for _ in 0..5 {
            assert_eq!(front.post(path, "{}").await.status(), StatusCode::OK);
        }
        assert_eq!(front.post(path, "{}").await.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    let metrics = front.metrics();
    assert!(metrics.contains("vespid_gateway_retries{"), "{metrics}");
}

#[tokio::test]
async fn a_call_that_waits_for_a_pod_has_its_place() {
    let mut front = front("models: [{ match: '*', concurrent: 1 }]", &[], [None; 2]).await;
    let call = front.begin(INFER);
    until(&front, r#"vespid_gateway_held{pool="default"} 1"#).await;
    assert_eq!(front.post(INFER, "{}").await.status(), StatusCode::TOO_MANY_REQUESTS);
    let pod = echo().await;
    front.world.pods("default", &[&pod.address]);
    front.publish();
    assert_eq!(call.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stream_ends_before_the_message_that_is_refused() {
    let pod = echo().await;
    let text = "models: [{ match: '*', rate: 0.001, burst: 3 }]";
    let message = |name: &str| framed(&request(name, ""));
    // Together, one by one, and cut anywhere.
    for size in [usize::MAX, message("iris").len(), 999] {
        let front = front(text, &[&pod.address], [None; 2]).await;
        let (sender, body) = piecewise();
        let all = message("iris").repeat(5);
        all.chunks(size.min(all.len())).for_each(|piece| sender.send(Bytes::copy_from_slice(piece)).unwrap());
        let answer = front.call("ModelStreamInfer", body).await;
        let (status, answered) = grpc_end(answer).await;
        assert_eq!((status.as_str(), answered), ("8", message("iris").repeat(3).into()), "{size}");
        let neighbour = front.call("ModelStreamInfer", message("other")).await;
        assert_eq!(grpc_end(neighbour).await, ("0".to_owned(), message("other").into()));
    }
}

#[tokio::test]
async fn a_stream_has_a_place_while_it_is_open() {
    let pod = echo().await;
    let front = front("models: [{ match: '*', concurrent: 1 }]", &[&pod.address], [None; 2]).await;
    let message = || Bytes::from(framed(&request("iris", "")));
    let (sender, body) = piecewise();
    sender.send(message()).unwrap();
    let open = front.call("ModelStreamInfer", body).await;
    for method in ["ModelInfer", "ModelStreamInfer"] {
        let refused = front.call(method, message()).await;
        let told = refused.headers()["grpc-message"].to_str().unwrap().to_owned();
        assert!(told.contains("its limit of 1 concurrent calls"), "{told}");
        assert_eq!(grpc_end(refused).await.0, "8");
    }
    // Its other messages are a part of it.
    (0..3).for_each(|_| sender.send(message()).unwrap());
    drop(sender);
    assert_eq!(grpc_end(open).await, ("0".to_owned(), message().repeat(4).into()));
    until(&front, r#"vespid_gateway_limit_used{scope="model",name="iris",limit="concurrent"} 0"#).await;
    assert_eq!(grpc_end(front.call("ModelInfer", message()).await).await.0, "0");
}
