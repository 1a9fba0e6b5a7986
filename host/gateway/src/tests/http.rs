//! Requests over HTTP, on their way through.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::any;
use bytesize::ByteSize;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::gateway::Options;
use crate::testing::{Front, Server, bytes, json_of, options, piecewise};

/// How long clients may pause, in tests of that.
const PAUSE: Duration = Duration::from_millis(100);

/// A pod that answers with what it was sent, as it comes.
async fn echo() -> Server {
    let echo = async |request: Request| axum::response::Response::new(request.into_body());
    Server::start(Router::new().fallback(any(echo))).await
}

/// A pod that answers with the headers, the path and the body that it was sent.
async fn mirror() -> Server {
    let mirror = async |request: Request| {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let headers: Value = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), Value::from(value.to_str().unwrap())))
            .collect();
        axum::Json(json!({
            "headers": headers, "path": parts.uri.to_string(), "body": String::from_utf8_lossy(&body),
            "version": format!("{:?}", parts.version),
        }))
    };
    Server::start(Router::new().fallback(any(mirror))).await
}

#[tokio::test]
async fn bodies_go_through_both_ways_as_they_come() {
    let pod = echo().await;
    let front = Front::start(options(), &[&pod.address]).await;
    let (sender, body) = piecewise();
    sender.send("piece 0".into()).unwrap();
    let response = front.post("/v2/models/iris/infer", body).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut answer = response.into_body();
    for number in 0..5 {
        // What was sent has come back, and the request has not ended.
        let frame = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, format!("piece {number}"));
        sender.send(format!("piece {}", number + 1).into()).unwrap();
    }
    drop(sender);
    assert_eq!(answer.collect().await.unwrap().to_bytes(), "piece 5");
}

#[tokio::test]
async fn a_request_reaches_the_pod_as_it_was() {
    let pod = mirror().await;
    let front = Front::start(options(), &[&pod.address]).await;
    let request = axum::http::Request::post("/")
        .header("x-request-id", "mine")
        .header("traceparent", "00-1-2-01")
        .header("vespid-model-version", "9")
        .header("inference-header-content-length", "2");
    let response = front.send(request, "/v2/models/iris/infer?a=b", Body::from("{}raw")).await;
    assert_eq!(response.headers()["x-request-id"], "mine");
    let got = json_of(response).await;
    assert_eq!((&got["path"], &got["body"]), (&json!("/v2/models/iris/infer?a=b"), &json!("{}raw")));
    assert_eq!(got["version"], "HTTP/1.1");
    let headers = &got["headers"];
    for (name, value) in [
        ("x-request-id", "mine"),
        ("traceparent", "00-1-2-01"),
        ("vespid-model-version", "1"),
        ("inference-header-content-length", "2"),
        ("content-length", "5"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1;proto=http"),
        ("x-forwarded-host", &front.http.address),
        ("host", &front.http.address),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    // A version that is named needs no other; an id that is missing is made.
    let named = json_of(front.post("/v2/models/iris/versions/1/infer", "").await).await;
    assert_eq!(named["headers"].get("vespid-model-version"), None);
    assert_eq!(named["headers"]["x-request-id"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn requests_are_divided_by_weight_and_by_key() {
    let pod = mirror().await;
    let mut front = Front::start(options(), &[&pod.address]).await;
    front.world.model("iris", &[(1, Some(3)), (2, Some(1))]);
    front.world.says("iris", "pod-0", &[(1, "Ready", None), (2, "Ready", None)]);
    front.publish();
    let version = async |request: axum::http::request::Builder| {
        let got = json_of(front.send(request, "/v2/models/iris/infer", Body::empty()).await).await;
        got["headers"]["vespid-model-version"].as_str().unwrap().to_owned()
    };
    let mut second = 0;
    for _ in 0..400 {
        second += i32::from(version(axum::http::Request::post("/")).await == "2");
    }
    // 100 are expected, and the standard deviation is 8.7.
    assert!((50..=150).contains(&second), "{second}");
    for key in ["a", "b", "c", "d"] {
        let keyed = || axum::http::Request::post("/").header("vespid-affinity", key);
        let first = version(keyed()).await;
        for _ in 0..5 {
            assert_eq!(version(keyed()).await, first);
        }
    }
}

#[tokio::test]
async fn a_model_is_found_in_an_openai_body() {
    let pod = mirror().await;
    let front = Front::start(options(), &[&pod.address]).await;
    let body = r#"{"input": "a", "model": "iris"}"#;
    for path in ["/v1/embeddings", "/openai/v1/embeddings"] {
        let got = json_of(front.post(path, body).await).await;
        assert_eq!((&got["path"], &got["body"]), (&json!(path), &json!(body)));
    }
    let response = front.post("/v1/embeddings", r#"{"input": "a", "model": "other"}"#).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let error = json_of(response).await;
    assert_eq!(error["error"]["code"], "model_not_found");
    assert!(error["error"]["message"].as_str().unwrap().starts_with("Request for unknown model"));
}

#[tokio::test]
async fn failures_have_the_host_s_words() {
    let front = Front::start(options(), &[]).await;
    let error = async |path: &str| {
        let response = front.post(path, "").await;
        (response.status().as_u16(), json_of(response).await["error"].as_str().unwrap().to_owned())
    };
    assert_eq!(
        error("/v2/models/other/infer").await,
        (404, "Request for unknown model: 'other' is not found".to_owned())
    );
    assert_eq!(
        error("/v2/models/iris/versions/7/infer").await,
        (404, "Request for unknown model: 'iris' version 7 is not found; its versions are 1".to_owned())
    );
    assert_eq!(error("/v2/repository/models/iris/load").await.0, 501);
    let slash = front.post("/v2/models/iris/infer/", "").await;
    assert_eq!(
        (slash.status().as_u16(), &slash.headers()[header::LOCATION]),
        (308, &"/v2/models/iris/infer".parse().unwrap())
    );
}

#[tokio::test]
async fn what_is_about_all_models_is_answered_here() {
    let mut front = Front::start(options(), &["127.0.0.1:1"]).await;
    front.world.model("other", &[(1, None)]);
    front.world.says("other", "pod-0", &[(1, "Failed", Some("too large"))]);
    front.publish();
    let get = async |path: &str| json_of(front.get(path).await).await;
    assert_eq!(get("/v2/models").await, json!({"models": ["iris", "other"]}));
    assert_eq!(get("/v2/health/ready").await, json!({"live": true, "ready": true}));
    assert_eq!(get("/v2").await["name"], "vespid");
    let both = get("/v1/models").await;
    assert_eq!((&both["models"], &both["data"][0]["id"]), (&json!(["iris", "other"]), &json!("iris")));
    assert_eq!(get("/v2/models/iris/ready").await, json!({"name": "iris", "ready": true}));
    assert_eq!(
        get("/v2/models/other/ready").await,
        json!({"error": "model 'other' is not ready: too large"})
    );
    let index = json_of(front.post("/v2/repository/index", r#"{"ready": true}"#).await).await;
    assert_eq!(index, json!([{"name": "iris", "version": "1", "state": "READY", "reason": ""}]));
    assert_eq!(get("/v2/repository/models/iris/traffic").await, json!({"versions": "all"}));
    front.stop.send_replace(true);
    assert_eq!(get("/v2/health/ready").await, json!({"live": true, "ready": false}));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_pod_s_call() {
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (began, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (began, gone) = (Arc::clone(&began), Arc::clone(&gone));
        async move || {
            let _gone = Gone(gone);
            began.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let pod = Server::start(Router::new().fallback(handler)).await;
    let front = Front::start(options(), &[&pod.address]).await;
    {
        let call = front.post("/v2/models/iris/infer", "{}");
        tokio::select! {
            _ = call => panic!("nobody answers it"),
            () = began.notified() => {}
        }
    }
    gone.notified().await;
    // It is counted a moment later, when its future has been dropped.
    while !front.metrics().contains(r#"vespid_gateway_requests{code="499",pool="default",protocol="http"} 1"#)
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn clients_that_stall_are_not_waited_for() {
    let endless = async || {
        let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 1 << 16]));
        Body::from_stream(pieces)
    };
    let slow = async || {
        let pieces = futures_util::stream::iter(["a", "b", "c"]);
        Body::from_stream(futures_util::StreamExt::then(pieces, async |piece| {
            tokio::time::sleep(PAUSE * 3).await;
            Ok::<_, std::io::Error>(piece)
        }))
    };
    let whole = async |body: bytes::Bytes| body;
    let router = Router::new()
        .route("/v2/models/iris/infer", any(whole))
        .route("/v2/models/iris/generate", any(slow))
        .route("/v2/models/iris/generate_stream", any(endless));
    let pod = Server::start(router).await;
    let front = Front::start(Options { pause: PAUSE, ..options() }, &[&pod.address]).await;
    let (sender, body) = piecewise();
    sender.send("half".into()).unwrap();
    let stalled = front.post("/v2/models/iris/infer", body).await;
    assert_eq!(stalled.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(json_of(stalled).await["error"].as_str().unwrap().contains("did not go on"));
    // A pod may take its time.
    assert_eq!(bytes(front.post("/v2/models/iris/generate", "{}").await).await, "abc");
    let untaken = front.post("/v2/models/iris/generate_stream", "{}").await;
    assert_eq!(untaken.status(), StatusCode::OK);
    let counted = |code: &str| {
        let line = format!(r#"vespid_gateway_requests{{code="{code}",pool="default",protocol="http"}} 1"#);
        front.metrics().contains(&line)
    };
    while !counted("499") {
        tokio::time::sleep(PAUSE).await;
    }
    assert!(front.metrics().contains(r#"vespid_gateway_pod_in_flight{pod="pod-0",pool="default"} 0"#));
    assert!(untaken.into_body().collect().await.is_err(), "it breaks off for the client");
}

#[tokio::test]
async fn bodies_that_are_held_for_their_names_share_a_memory() {
    let pod = mirror().await;
    let little = Options { name_memory: ByteSize(40), ..options() };
    let front = Front::start(little, &[&pod.address]).await;
    let (sender, body) = piecewise();
    sender.send(r#"{"model": "iris", "#.into()).unwrap();
    let first = front.post("/v1/embeddings", body);
    let second = async {
        let ask = async || front.post("/v1/embeddings", r#"{"model": "iris", "x": [12345678]}"#).await;
        let refused = loop {
            let response = ask().await;
            if response.status() != StatusCode::OK {
                break response;
            }
        };
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["vespid-retry"], "elsewhere");
        sender.send(r#""x": 1}"#.into()).unwrap();
        drop(sender);
        ask
    };
    let (first, ask) = tokio::join!(first, second);
    assert_eq!(json_of(first).await["body"], r#"{"model": "iris", "x": 1}"#);
    assert_eq!(ask().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn bodies_and_requests_in_flight_have_limits() {
    let (arrivals, mut arrived) = mpsc::unbounded_channel();
    let release = Arc::new(Notify::new());
    let handler = {
        let release = Arc::clone(&release);
        async move |body: Body| {
            let body = body.collect().await.map(|body| body.to_bytes().len());
            arrivals.send(body.is_ok()).unwrap();
            release.notified().await;
            "done"
        }
    };
    let pod = Server::start(Router::new().fallback(handler)).await;
    let limited = Options { max_body: ByteSize(10), max_in_flight: 1, ..options() };
    let front = Front::start(limited, &[&pod.address]).await;
    let too_large = front.post("/v2/models/iris/infer", "more than ten").await;
    assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // The same where its length is not told beforehand.
    let (sender, body) = piecewise();
    sender.send("more than ten".into()).unwrap();
    drop(sender);
    let too_large = front.post("/v2/models/iris/infer", body).await;
    assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(
        json_of(too_large).await,
        json!({"error": "the request body is larger than the limit of 10 B"})
    );

    let first = front.post("/v2/models/iris/infer", "ten");
    let second = async {
        while !arrived.recv().await.unwrap() {}
        let busy = front.post("/v2/models/iris/infer", "ten").await;
        assert_eq!(
            (busy.status(), &busy.headers()[header::RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
        );
        assert_eq!(busy.headers()["vespid-retry"], "elsewhere");
        release.notify_one();
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(bytes(first).await, "done");
    assert_eq!(
        bytes({
            release.notify_one();
            front.post("/v2/models/iris/infer", "ten").await
        })
        .await,
        "done"
    );
}

#[tokio::test]
async fn a_compressed_answer_comes_as_the_pod_sent_it() {
    let handler = async || {
        (
            [(header::CONTENT_ENCODING, "gzip"), (header::CONNECTION, "x-hop"), (header::VARY, "x")],
            "not looked at",
        )
    };
    let pod = Server::start(Router::new().fallback(handler)).await;
    let front = Front::start(options(), &[&pod.address]).await;
    let response = front.post("/v2/models/iris/infer", "{}").await;
    let headers: &HeaderMap = response.headers();
    assert_eq!(
        (&headers[header::CONTENT_ENCODING], &headers[header::VARY]),
        (&"gzip".parse().unwrap(), &"x".parse().unwrap())
    );
    assert!(!headers.contains_key(header::CONNECTION));
    assert_eq!(bytes(response).await, "not looked at");
}
