//! Streams that are killed at any moment, brokers that restart, and members that come and go.
//!
//! `VESPID_STREAM_MESSAGES` asks for more messages than these tests take by themselves.

use std::time::{Duration, Instant};

use rdkafka::message::OwnedMessage;
use rdkafka::mocking::MockCluster;
use serde_json::{Value, json};
use vespid_tests::random::Random;
use vespid_tests::wait;

use super::broker::{ASSIGNMENT, Cluster, Kafka, Sent, account};
use super::{Desk, Stream, flower, measurements, package};

const PARTITIONS: i32 = 4;
const KILLS: usize = 10;

fn messages(by_itself: usize) -> usize {
    std::env::var("VESPID_STREAM_MESSAGES").map_or(by_itself, |text| text.parse().unwrap())
}

fn flowers(cluster: &Cluster, from: usize, to: usize) {
    let messages = (from..to).map(|id| Sent::new((id % PARTITIONS as usize) as i32, flower(id as u64)));
    cluster.send("flowers", messages);
}

/// The member that is not killed: it comes, and leaves.
const COMES_AND_GOES: &str = "three";

/// The stream of one member. Those that are killed are known again by their names, for this broker misses none.
fn member(desk: &Desk, brokers: &str, name: &str, more: &Value) -> std::path::PathBuf {
    let mut properties = json!({"session.timeout.ms": 6000, "partition.assignment.strategy": ASSIGNMENT});
    if name != COMES_AND_GOES {
        properties["group.instance.id"] = json!(name);
    }
    let mut spec = json!({
        "name": "iris",
        "model": package("iris"),
        "source": {"kafka": {"brokers": brokers, "topics": "flowers", "group": "iris", "properties": properties}},
        "sink": {"kafka": {"topic": "species", "transactional_id": name}},
        "inputs": measurements(),
        // Small enough for the kills to come in the middle.
        "max_rows": 32,
        "drain": "5s",
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    desk.stream(name, &spec)
}

/// Kills members at random, may restart the broker once, has a third member come and go, until all messages have answers.
fn shaken(kafka: &mut Kafka, desk: &Desk, count: usize, restarts: bool, more: &Value) -> Vec<OwnedMessage> {
    kafka.cluster.topics(&["flowers", "species"], PARTITIONS);
    let brokers = kafka.cluster.brokers.clone();
    let names = ["one", "two", COMES_AND_GOES];
    let configs = names.map(|name| member(desk, &brokers, name, more));
    let mut members: Vec<Option<Stream>> =
        vec![Some(desk.start(&configs[0])), Some(desk.start(&configs[1])), None];
    let mut random = Random::new(7);
    let step = count / (KILLS + 2);
    for kill in 0..KILLS {
        flowers(&kafka.cluster, kill * step, (kill + 1) * step);
        std::thread::sleep(Duration::from_millis(100 + random.number() % 600));
        let victim = random.below(2);
        // Killed by being dropped: nothing is told.
        drop(members[victim].take());
        members[victim] = Some(desk.start(&configs[victim]));
        match kill {
            3 => members[2] = Some(desk.start(&configs[2])),
            5 if restarts => {
                // What this broker has acknowledged is on its disk after a while only: nobody sends meanwhile.
                let told = |what: &str| {
                    for member in members.iter().flatten() {
                        member.ask("POST", &format!("/v2/streams/iris/{what}"));
                    }
                };
                told("pause");
                std::thread::sleep(Duration::from_secs(3));
                kafka.restart(Duration::from_secs(2));
                told("resume");
            }
            7 => assert_eq!(members[2].take().unwrap().stop(), 0),
            _ => {}
        }
    }
    flowers(&kafka.cluster, KILLS * step, count);
    let began = Instant::now();
    let answers = loop {
        let answers = kafka.cluster.read("species", PARTITIONS, usize::MAX);
        let counts = account(&answers);
        if counts.len() == count {
            let lost = members
                .iter()
                .flatten()
                .map(|member| member.status("iris")["lag"].as_u64().unwrap_or_default())
                .sum::<u64>();
            eprintln!(
                "{count} messages, {} answers, {} of them duplicates, lag {lost}",
                answers.len(),
                answers.len() - count
            );
            break answers;
        }
        assert!(
            began.elapsed() < Duration::from_secs(600),
            "{} of {count} messages have answers",
            counts.len()
        );
    };
    for member in members.into_iter().flatten() {
        assert_eq!(member.stop(), 0);
    }
    answers
}

#[test]
fn nothing_is_lost_and_order_is_kept_by_members_that_are_killed() {
    let (mut kafka, desk) = (Kafka::start(), Desk::default());
    let count = messages(60_000);
    // Asked for by hand: after a restart this broker may leave a member waiting.
    let restarts = std::env::var_os("VESPID_STREAM_RESTART").is_some();
    // The order is seen as the answers are counted.
    shaken(&mut kafka, &desk, count, restarts, &json!({}));
}

#[test]
fn with_transactions_each_message_is_answered_once() {
    let (mut kafka, desk) = (Kafka::start(), Desk::default());
    let count = messages(60_000);
    // When this broker is started again it knows of no transaction, and would leave those open that it had: it is not restarted.
    let answers = shaken(&mut kafka, &desk, count, false, &json!({"exactly_once": true}));
    let twice: Vec<_> = account(&answers).into_iter().filter(|(_, count)| *count > 1).collect();
    assert_eq!((answers.len(), twice), (count, vec![]));
}

/// Another implementation of the protocol, whose brokers miss members that are gone.
#[test]
fn a_member_that_is_missed_is_replaced() {
    let mock = MockCluster::new(3).unwrap();
    for topic in ["flowers", "species"] {
        mock.create_topic(topic, PARTITIONS, 3).unwrap();
    }
    let cluster = Cluster { brokers: mock.bootstrap_servers() };
    let desk = Desk::default();
    let config = |name: &str| {
        let properties = json!({"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000});
        let spec = json!({
            "name": "iris",
            "model": package("iris"),
            "source": {"kafka": {"brokers": cluster.brokers, "topics": "flowers", "properties": properties}},
            "sink": {"kafka": {"topic": "species"}},
            "inputs": measurements(),
        });
        desk.stream(name, &spec)
    };
    let (first, second) = (desk.start(&config("one")), desk.start(&config("two")));
    let owned = |stream: &Stream| stream.status("iris")["partitions"].as_array().unwrap().len();
    wait::until("they are not shared", || (owned(&first) == 2 && owned(&second) == 2).then_some(()));
    flowers(&cluster, 0, 4000);
    drop(first);
    flowers(&cluster, 4000, 8000);
    wait::until("the second has not all", || (owned(&second) == 4).then_some(()));
    // One of the brokers is away for a while, in the middle of it.
    flowers(&cluster, 8000, 10_000);
    mock.broker_down(2).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    mock.broker_up(2).unwrap();
    wait::until("answers are missing", || {
        (account(&cluster.read("species", PARTITIONS, usize::MAX)).len() == 10_000).then_some(())
    });
    assert_eq!(second.stop(), 0);
}
