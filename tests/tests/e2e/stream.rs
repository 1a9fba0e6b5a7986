//! Streams over real brokers, and one that fails as it is told.

mod bad;
mod broker;
mod files;
mod kafka;
mod kills;
mod nats;
mod poison;
mod serve;
mod voice;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_tests::http::Answer;
use vespid_tests::{built, http, wait};

/// A folder with streams, and the processes that run them.
struct Desk {
    folder: TempDir,
}

impl Default for Desk {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
}

impl Desk {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a stream: YAML is what JSON is, and more.
    fn stream(&self, name: &str, spec: &Value) -> PathBuf {
        let path = self.path(&format!("{name}.yaml"));
        fs::write(&path, spec.to_string()).unwrap();
        path
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(built::vespid());
        command.env_remove("VESPID_LOG").current_dir(self.folder.path());
        command.arg("stream").arg("--config").arg(config);
        command
    }

    /// Starts a stream, and waits until its model is loaded.
    fn start(&self, config: &Path) -> Stream {
        let mut stream = self.open(config);
        wait::until("the stream's model is loaded", || {
            let ended = stream.child.try_wait().unwrap().is_some();
            (ended || stream.ask("GET", "/v2/health/ready").status == 200).then_some(())
        });
        stream
    }

    /// Starts a stream, and waits until its admin port is open.
    fn open(&self, config: &Path) -> Stream {
        let log = self.path(&format!("{}-{}.log", config.file_stem().unwrap().display(), number()));
        let mut child = self
            .command(config)
            .args(["--admin", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let admin = line.trim().strip_prefix("listening admin=").unwrap_or_else(|| {
            panic!("it does not start: {line}{}", fs::read_to_string(&log).unwrap_or_default())
        });
        Stream { child, admin: format!("http://{admin}"), log }
    }
}

fn number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A running stream. Dropping it kills it, and shows its log where a test fails.
struct Stream {
    child: Child,
    admin: String,
    log: PathBuf,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- {}\n{}", self.log.display(), lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

impl Stream {
    fn ask(&self, method: &str, path: &str) -> Answer {
        http::send(method, &format!("{}{path}", self.admin), &[], &[])
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path).json()
    }

    fn status(&self, name: &str) -> Value {
        self.get(&format!("/v2/streams/{name}"))
    }

    fn metric(&self, line: &str) -> f64 {
        let text = String::from_utf8(self.ask("GET", "/metrics").body).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("there is no {line} in\n{text}"))
    }

    /// Waits until nothing is left to do, and so many messages are done.
    fn wait_for(&self, name: &str, committed: u64) {
        wait::until("the stream does not catch up", || {
            let done = self.metric(&format!("vespid_stream_committed{{stream=\"{name}\"}}"));
            (done >= committed as f64).then_some(())
        });
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has it drain; its exit code.
    fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// What makes the input of `iris` of four fields.
fn measurements() -> Value {
    json!({"measurements": ["a", "b", "c", "d"]})
}

/// A flower that is like no other of the first ten thousand.
fn flower(id: u64) -> String {
    let part = |step: u64, base: f64| base + ((id / step) % 10) as f64 / 10.0;
    json!({"id": id, "a": part(1, 5.0), "b": part(10, 2.5), "c": part(100, 1.0), "d": part(1000, 0.2)})
        .to_string()
}

fn package(name: &str) -> String {
    built::package(name).display().to_string()
}
