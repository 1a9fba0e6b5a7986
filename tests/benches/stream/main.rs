//! Streams beside the same loop without a model, and beside a Python consumer with onnxruntime.
//!
//! Messages are on the broker before a side begins, which is a process of its own (the loop without a model a thread of this one) and is
//! measured from its start until as many answers are on the broker. The sides are run in turn; the ratio of each round is taken,
//! and of these the median. Then messages are sent at half the rate of the loop, and the time is told from the timestamp of
//! each until its answer was read.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench"
)]

#[path = "../../tests/e2e/stream/broker.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod broker;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use comfy_table::Table;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use vespid_tests::built;

use broker::{Cluster, Kafka, Sent};

const PARTITIONS: i32 = 4;

/// Streams beside a loop without a model, and a Python consumer.
#[derive(Debug, Parser)]
struct Args {
    /// Messages of `iris`
    #[arg(long, default_value_t = 200_000)]
    flowers: usize,
    /// Messages of `file-type`
    #[arg(long, default_value_t = 2000)]
    files: usize,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long messages are sent at half the rate
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// A Python with what tests/python/stream_loop.py lists
    #[arg(long, env = "VESPID_BENCH_PYTHON")]
    python: PathBuf,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A model, its messages, and how it is asked.
struct Case {
    model: &'static str,
    codec: &'static str,
    inputs: Value,
    messages: Vec<Vec<u8>>,
}

fn iris(count: usize) -> Case {
    let flower = |id: usize| {
        let part = |step: usize, base: f64| base + ((id / step) % 10) as f64 / 10.0;
        json!({"id": id, "a": part(1, 5.0), "b": part(10, 2.5), "c": part(100, 1.0), "d": part(1000, 0.2)})
    };
    Case {
        model: "iris",
        codec: "json",
        inputs: json!({"measurements": ["a", "b", "c", "d"]}),
        messages: (0..count).map(|id| flower(id).to_string().into_bytes()).collect(),
    }
}

fn file_type(count: usize) -> Case {
    let file = |id: usize| match id % 3 {
        0 => format!(
            "<!DOCTYPE html><html><body><p>{id}</p><ul>{}</ul></body></html>",
            "<li>item</li>".repeat(20)
        ),
        1 => json!({"id": id, "values": vec![id; 60]}).to_string(),
        _ => {
            format!("def number():\n    return {id}\n\n\nfor step in range(10):\n    print(step, number())\n")
        }
    };
    Case {
        model: "file-type",
        codec: "raw",
        inputs: json!({}),
        messages: (0..count).map(|id| file(id).into_bytes()).collect(),
    }
}

/// A broker that has the messages.
struct Desk {
    kafka: Kafka,
    folder: tempfile::TempDir,
    python: PathBuf,
    runs: usize,
}

impl Desk {
    fn cluster(&self) -> &Cluster {
        &self.kafka.cluster
    }

    /// A topic for answers that nobody has written to.
    fn out(&mut self) -> String {
        self.runs += 1;
        let topic = format!("out-{}", self.runs);
        self.cluster().topics(&[&topic], PARTITIONS);
        topic
    }

    fn consumer(&self, topic: &str, at: Offset) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.cluster().brokers).set("group.id", "bench");
        let consumer: BaseConsumer = config.set("enable.auto.commit", "false").create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, at).unwrap();
        }
        consumer.assign(&list).unwrap();
        consumer
    }

    /// Waits until so many answers are there.
    fn wait(&self, topic: &str, count: usize) {
        let consumer = self.consumer(topic, Offset::Beginning);
        let ends = || -> i64 {
            let end =
                |partition| consumer.fetch_watermarks(topic, partition, Duration::from_secs(5)).unwrap().1;
            (0..PARTITIONS).map(end).sum()
        };
        while ends() < count as i64 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn config(&self, case: &Case, out: &str, start: &str) -> PathBuf {
        let spec = json!({
            "name": "bench",
            "model": built::package(case.model).display().to_string(),
            "source": {
                "kafka": {"brokers": self.cluster().brokers, "topics": format!("in-{}", case.model), "group": out, "start": start},
                "codec": case.codec,
            },
            "sink": {"kafka": {"topic": out}},
            "inputs": case.inputs,
        });
        let path = self.folder.path().join(format!("{out}.yaml"));
        std::fs::write(&path, spec.to_string()).unwrap();
        path
    }

    fn vespid(&self, config: &std::path::Path) -> Child {
        let mut command = Command::new(built::vespid());
        command.args(["stream", "--onnxruntime", &built::onnxruntime(), "--config"]).arg(config);
        command.env("VESPID_LOG", "error").stdin(Stdio::null()).spawn().unwrap()
    }

    fn stream(&mut self, case: &Case) -> f64 {
        let out = self.out();
        let config = self.config(case, &out, "earliest");
        let began = Instant::now();
        let mut child = self.vespid(&config);
        self.wait(&out, case.messages.len());
        let took = began.elapsed().as_secs_f64();
        child.kill().unwrap();
        child.wait().unwrap();
        case.messages.len() as f64 / took
    }

    /// What reads and writes, and does nothing else.
    fn ceiling(&mut self, case: &Case) -> f64 {
        let out = self.out();
        let began = Instant::now();
        let consumer = self.consumer(&format!("in-{}", case.model), Offset::Beginning);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.cluster().brokers).set("enable.idempotence", "true");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
        for _ in 0..case.messages.len() {
            let message = loop {
                if let Some(message) = consumer.poll(Duration::from_secs(1)) {
                    break message.unwrap();
                }
            };
            let mut record = BaseRecord::<[u8], [u8]>::to(&out)
                .partition(message.partition())
                .payload(message.payload().unwrap());
            while let Err((_, back)) = producer.send(record) {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        case.messages.len() as f64 / began.elapsed().as_secs_f64()
    }

    fn python(&mut self, case: &Case) -> f64 {
        let out = self.out();
        let graph = match case.model {
            "iris" => built::repository("plugins/iris/iris.onnx"),
            _ => built::repository("plugins/file-type/assets/model.onnx"),
        };
        let mut command = Command::new(&self.python);
        command.arg(built::repository("tests/python/stream_loop.py")).arg(case.model).arg(graph);
        command.args([&self.cluster().brokers, &format!("in-{}", case.model), &out]);
        let began = Instant::now();
        let mut child = command.arg(case.messages.len().to_string()).spawn().unwrap();
        self.wait(&out, case.messages.len());
        let took = began.elapsed().as_secs_f64();
        child.kill().unwrap();
        child.wait().unwrap();
        case.messages.len() as f64 / took
    }

    /// The time from a message's timestamp until its answer was read, of messages that are sent at a rate: p50 and p99 in milliseconds.
    fn latency(&mut self, case: &Case, rate: f64, seconds: u64) -> (f64, f64) {
        let out = self.out();
        let config = self.config(case, &out, "latest");
        let mut child = self.vespid(&config);
        std::thread::sleep(Duration::from_secs(6));
        let consumer = self.consumer(&out, Offset::Beginning);
        let mut producing = ClientConfig::new();
        producing.set("bootstrap.servers", &self.cluster().brokers).set("linger.ms", "1");
        let producer: ThreadedProducer<DefaultProducerContext> = producing.create().unwrap();
        let topic = format!("in-{}", case.model);
        let count = (rate * seconds as f64) as usize;
        let sender = std::thread::spawn({
            let messages = case.messages.clone();
            move || {
                let began = Instant::now();
                for index in 0..count {
                    let due = began + Duration::from_secs_f64(index as f64 / rate);
                    let now = Instant::now();
                    if now < due {
                        std::thread::sleep(due - now);
                    }
                    let payload = &messages[index % messages.len()][..];
                    let record =
                        BaseRecord::<[u8], [u8]>::to(&topic).partition((index % 4) as i32).payload(payload);
                    assert!(producer.send(record).is_ok(), "the broker does not keep up");
                }
                producer.flush(Duration::from_secs(30)).unwrap();
            }
        });
        let mut times = Vec::with_capacity(count);
        while times.len() < count {
            let Some(Ok(message)) = consumer.poll(Duration::from_secs(10)) else { break };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3;
            times.push(now - message.timestamp().to_millis().unwrap() as f64);
        }
        sender.join().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(f64::NAN);
        (at(0.5), at(0.99))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args = Args::parse();
    let mut desk = Desk {
        kafka: Kafka::start(),
        folder: tempfile::tempdir().unwrap(),
        python: args.python.clone(),
        runs: 0,
    };
    let mut table = Table::new();
    table.set_header([
        "",
        "stream /s",
        "no model /s",
        "ratio",
        "python /s",
        "ratio",
        "at /s",
        "p50 ms",
        "p99 ms",
    ]);
    for case in [iris(args.flowers), file_type(args.files)] {
        let topic = format!("in-{}", case.model);
        desk.cluster().topics(&[&topic], PARTITIONS);
        let sent = case.messages.iter().enumerate();
        desk.cluster().send(&topic, sent.map(|(id, message)| Sent::new((id % 4) as i32, message.clone())));
        let rounds: Vec<[f64; 3]> =
            (0..args.rounds).map(|_| [desk.stream(&case), desk.ceiling(&case), desk.python(&case)]).collect();
        let rate = |side: usize| median(rounds.iter().map(|round| round[side]).collect());
        let ratio = |side: usize| median(rounds.iter().map(|round| round[0] / round[side]).collect());
        // Half of what the stream can do, where that is less than half of what the broker can.
        let half = rate(0).min(rate(1)) / 2.0;
        let (p50, p99) = desk.latency(&case, half, args.seconds);
        let row = [rate(0), rate(1), rate(2), half].map(|rate| format!("{rate:.0}"));
        let [stream, loop_, python, at] = row;
        let (by_loop, by_python) = (format!("{:.2}", ratio(1)), format!("{:.2}", ratio(2)));
        let (p50, p99) = (format!("{p50:.1}"), format!("{p99:.1}"));
        table.add_row([case.model.to_owned(), stream, loop_, by_loop, python, by_python, at, p50, p99]);
    }
    println!("{table}");
}
