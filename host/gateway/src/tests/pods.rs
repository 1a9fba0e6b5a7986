//! Pods that fail, are full, or are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::gateway::Options;
use crate::pods::RetryBudget;
use crate::testing::{Front, Server, breaks, bytes, json_of, nobody, options, piecewise};

/// A pod that answers with its name and what it was sent.
async fn pod(name: &'static str) -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = async move |body: Bytes| {
        counted.fetch_add(1, Relaxed);
        format!("{name}: {}", String::from_utf8_lossy(&body))
    };
    (Server::start(Router::new().fallback(handler)).await, calls)
}

/// A pod that refuses calls at its door, as hosts do that are full or end.
async fn full() -> (Server, Arc<AtomicUsize>) {
    answering(StatusCode::SERVICE_UNAVAILABLE, &[("retry-after", "1"), ("vespid-retry", "elsewhere")]).await
}

/// A pod that says of each call that it is full, in these words.
async fn answering(
    status: StatusCode,
    headers: &'static [(&'static str, &'static str)],
) -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let handler = async move || {
        counted.fetch_add(1, Relaxed);
        let body = axum::Json(json!({"error": "full"}));
        let mut response = (status, body).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        response
    };
    (Server::start(Router::new().fallback(handler)).await, calls)
}

/// Has each pod in turn in the first place, which its order among the others decides.
async fn all_answer(front: &Front, models: usize) -> usize {
    let mut answered = 0;
    for number in 0..models {
        let response =
            front.post(&format!("/v2/models/model-{number}/infer"), format!("body {number}")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(bytes(response).await.ends_with(format!(": body {number}").as_bytes()));
        answered += 1;
    }
    answered
}

fn models(front: &mut Front, models: usize) {
    (0..models).for_each(|number| front.world.model(&format!("model-{number}"), &[(1, None)]));
    front.publish();
}

#[tokio::test]
async fn calls_go_to_another_pod_where_one_does_not_answer() {
    let (well, calls) = pod("well").await;
    let (broken, _) = breaks().await;
    let (gone, (full, _)) = (nobody().await, full().await);
    let (proxy, _) = answering(StatusCode::SERVICE_UNAVAILABLE, &[]).await;
    // A pod that does not know the models yet, which it does not have in memory.
    let (behind, _) = answering(StatusCode::NOT_FOUND, &[]).await;
    for bad in [&broken, &gone, &full.address, &proxy.address, &behind.address] {
        let mut front = Front::start(options(), &[bad, &well.address]).await;
        models(&mut front, 40);
        let before = calls.load(Relaxed);
        assert_eq!(all_answer(&front, 40).await, 40);
        assert_eq!(calls.load(Relaxed) - before, 40, "each was answered once");
        let metrics = front.metrics();
        let retried = metrics.lines().find(|line| line.starts_with("vespid_gateway_retries{")).unwrap();
        let retried: u32 = retried.rsplit_once(' ').unwrap().1.parse().unwrap();
        // Half of the models have the bad pod in the first place; a pod that does not answer five times in a row is ejected.
        assert!((5..=35).contains(&retried), "{retried}");
        let ejected = ![&full.address, &behind.address].contains(&bad);
        assert_eq!(metrics.contains(r#"vespid_gateway_ejections{pool="default"} 1"#), ejected, "{bad}");
    }
}

#[tokio::test]
async fn the_last_refusal_is_the_answer() {
    let ((one, first), (other, second)) = (full().await, full().await);
    let front = Front::start(options(), &[&one.address, &other.address]).await;
    let response = front.post("/v2/models/iris/infer", "{}").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert_eq!(json_of(response).await, json!({"error": "full"}));
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (1, 1));
}

#[tokio::test]
async fn what_is_not_marked_is_the_host_s_own_word() {
    let retry_after: &[_] = &[("retry-after", "1")];
    for (status, headers, is_warm, calls) in [
        (StatusCode::SERVICE_UNAVAILABLE, retry_after, true, 1),
        // A limit holds on each pod.
        (StatusCode::TOO_MANY_REQUESTS, retry_after, true, 1),
        // The pod has the model, and so it knows.
        (StatusCode::NOT_FOUND, &[], true, 1),
        // Both are asked, and once more when the time for waiting is up.
        (StatusCode::NOT_FOUND, &[], false, 4),
    ] {
        let ((one, first), (other, second)) =
            (answering(status, headers).await, answering(status, headers).await);
        let mut little = options();
        little.holds.hold = Duration::from_millis(50);
        let mut front = Front::start(little, &[&one.address, &other.address]).await;
        if !is_warm {
            models(&mut front, 1);
        }
        let path = if is_warm { "/v2/models/iris/infer" } else { "/v2/models/model-0/infer" };
        let response = front.post(path, "{}").await;
        assert_eq!(response.status(), status);
        assert_eq!(json_of(response).await, json!({"error": "full"}), "as the pod said it");
        assert_eq!(first.load(Relaxed) + second.load(Relaxed), calls, "{status} {is_warm}");
        // Calls of a key are not sent elsewhere.
        let request = Request::post("/").header("vespid-affinity", "a");
        assert_eq!(front.send(request, path, Body::from("{}")).await.status(), status);
        assert_eq!(first.load(Relaxed) + second.load(Relaxed), calls + 1);
    }
}

#[tokio::test]
async fn a_call_waits_for_the_only_pod_to_hear_of_its_model() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let late = async move || match seen.fetch_add(1, Relaxed) {
        0 => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    let pod = Server::start(Router::new().fallback(late)).await;
    let mut front = Front::start(options(), &[&pod.address]).await;
    models(&mut front, 1);
    assert_eq!(front.post("/v2/models/model-0/infer", "{}").await.status(), StatusCode::OK);
    assert_eq!(calls.load(Relaxed), 2);
}

#[tokio::test]
async fn a_call_is_not_sent_again_beyond_the_budget() {
    let ((one, first), (other, second)) = (full().await, full().await);
    let none = Options { retries: RetryBudget { percent: 0, minimum: 0 }, ..options() };
    let front = Front::start(none, &[&one.address, &other.address]).await;
    for _ in 0..3 {
        assert_eq!(front.post("/v2/models/iris/infer", "{}").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(first.load(Relaxed) + second.load(Relaxed), 3);
    assert!(front.metrics().contains(r#"vespid_gateway_retries_refused{pool="default"} 3"#));
}

#[tokio::test]
async fn a_body_that_is_not_kept_is_not_sent_again() {
    let ((one, first), (other, second)) = (breaks().await, breaks().await);
    let little = Options { retry_buffer: bytesize::ByteSize(4), ..options() };
    let front = Front::start(little, &[&one, &other]).await;
    let response = front.post("/v2/models/iris/infer", "more than four").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let error = json_of(response).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("does not answer"), "{error}");
    assert_eq!(first.load(Relaxed) + second.load(Relaxed), 1);
}

#[tokio::test]
async fn a_body_that_has_begun_is_sent_again_from_its_start() {
    let (broken, calls) = breaks().await;
    let (well, _) = pod("well").await;
    let mut front = Front::start(options(), &[&broken, &well.address]).await;
    models(&mut front, 8);
    for number in 0..8 {
        let (sender, body) = piecewise();
        sender.send("one, ".into()).unwrap();
        let path = format!("/v2/models/model-{number}/infer");
        let rest = async {
            tokio::task::yield_now().await;
            sender.send("two".into()).unwrap();
            drop(sender);
        };
        let (response, ()) = tokio::join!(front.post(&path, body), rest);
        assert_eq!(bytes(response).await, "well: one, two");
    }
    assert!(calls.load(Relaxed) > 0, "no model has the broken pod in the first place");
}

#[tokio::test]
async fn a_key_s_calls_go_to_one_pod_and_are_not_repeated() {
    let ((one, first), (other, second)) = (pod("one").await, pod("other").await);
    let front = Front::start(options(), &[&one.address, &other.address]).await;
    let keyed = async |front: &Front, key: &str| {
        let request = Request::post("/").header("vespid-affinity", key);
        front.send(request, "/v2/models/iris/infer", Body::from("x")).await
    };
    for key in 0..20 {
        let mut answers = std::collections::BTreeSet::new();
        for _ in 0..4 {
            answers.insert(bytes(keyed(&front, &key.to_string()).await).await);
        }
        assert_eq!(answers.len(), 1);
    }
    assert!(first.load(Relaxed) > 0 && second.load(Relaxed) > 0, "keys are spread");
    // A sequence's request that a pod may have had is not sent again.
    let ((one, first), (other, second)) = (breaks().await, breaks().await);
    let front = Front::start(options(), &[&one, &other]).await;
    assert_eq!(keyed(&front, "a").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(first.load(Relaxed) + second.load(Relaxed), 1);
    // One that no pod has heard of is.
    let ((well, _), gone) = (pod("well").await, nobody().await);
    let front = Front::start(options(), &[&well.address, &gone]).await;
    for key in 0..10 {
        assert_eq!(keyed(&front, &key.to_string()).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn calls_go_to_pods_that_have_the_version() {
    let ((one, first), (other, second)) = (pod("one").await, pod("other").await);
    let mut front = Front::start(options(), &[&one.address, &other.address]).await;
    for warm in ["pod-0", "pod-1"] {
        front.world.model("iris", &[(1, None)]);
        front.world.says("iris", warm, &[(1, "Ready", None)]);
        front.publish();
        for _ in 0..5 {
            assert_eq!(front.post("/v2/models/iris/infer", "{}").await.status(), StatusCode::OK);
        }
    }
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (5, 5));
    front.world.model("iris", &[(1, None)]);
    front.publish();
    assert_eq!(front.post("/v2/models/iris/infer", "{}").await.status(), StatusCode::OK);
    let metrics = front.metrics();
    assert!(metrics.contains(r#"vespid_gateway_calls{pod_is="warm",pool="default"} 10"#), "{metrics}");
    assert!(metrics.contains(r#"vespid_gateway_calls{pod_is="cold",pool="default"} 1"#), "{metrics}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 1024]).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
            tokio::io::AsyncWriteExt::write_all(&mut connection, head).await.unwrap();
        }
    });
    let front = Front::start(options(), &[&address]).await;
    let response = front.post("/v2/models/iris/infer", "{}").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.is_err());
}
