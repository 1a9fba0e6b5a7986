use super::*;

const SCALING: LagScaling =
    LagScaling { min_replicas: 0, max_replicas: 8, lag: 100, idle_seconds: 600, look_seconds: 300 };

/// A stream as it is looked at, second by second of a clock of its own.
struct Watched {
    scaling: LagScaling,
    memory: Memory,
    current: Option<i32>,
    now: Timestamp,
}

impl Watched {
    fn new(scaling: LagScaling) -> Self {
        Self { scaling, memory: Memory::default(), current: None, now: Timestamp::UNIX_EPOCH }
    }

    /// So much later, and this much waits.
    fn after(&mut self, seconds: i64, measured: Option<Measured>) -> i32 {
        self.now += SignedDuration::from_secs(seconds);
        let replicas = decide(&self.scaling, &mut self.memory, self.current, measured.as_ref(), self.now);
        self.current = Some(replicas);
        replicas
    }
}

fn lag(lag: i64) -> Option<Measured> {
    Some(Measured { lag, partitions: Some(6), position: 0 })
}

#[test]
fn more_pods_come_at_once_and_never_more_than_partitions() {
    let mut stream = Watched::new(SCALING);
    assert_eq!(stream.after(0, None), 1, "one, to say how much waits");
    assert_eq!(stream.after(10, lag(100)), 1);
    assert_eq!(stream.after(10, lag(101)), 2);
    assert_eq!(stream.after(10, lag(100_000)), 6);
    let nats = Measured { lag: i64::MAX, partitions: None, position: 0 };
    let mut stream = Watched { current: Some(1), ..Watched::new(SCALING) };
    assert_eq!(stream.after(10, Some(nats)), 8);
}

#[test]
fn fewer_come_one_by_one_and_not_for_a_moment_without_lag() {
    let mut stream = Watched::new(SCALING);
    stream.after(0, None);
    assert_eq!(stream.after(10, lag(400)), 4);
    assert_eq!(stream.after(10, lag(50)), 4);
    assert_eq!(stream.after(50, lag(50)), 4);
    assert_eq!(stream.after(10, lag(50)), 3, "a minute later");
    assert_eq!(stream.after(10, lag(50)), 3);
    assert_eq!(stream.after(10, lag(300)), 3, "these are needed: the minute begins anew");
    assert_eq!(stream.after(50, lag(50)), 3);
    assert_eq!(stream.after(60, lag(50)), 2);
}

#[test]
fn nobody_is_taken_away_while_the_lag_is_not_known() {
    let mut stream = Watched { current: Some(5), ..Watched::new(SCALING) };
    for _ in 0..1000 {
        assert_eq!(stream.after(10, None), 5);
    }
    let fewer = LagScaling { max_replicas: 3, ..SCALING };
    let mut stream = Watched { current: Some(5), ..Watched::new(fewer) };
    assert_eq!(stream.after(10, None), 3, "but there are no more than asked for");
}

#[test]
fn the_last_goes_when_nothing_was_answered_for_long_enough_and_one_looks_for_messages() {
    let mut stream = Watched::new(SCALING);
    stream.after(0, None);
    assert_eq!(stream.after(10, lag(0)), 1);
    assert_eq!(stream.after(590, lag(0)), 1);
    let answered = Measured { position: 7, ..lag(0).unwrap() };
    assert_eq!(
        stream.after(10, Some(answered)),
        1,
        "what is answered between two looks is no lag, but no idleness"
    );
    assert_eq!(stream.after(599, Some(answered)), 1);
    assert_eq!(stream.after(1, Some(answered)), 0);
    assert_eq!(stream.after(299, None), 0);
    assert_eq!(stream.after(1, None), 1, "it looks");
    assert_eq!(stream.after(30, None), 1, "and has not joined its group yet");
    assert_eq!(stream.after(10, lag(0)), 0, "there is nothing");
    assert_eq!(stream.after(300, None), 1);
    assert_eq!(stream.after(10, lag(3)), 1, "there is something: it stays");
    assert_eq!(stream.after(10, lag(0)), 1);
    assert_eq!(stream.after(600, lag(0)), 0);
}

#[test]
fn with_a_least_number_there_are_never_fewer() {
    let mut stream = Watched::new(LagScaling { min_replicas: 2, ..SCALING });
    assert_eq!(stream.after(0, None), 2);
    assert_eq!(stream.after(10_000, lag(0)), 2);
    assert_eq!(stream.after(10_000, lag(0)), 2);
    stream.current = Some(0);
    assert_eq!(stream.after(10, None), 2, "somebody else took them away");
}

#[test]
fn what_two_pods_tell_of_one_partition_counts_once() {
    let stream: StreamPrediction = serde_json::from_value(serde_json::json!({
        "apiVersion": "vespid.dev/v1alpha1", "kind": "StreamPrediction", "metadata": {"name": "clicks"},
        "spec": {
            "model": "iris", "sink": {"kafka": {"topic": "out"}},
            "source": {"kafka": {"brokers": ["a:9092"], "topics": ["in"]}},
        },
    }))
    .unwrap();
    let answer = |partitions: serde_json::Value, lag: Option<i64>| Answer {
        pod: "pod".to_owned(),
        said: serde_json::from_value(serde_json::json!({
            "name": "clicks", "state": "running", "reason": null, "lag": lag, "partitions": partitions,
        }))
        .unwrap(),
    };
    let partition = |number: i32, lag: i64| serde_json::json!({"topic": "in", "partition": number, "position": 5, "lag": lag});
    let one = answer(serde_json::json!([partition(0, 10), partition(1, 3)]), Some(13));
    let other = answer(serde_json::json!([partition(1, 4), partition(2, 0)]), Some(4));
    let both = Measured::of(&stream, &[one.clone(), other]);
    assert_eq!(both, Some(Measured { lag: 14, partitions: Some(3), position: 15 }));
    let silent = Answer { pod: "silent".to_owned(), said: None };
    assert_eq!(Measured::of(&stream, &[one.clone(), silent]), None);
    assert_eq!(Measured::of(&stream, &[one, answer(serde_json::json!([]), None)]), None);
    assert_eq!(Measured::of(&stream, &[]), None);
}
