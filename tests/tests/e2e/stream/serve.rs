//! Streams in a server, over the models that it serves.

use serde_json::json;
use vespid_tests::server::Server;
use vespid_tests::{http, oip, wait};

use super::broker::{Kafka, Sent, account};
use super::{Desk, flower, measurements};

#[test]
fn a_server_answers_streams_and_clients_with_the_same_models() {
    let kafka = Kafka::start();
    let cluster = &kafka.cluster;
    cluster.topics(&["flowers", "species", "again"], 2);
    cluster.send("flowers", (0..1000).map(|id| Sent::new((id % 2) as i32, flower(id))));
    let desk = Desk::default();
    let spec = |name: &str, topic: &str| {
        let spec = json!({
            "model": "iris",
            "source": {"kafka": {"brokers": cluster.brokers, "topics": "flowers"}},
            "sink": {"kafka": {"topic": topic}},
            "inputs": measurements(),
        });
        desk.stream(name, &spec).display().to_string()
    };
    let (first, second) = (spec("first", "species"), spec("second", "again"));
    // It has no such model yet: the streams wait for it.
    let server = Server::configured(&["--stream", &first, "--stream", &second], &[]);
    let status = |name: &str| {
        let url = format!("{}/v2/streams/{name}", server.admin_url());
        http::send("GET", &url, &[], &[]).json()
    };
    wait::until("it does not wait", || (status("first")["state"] == "waiting").then_some(()));
    assert!(status("first")["reason"].as_str().unwrap().contains("iris"), "{}", status("first"));
    server.push("iris");
    for topic in ["species", "again"] {
        wait::until("answers are missing", || {
            (account(&cluster.read(topic, 2, 1000)).len() == 1000).then_some(())
        });
    }
    oip::assert_setosa(&server.infer("iris", &oip::flower()));
    let listed = http::send("GET", &format!("{}/v2/streams", server.admin_url()), &[], &[]).json();
    let names: Vec<_> =
        listed["streams"].as_array().unwrap().iter().map(|stream| stream["name"].clone()).collect();
    assert_eq!(names, ["first", "second"]);
    // The client's port has none of it.
    assert_eq!(server.get("/v2/streams").status, 404);
    server.stop();
}

#[test]
fn a_server_without_streams_says_so() {
    let server = Server::with(&[]);
    let answer = http::send("GET", &format!("{}/v2/streams", server.admin_url()), &[], &[]);
    answer.assert_error(501, "--stream");
}
