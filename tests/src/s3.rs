//! A server with S3's interface, one bucket in it, and a way to it that can be cut.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{built, wait};

/// The keys of somebody who may do everything.
const KEY: &str = "vespid";
const SECRET: &str = "secret-of-the-tests";
const REGION: &str = "us-east-1";

const BUCKET: &str = "models";

/// How often other ports are tried where somebody took one of them in between.
const ATTEMPTS: usize = 5;

/// A running server with an empty bucket. Dropping it ends it.
pub struct S3 {
    child: Child,
    command: Command,
    folder: TempDir,
    port: u16,
    bucket: AmazonS3,
    runtime: Runtime,
}

impl S3 {
    /// Starts one and waits until it answers.
    #[must_use]
    pub fn start() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().unwrap());
        (0..ATTEMPTS).find_map(|_| Self::try_start()).expect("the S3 server does not start")
    }

    fn try_start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("data")).unwrap();
        let identity = serde_json::json!({"identities": [{
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        fs::write(path("s3.json"), identity.to_string()).unwrap();
        let mut ports = free_ports();
        let port = ports[0];
        let log = File::create(path("log")).unwrap();
        let mut command = Command::new(built::s3());
        command.args(["-logtostderr", "server", "-filer", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
        // What it has no use for here: other interfaces, and room for more than the tests put into it.
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]);
        command.args(["-master.volumeSizeLimitMB=128", "-volume.max=8"]);
        for name in [
            "s3",
            "s3.port.grpc",
            "filer",
            "filer.port.grpc",
            "volume",
            "volume.port.grpc",
            "master",
            "master.port.grpc",
        ] {
            let name = if name.contains('.') { name.to_owned() } else { format!("{name}.port") };
            command.arg(format!("-{name}={}", ports.pop_front().unwrap()));
        }
        command.arg(format!("-dir={}", path("data").display()));
        command.arg(format!("-s3.config={}", path("s3.json").display()));
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let bucket = AmazonS3Builder::new()
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_allow_http(true)
            .with_bucket_name(BUCKET)
            .with_region(REGION)
            .with_access_key_id(KEY)
            .with_secret_access_key(SECRET)
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut s3 = Self { child, command, folder, port, bucket, runtime };
        s3.wait_until_ready().then_some(s3)
    }

    /// The first object makes the bucket. Whether there is a server at last.
    fn wait_until_ready(&mut self) -> bool {
        wait::until("the S3 server answers", || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let path = Path::from("first");
            let put = self.runtime.block_on(self.bucket.put(&path, "x".into()));
            put.and_then(|_| self.runtime.block_on(self.bucket.delete(&path))).is_ok().then_some(true)
        })
    }

    /// Ends it, leaves it away for a while, and starts it again on what it had.
    pub fn restart(&mut self, away: Duration) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        thread::sleep(away);
        self.child = self.command.spawn().unwrap();
        assert!(self.wait_until_ready(), "the S3 server does not start again");
    }

    /// A place in its bucket.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// What a client is told of it by its environment.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        self.environment_by(self.port)
    }

    /// The same, where it is reached by another port.
    #[must_use]
    pub fn environment_by(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ]
    }

    /// Puts an object.
    pub fn put(&self, path: &str, content: &[u8]) {
        let path = Path::from(path);
        self.runtime.block_on(self.bucket.put(&path, content.to_vec().into())).unwrap();
    }

    /// What an object holds.
    #[must_use]
    pub fn get(&self, path: &str) -> Vec<u8> {
        let get = async { self.bucket.get(&Path::from(path)).await?.bytes().await };
        self.runtime.block_on(get).unwrap().to_vec()
    }

    /// Deletes an object.
    pub fn delete(&self, path: &str) {
        self.runtime.block_on(self.bucket.delete(&Path::from(path))).unwrap();
    }

    /// The names of all objects whose names begin with a folder's.
    #[must_use]
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let list = self.bucket.list(Some(&Path::from(prefix))).try_collect();
        let objects: Vec<ObjectMeta> = self.runtime.block_on(list).unwrap();
        let mut names: Vec<String> = objects.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        names
    }

    /// A way to it that can be cut.
    #[must_use]
    pub fn proxy(&self) -> Proxy {
        Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let errors: Vec<&str> = log.lines().filter(|line| line.starts_with(['E', 'F'])).collect();
            eprintln!("--- errors of the S3 server\n{}\n---", errors.join("\n"));
        }
    }
}

/// Ports that nobody has at the moment.
fn free_ports() -> VecDeque<u16> {
    let free: Vec<TcpListener> =
        (0..8).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    free.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Hands connections on, counts what goes each way, and stops where it is told to.
pub struct Proxy {
    port: u16,
    shared: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    up: Direction,
    down: Direction,
}

struct Direction {
    passed: AtomicUsize,
    /// After how many bytes nothing more goes through.
    limit: AtomicUsize,
    /// How often the connection is then cut, and left without a word where it is not.
    cuts: AtomicUsize,
    /// How many bytes go through between two cuts.
    step: AtomicUsize,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            passed: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            cuts: AtomicUsize::new(0),
            step: AtomicUsize::new(0),
        }
    }
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Counts>::default();
        let counts = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                pass(
                    client.try_clone().unwrap(),
                    server.try_clone().unwrap(),
                    Arc::clone(&counts),
                    |counts| &counts.up,
                );
                pass(server, client, Arc::clone(&counts), |counts| &counts.down);
            }
        });
        Self { port, shared }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many bytes have come down since this was asked last.
    #[must_use]
    pub fn take_down(&self) -> usize {
        self.shared.down.passed.swap(0, Ordering::SeqCst)
    }

    /// Lets so many more bytes come down, and then nothing.
    pub fn stall_down(&self, bytes: usize) {
        self.shared.down.limit_to(bytes, 0);
    }

    /// Lets so many more bytes go up, and then nothing.
    pub fn stall_up(&self, bytes: usize) {
        self.shared.up.limit_to(bytes, 0);
    }

    /// Cuts the connection so often, each time that so many more bytes have come down.
    pub fn cut_down(&self, bytes: usize, times: usize) {
        self.shared.down.limit_to(bytes, times);
    }

    /// Lets everything through again, on new connections.
    pub fn open(&self) {
        self.shared.up.limit_to(usize::MAX, 0);
        self.shared.down.limit_to(usize::MAX, 0);
    }

    /// Whether a limit has been reached.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        [&self.shared.up, &self.shared.down]
            .iter()
            .any(|direction| direction.limit.load(Ordering::SeqCst) == 0)
    }
}

impl Direction {
    fn limit_to(&self, bytes: usize, cuts: usize) {
        self.cuts.store(cuts, Ordering::SeqCst);
        self.step.store(bytes, Ordering::SeqCst);
        self.limit.store(bytes, Ordering::SeqCst);
    }

    /// Whether the connection is to be cut here, and then not before so many bytes again.
    fn cut(&self) -> bool {
        let cut = self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |cuts| cuts.checked_sub(1));
        let Ok(cuts) = cut else { return false };
        let next = if cuts > 1 { self.step.load(Ordering::SeqCst) } else { usize::MAX };
        self.limit.store(next, Ordering::SeqCst);
        true
    }

    /// How many of these bytes may go through.
    fn allowed(&self, bytes: usize) -> usize {
        let take = |limit: usize| Some(if limit == usize::MAX { limit } else { limit - limit.min(bytes) });
        let before = self.limit.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap();
        let allowed = before.min(bytes);
        self.passed.fetch_add(allowed, Ordering::SeqCst);
        allowed
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counts: Arc<Counts>, direction: fn(&Counts) -> &Direction) {
    thread::spawn(move || {
        let direction = direction(&counts);
        let mut buffer = vec![0; 16 << 10];
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let allowed = direction.allowed(length);
            if to.write_all(&buffer[..allowed]).is_err() {
                break;
            }
            if allowed == length {
                continue;
            }
            if direction.cut() {
                break;
            }
            // Until somebody ends it, or everything is let through again: but not on this connection.
            while direction.limit.load(Ordering::SeqCst) != usize::MAX {
                thread::sleep(Duration::from_millis(20));
            }
            break;
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
