//! Brokers that speak Kafka's protocol: noida-db as a process of its own, and librdkafka's mock cluster in this one; and nats-server.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;
use vespid_tests::{built, wait};

/// How long a topic is quiet at its end.
const QUIET: Duration = Duration::from_secs(3);

/// How partitions are shared on noida-db: where they move one by one (`cooperative-sticky`), it does not answer a member that waits for
/// its turn.
pub(super) const ASSIGNMENT: &str = "range";

/// A client of a cluster.
pub(super) struct Cluster {
    pub(super) brokers: String,
}

/// noida-db. Dropping it ends it.
pub(super) struct Kafka {
    child: Child,
    port: u16,
    folder: TempDir,
    pub(super) cluster: Cluster,
}

impl Kafka {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = spawn(&folder, port);
        Self { child, port, folder, cluster: Cluster { brokers: format!("127.0.0.1:{port}") } }
    }

    /// Ends it as an operator does, who lets it write what it has, and starts it again after a while.
    pub(super) fn restart(&mut self, away: Duration) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        self.child.wait().unwrap();
        std::thread::sleep(away);
        self.child = spawn(&self.folder, self.port);
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(folder: &TempDir, port: u16) -> Child {
    let log = File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(built::kafka());
    command.args(["start", "--only", "kafka", "--data-dir"]).arg(folder.path().join("data"));
    command.arg("--kafka-port").arg(port.to_string());
    let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    wait::until("the broker does not start", || TcpStream::connect(("127.0.0.1", port)).ok());
    child
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nats-server with JetStream. Dropping it ends it.
pub(super) struct Nats {
    child: Child,
    pub(super) url: String,
    _folder: TempDir,
}

impl Nats {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(built::nats());
        command.args(["-a", "127.0.0.1", "-js", "-sd"]).arg(folder.path().join("data"));
        command.arg("-p").arg(port.to_string());
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        wait::until("nats-server does not start", || TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, url: format!("nats://127.0.0.1:{port}"), _folder: folder }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message to send.
#[derive(Clone, Default)]
pub(super) struct Sent {
    pub(super) partition: i32,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) headers: Vec<(&'static str, Vec<u8>)>,
}

impl Sent {
    pub(super) fn new(partition: i32, payload: impl Into<Vec<u8>>) -> Self {
        Self { partition, payload: Some(payload.into()), ..Self::default() }
    }
}

impl Cluster {
    pub(super) fn topics(&self, names: &[&str], partitions: i32) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let topics: Vec<_> =
            names.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1))).collect();
        let made = admin.create_topics(&topics, &AdminOptions::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for outcome in runtime.block_on(made).unwrap() {
            outcome.unwrap();
        }
    }

    pub(super) fn send(&self, topic: &str, messages: impl IntoIterator<Item = Sent>) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create().unwrap();
        for message in messages {
            let mut headers = rdkafka::message::OwnedHeaders::new();
            for (key, value) in &message.headers {
                headers = headers.insert(rdkafka::message::Header { key, value: Some(value) });
            }
            let mut record =
                BaseRecord::<[u8], [u8]>::to(topic).partition(message.partition).headers(headers);
            record.payload = message.payload.as_deref();
            record.key = message.key.as_deref();
            while let Err((error, back)) = producer.send(record) {
                assert!(error.to_string().contains("QueueFull"), "{error}");
                record = back;
                producer.poll(Duration::from_millis(10));
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// All committed messages of a topic, until `enough` of them or until no more come.
    pub(super) fn read(&self, topic: &str, partitions: i32, enough: usize) -> Vec<OwnedMessage> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (mut messages, mut last) = (Vec::new(), Instant::now());
        while messages.len() < enough && last.elapsed() < QUIET {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    messages.push(message.detach());
                    last = Instant::now();
                }
                Some(Err(error)) => eprintln!("{error}"),
                None => {}
            }
        }
        messages
    }
}

/// A header as text.
pub(super) fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8(found.value?.to_vec()).unwrap())
}

/// Which message an answer is for: the partition and the offset.
pub(super) fn source(message: &OwnedMessage) -> (i32, i64) {
    let text = header(message, "vespid-source").unwrap();
    let (partition, offset) = text.split_once('@').unwrap();
    (partition.rsplit_once('/').unwrap().1.parse().unwrap(), offset.parse().unwrap())
}

/// How many answers there are for each message, after it was seen that first answers come in the order of their messages.
pub(super) fn account(answers: &[OwnedMessage]) -> BTreeMap<(i32, i64), usize> {
    let mut counts = BTreeMap::new();
    let mut last: BTreeMap<(i32, i32), i64> = BTreeMap::new();
    for answer in answers {
        let (partition, offset) = source(answer);
        let count: &mut usize = counts.entry((partition, offset)).or_default();
        *count += 1;
        if *count == 1 {
            let last = last.entry((answer.partition(), partition)).or_insert(-1);
            assert!(*last < offset, "{partition}@{offset} came after {partition}@{last}");
            *last = offset;
        }
    }
    counts
}
