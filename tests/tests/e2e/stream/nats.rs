//! JetStream: a durable consumer, acknowledgements, and messages that come again.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use serde_json::json;
use tokio::runtime::Runtime;
use vespid_tests::wait;

use super::broker::Nats;
use super::{Desk, flower, measurements, package};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn send(context: &jetstream::Context, ids: std::ops::Range<u64>) {
    for id in ids {
        let text = if id % 500 == 499 { "poison".to_owned() } else { flower(id) };
        drop(context.publish("flowers.field", text.into()).await.unwrap());
    }
}

async fn received(context: &jetstream::Context, subject: &str) -> Vec<jetstream::Message> {
    let stream = context.get_stream("OUT").await.unwrap();
    let config = pull::Config {
        filter_subject: subject.to_owned(),
        ack_policy: AckPolicy::None,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.fetch().max_messages(100_000).messages().await.unwrap();
    messages.map(Result::unwrap).collect().await
}

#[test]
fn messages_are_acknowledged_when_their_answers_are() {
    let nats = Nats::start();
    let runtime = runtime();
    let context = runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(&nats.url).await.unwrap());
        for (name, subjects) in [("FLOWERS", "flowers.*"), ("OUT", "out.*")] {
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![subjects.to_owned()],
                ..Default::default()
            };
            context.create_stream(config).await.unwrap();
        }
        send(&context, 0..5000).await;
        context
    });
    let desk = Desk::default();
    let config = desk.stream(
        "iris",
        &json!({
            "model": package("iris"),
            "source": {"nats": {"servers": nats.url, "stream": "FLOWERS", "ack_wait": "3s"}},
            "sink": {"nats": {"subject": "out.species", "dead_letter": "out.failed"}},
            "inputs": measurements(),
            "keep": ["id"],
            "max_rows": 16,
        }),
    );
    for kill in 0..3_u64 {
        let stream = desk.start(&config);
        std::thread::sleep(Duration::from_millis(150 + 100 * kill));
        drop(stream);
    }
    let stream = desk.start(&config);
    runtime.block_on(send(&context, 5000..6000));
    wait::until("messages are not acknowledged", || {
        let done = runtime.block_on(async {
            let stream = context.get_stream("FLOWERS").await.unwrap();
            let mut consumer: jetstream::consumer::PullConsumer = stream.get_consumer("iris").await.unwrap();
            let info = consumer.info().await.unwrap();
            info.num_pending == 0 && info.num_ack_pending == 0
        });
        done.then_some(())
    });
    assert_eq!(stream.stop(), 0);
    let (answers, failed) = runtime.block_on(async {
        (received(&context, "out.species").await, received(&context, "out.failed").await)
    });
    // What was answered twice was dropped by the server: each has its message's id.
    assert_eq!((answers.len(), failed.len()), (6000 - 12, 12));
    let mut ids: Vec<u64> = answers
        .iter()
        .map(|answer| {
            serde_json::from_slice::<serde_json::Value>(&answer.payload).unwrap()["id"].as_u64().unwrap()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6000 - 12);
    let header = |message: &jetstream::Message, name: &str| {
        message.headers.as_ref().unwrap().get(name).unwrap().as_str().to_owned()
    };
    assert!(failed.iter().all(|message| &message.payload[..] == b"poison"));
    assert!(failed.iter().all(|message| header(message, "vespid-error-class") == "decode"));
    // What was in hand of a process that was killed comes after what another has answered meanwhile.
    let mut offsets: Vec<u64> =
        failed.iter().map(|message| header(message, "vespid-offset").parse().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=12).map(|poison| poison * 500).collect::<Vec<_>>());
}
