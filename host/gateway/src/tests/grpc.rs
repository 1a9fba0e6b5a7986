//! Calls over gRPC, on their way through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prost::Message;

use crate::gateway::Options;
use crate::grpc::local::{Flag, Health, Index, NameAndVersion};
use crate::grpc::message::tests::request;
use crate::testing::{Front, Server, framed, grpc_end, nobody, options, piecewise};

fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))])
}

/// A pod that answers with what it was sent, as it comes, and then with a status; the headers that it got are its answer's.
async fn echo(calls: &Arc<AtomicUsize>) -> Server {
    let calls = Arc::clone(calls);
    let echo = async move |request: Request| {
        calls.fetch_add(1, Relaxed);
        let (parts, body) = request.into_parts();
        assert_eq!(
            (parts.version, &parts.headers["te"]),
            (axum::http::Version::HTTP_2, &HeaderValue::from_static("trailers"))
        );
        let end = futures_util::stream::iter([Ok(Frame::trailers(trailers("0")))]);
        let frames = http_body_util::BodyStream::new(body);
        let mut response =
            Response::new(Body::new(StreamBody::new(futures_util::StreamExt::chain(frames, end))));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        for (name, value) in parts.headers {
            response
                .headers_mut()
                .insert(format!("got-{}", name.unwrap()).parse::<axum::http::HeaderName>().unwrap(), value);
        }
        response
    };
    Server::start(Router::new().fallback(echo)).await
}

/// A pod that answers each call with nothing but a status, which may be marked as what it refused at its door.
async fn status(code: &'static str, is_marked: bool) -> Server {
    let answer = async move || {
        let mut response = Response::new(Body::empty());
        response.headers_mut().extend(trailers(code));
        if is_marked {
            response.headers_mut().insert("vespid-retry", HeaderValue::from_static("elsewhere"));
        }
        response
    };
    Server::start(Router::new().fallback(answer)).await
}

#[tokio::test]
async fn messages_go_through_both_ways_as_they_come() {
    let pod = echo(&Arc::default()).await;
    let front = Front::start(options(), &[&pod.address]).await;
    let (sender, body) = piecewise();
    let message = framed(&request("iris", ""));
    // In two frames, cut within the name.
    sender.send(Bytes::copy_from_slice(&message[..8])).unwrap();
    sender.send(Bytes::copy_from_slice(&message[8..])).unwrap();
    let response = front.call("ModelStreamInfer", body).await;
    assert_eq!(response.headers()["got-vespid-model-version"], "1");
    let mut answer = response.into_body();
    let mut back = Vec::new();
    while back.len() < message.len() {
        back.extend(answer.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    assert_eq!(back, message);
    // The stream goes on.
    for version in ["", "1", "2"] {
        let next = framed(&request("iris", version));
        sender.send(Bytes::copy_from_slice(&next)).unwrap();
        let mut back = Vec::new();
        while back.len() < next.len() {
            back.extend(answer.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        assert_eq!(back, next);
    }
    drop(sender);
    let end = answer.collect().await.unwrap();
    assert_eq!(end.trailers().unwrap()["grpc-status"], "0");
    assert!(
        front.metrics().contains(r#"vespid_gateway_requests{code="0",pool="default",protocol="grpc"} 1"#)
    );
}

#[tokio::test]
async fn a_call_reaches_the_pod_as_it_was() {
    let pod = echo(&Arc::default()).await;
    let front = Front::start(options(), &[&pod.address]).await;
    let message = framed(&request("iris", "1"));
    let response = front.call("ModelInfer", message.clone()).await;
    assert_eq!(response.headers().get("got-vespid-model-version"), None);
    assert_eq!(response.headers()["got-x-forwarded-for"], "127.0.0.1");
    assert_eq!(grpc_end(response).await, ("0".to_owned(), Bytes::from(message)));
}

#[tokio::test]
async fn failures_are_statuses() {
    let front = Front::start(options(), &[]).await;
    for (method, body, status, message) in [
        ("ModelInfer", framed(&request("other", "")), "5", "Request for unknown model: 'other' is not found"),
        ("ModelInfer", framed(&request("", "")), "3", "model_name"),
        ("ModelInfer", framed(&request("iris", "x")), "3", "not a version"),
        ("ModelInfer", b"no message".to_vec(), "8", "larger than the limit"),
        ("ModelInfer", Vec::new(), "3", "ended before its message"),
        ("RepositoryModelLoad", Vec::new(), "12", "vespid push"),
        ("/other.Service/Method", Vec::new(), "12", "no such method"),
    ] {
        let response = front.call(method, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        let told = response.headers()["grpc-message"].to_str().unwrap().to_owned();
        assert!(told.contains(message), "{told}");
        assert_eq!(grpc_end(response).await.0, status, "{told}");
    }
}

#[tokio::test]
async fn what_is_about_the_server_is_answered_here() {
    let front = Front::start(options(), &["127.0.0.1:1"]).await;
    let ask = async |method: &str, message: Vec<u8>| {
        let (status, body) = grpc_end(front.call(method, message).await).await;
        (status, body.slice(5.min(body.len())..))
    };
    let named = |name: &str| framed(&NameAndVersion { name: name.to_owned(), version: String::new() });
    let flag = |(status, body): (String, Bytes)| (status, Flag::decode(body).unwrap().is);
    assert_eq!(flag(ask("ServerLive", named("")).await), ("0".to_owned(), true));
    assert_eq!(flag(ask("ServerReady", Vec::new()).await), ("0".to_owned(), true));
    assert_eq!(flag(ask("ModelReady", named("iris")).await), ("0".to_owned(), true));
    assert_eq!(flag(ask("ModelReady", named("other")).await), ("0".to_owned(), false));
    let (_, index) = ask("RepositoryIndex", Vec::new()).await;
    assert_eq!(Index::decode(index).unwrap().models[0].name, "iris");
    let (_, health) = ask("/grpc.health.v1.Health/Check", named("iris")).await;
    assert_eq!(Health::decode(health).unwrap().status, 1);
    assert_eq!(ask("/grpc.health.v1.Health/Check", named("other")).await.0, "5");
}

#[tokio::test]
async fn health_is_told_when_it_changes() {
    let mut front = Front::start(options(), &["127.0.0.1:1"]).await;
    let named = framed(&NameAndVersion { name: "iris".to_owned(), version: String::new() });
    let mut watched = front.call("/grpc.health.v1.Health/Watch", named).await.into_body();
    let mut next = async || {
        let frame = watched.frame().await.unwrap().unwrap();
        frame.into_data().map(|data| Health::decode(data.slice(5..)).unwrap().status).map_err(|_| "trailers")
    };
    assert_eq!(next().await, Ok(1));
    front.world.says("iris", "pod-0", &[(1, "Failed", None)]);
    front.publish();
    assert_eq!(next().await, Ok(2));
    front.world.says("iris", "pod-0", &[(1, "Ready", None)]);
    front.publish();
    assert_eq!(next().await, Ok(1));
    front.stop.send_replace(true);
    assert_eq!(next().await, Ok(2));
    assert_eq!(next().await, Err("trailers"));
}

#[tokio::test]
async fn a_model_of_which_nothing_is_said_is_asked_for_at_the_pod() {
    let pod = echo(&Arc::default()).await;
    let mut front = Front::start(options(), &[&pod.address]).await;
    front.world.model("iris", &[(1, None)]);
    front.publish();
    let message = framed(&NameAndVersion { name: "iris".to_owned(), version: String::new() });
    let (status, body) = grpc_end(front.call("ModelReady", message.clone()).await).await;
    assert_eq!((status.as_str(), body), ("0", Bytes::from(message)));
}

#[tokio::test]
async fn calls_go_to_another_pod_where_one_does_not_answer() {
    let calls = Arc::default();
    let (well, gone) = (echo(&calls).await, nobody().await);
    let (refuses, behind) = (status("14", true).await, status("5", false).await);
    for bad in [&gone, &refuses.address, &behind.address] {
        let mut front = Front::start(options(), &[bad, &well.address]).await;
        (0..20).for_each(|number| front.world.model(&format!("model-{number}"), &[(1, None)]));
        front.publish();
        for number in 0..20 {
            let message = framed(&request(&format!("model-{number}"), ""));
            let answer = grpc_end(front.call("ModelInfer", message.clone()).await).await;
            assert_eq!(answer, ("0".to_owned(), Bytes::from(message)));
        }
        assert!(front.metrics().contains("vespid_gateway_retries{"));
    }
    assert_eq!(calls.load(Relaxed), 60);
    // What is not marked is the host's own word, and so is what a pod says that has the model.
    for code in ["14", "5"] {
        let pods = [status(code, false).await, status(code, false).await];
        let front = Front::start(options(), &[&pods[0].address, &pods[1].address]).await;
        let answer = grpc_end(front.call("ModelInfer", framed(&request("iris", ""))).await).await;
        assert_eq!(answer.0, code);
        assert!(!front.metrics().contains("vespid_gateway_retries{"));
    }
}

#[tokio::test]
async fn streams_are_limited_in_number() {
    let pod = echo(&Arc::default()).await;
    let front = Front::start(Options { max_streams: 1, ..options() }, &[&pod.address]).await;
    let open = async || {
        let (sender, body) = piecewise();
        let message = framed(&request("iris", ""));
        sender.send(message.into()).unwrap();
        (front.call("ModelStreamInfer", body).await, sender)
    };
    let (first, sender) = open().await;
    let (refused, _) = open().await;
    assert_eq!(
        (&refused.headers()["grpc-status"], &refused.headers()["vespid-retry"]),
        (&"14".parse().unwrap(), &"elsewhere".parse().unwrap())
    );
    let named = framed(&NameAndVersion { name: "iris".to_owned(), version: String::new() });
    assert_eq!(front.call("/grpc.health.v1.Health/Watch", named).await.headers()["grpc-status"], "14");
    let single = front.call("ModelInfer", framed(&request("iris", ""))).await;
    assert_eq!(grpc_end(single).await.0, "0");
    drop(sender);
    assert_eq!(grpc_end(first).await.0, "0");
    while open().await.0.headers().contains_key("grpc-status") {}
}

#[tokio::test]
async fn clients_that_stall_are_not_waited_for() {
    const PAUSE: Duration = Duration::from_millis(100);
    let pod = echo(&Arc::default()).await;
    let front = Front::start(Options { pause: PAUSE, ..options() }, &[&pod.address]).await;
    for whole in [false, true] {
        let (sender, body) = piecewise();
        let message = framed(&request("iris", ""));
        let end = if whole { message.len() } else { message.len() - 1 };
        sender.send(Bytes::copy_from_slice(&message[..end])).unwrap();
        assert_eq!(grpc_end(front.call("ModelInfer", body).await).await.0, "4");
    }
    // A stream may be idle between two messages.
    let (sender, body) = piecewise();
    let message = framed(&request("iris", ""));
    sender.send(message.clone().into()).unwrap();
    let stream = front.call("ModelStreamInfer", body).await;
    tokio::time::sleep(PAUSE * 4).await;
    sender.send(message.clone().into()).unwrap();
    drop(sender);
    assert_eq!(grpc_end(stream).await, ("0".to_owned(), [&message[..], &message].concat().into()));
    // An answer that nobody takes.
    let endless = async || {
        let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0; 1 << 14]));
        Body::from_stream(pieces)
    };
    let pod = Server::start(Router::new().fallback(endless)).await;
    let front = Front::start(Options { pause: PAUSE, ..options() }, &[&pod.address]).await;
    let untaken = front.call("ModelInfer", framed(&request("iris", ""))).await;
    while !front.metrics().contains(r#"vespid_gateway_requests{code="499",pool="default",protocol="grpc"} 1"#)
    {
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(grpc_end(untaken).await.0, "4");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_in_a_status() {
    let breaks = async |_: Request| {
        let frames = futures_util::stream::iter([Ok(Bytes::from_static(b"half")), Err("broken")]);
        let frames = futures_util::StreamExt::then(frames, async |frame| {
            tokio::task::yield_now().await;
            frame
        });
        Response::new(Body::from_stream(frames))
    };
    let pod = Server::start(Router::new().fallback(breaks)).await;
    let front = Front::start(options(), &[&pod.address]).await;
    let (status, _) = grpc_end(front.call("ModelInfer", framed(&request("iris", ""))).await).await;
    assert_eq!(status, "14");
}

#[tokio::test]
async fn a_stream_that_turns_to_another_model_is_ended() {
    let pod = echo(&Arc::default()).await;
    let mut front = Front::start(options(), &[&pod.address]).await;
    front.world.model("other", &[(1, None)]);
    front.publish();
    let (sender, body) = piecewise();
    sender.send(framed(&request("iris", "")).into()).unwrap();
    let response = front.call("ModelStreamInfer", body).await;
    sender.send(framed(&request("other", "")).into()).unwrap();
    let (status, _) = grpc_end(response).await;
    assert_eq!(status, "3");
}

#[tokio::test]
async fn streams_end_when_the_gateway_does() {
    let pod = echo(&Arc::default()).await;
    let front = Front::start(options(), &[&pod.address]).await;
    let (sender, body) = piecewise();
    let message = framed(&request("iris", ""));
    sender.send(message.clone().into()).unwrap();
    let response = front.call("ModelStreamInfer", body).await;
    front.stop.send_replace(true);
    // What was sent is answered, and then the client is told to go elsewhere.
    assert_eq!(grpc_end(response).await, ("14".to_owned(), Bytes::from(message)));
    drop(sender);
}
