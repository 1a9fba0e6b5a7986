//! A `vespid serve` that ends with the value that stands for it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::{mem, thread};

use tempfile::TempDir;

use crate::http::{self, Answer};
use crate::{built, oip, wait};

/// A port that the system chooses.
pub const FREE: &str = "127.0.0.1:0";

/// Arguments that let the system choose all ports.
pub const FREE_PORTS: &[&str] = &["--http", FREE, "--grpc", FREE, "--admin", FREE];

/// How much of a server's log a failed test shows.
const SHOWN: usize = 100;

/// A folder for a server's packages and its log, which outlives the servers that are started on it.
pub struct Home {
    folder: TempDir,
    store: PathBuf,
}

/// A running server. Dropping it kills it, and shows its log where a test fails.
pub struct Server {
    child: Child,
    http: String,
    grpc: String,
    admin: String,
    log: PathBuf,
    /// Kept where the server alone uses it.
    home: Option<Home>,
}

impl Default for Home {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        Self { folder, store }
    }
}

impl Home {
    /// One whose packages are elsewhere; it is to be started with `--cache`.
    #[must_use]
    pub fn of(url: &str) -> Self {
        Self { store: url.into(), ..Self::default() }
    }

    /// The folder of the packages.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.store.clone()
    }

    /// A folder for what is kept here of packages that are elsewhere.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Where the store keeps what a file of a version holds.
    #[must_use]
    pub fn blob(&self, model: &str, version: &str, file: &str) -> PathBuf {
        let record = fs::read(self.store.join("models").join(model).join(format!("{version}.json"))).unwrap();
        self.store.join(blob_path(&record, file))
    }

    /// Starts a server on it and waits until it is ready.
    #[must_use]
    pub fn start(&self) -> Server {
        self.start_with(&[])
    }

    /// The same, with further arguments.
    #[must_use]
    pub fn start_with(&self, arguments: &[&str]) -> Server {
        self.start_in(arguments, &[])
    }

    /// The same, with further variables of the environment.
    #[must_use]
    pub fn start_in(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        let log = self.log();
        let mut child = serve(&self.store(), &[FREE_PORTS, arguments].concat())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let lines = lines(&mut child);
        let [http, grpc, admin] = [(); 3].map(|()| String::new());
        let mut server = Server { child, http, grpc, admin, log, home: None };
        let line = lines.recv_timeout(wait::LIMIT).expect("the server says where it listens");
        let words: Vec<&str> = line.split_whitespace().collect();
        let address = |word: &str, name: &str| word.strip_prefix(name).expect(&line).to_owned();
        assert!(words.len() == 4 && words[0] == "listening", "{line}");
        server.http = address(words[1], "http=");
        server.grpc = address(words[2], "grpc=");
        server.admin = address(words[3], "admin=");
        wait::until("the server is ready", || {
            let ready = http::send("GET", &(server.admin_url() + "/v2/health/ready"), &[], &[]);
            (ready.status == 200).then_some(())
        });
        server
    }
}

impl Home {
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Where a store keeps what a file of a version holds, of which this is the record.
#[must_use]
pub fn blob_path(record: &[u8], file: &str) -> String {
    let record: serde_json::Value = serde_json::from_slice(record).unwrap();
    let layers = record["layers"].as_array().unwrap();
    let title = |layer: &&serde_json::Value| layer["annotations"]["org.opencontainers.image.title"] == file;
    let layer = layers.iter().find(title).unwrap_or_else(|| panic!("no {file} in {record}"));
    format!("blobs/{}", layer["digest"].as_str().unwrap().replace(':', "/"))
}

/// `vespid serve`, not yet started.
#[must_use]
pub fn serve(store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(built::vespid());
    command.args(["serve", "--store"]).arg(store).args(arguments);
    // The same backend on every machine; a test that wants another names its library.
    command.env("VESPID_ONNXRUNTIME", "off").env("VESPID_OPENVINO", "off");
    for variable in [
        "VESPID_LOG",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_SERVICE_NAME",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT",
        "AWS_ENDPOINT_URL",
        "AWS_PROFILE",
        "AWS_REGION",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// The lines of its standard output, read to the end so that it never waits for a reader.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // After the first line nobody listens.
            let _ = sender.send(line);
        }
    });
    receiver
}

impl Server {
    /// A server with a store of its own, to which the packages built from the folders `models` have been pushed.
    #[must_use]
    pub fn with(models: &[&str]) -> Self {
        Self::configured(&[], models)
    }

    /// The same, with further arguments.
    #[must_use]
    pub fn configured(arguments: &[&str], models: &[&str]) -> Self {
        let home = Home::default();
        let mut server = home.start_with(arguments);
        for model in models {
            server.push(model);
        }
        server.home = Some(home);
        server
    }

    /// The same, which keeps its home for as long as it is there.
    #[must_use]
    pub fn at(mut self, home: Home) -> Self {
        self.home = Some(home);
        self
    }

    /// Where clients reach it, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.http
    }

    /// Where clients that speak gRPC reach it, as a URL.
    #[must_use]
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The URL of the port for probes.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The folder of its packages, where it has one of its own.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.home.as_ref().expect("a server with a home of its own").store()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// How many bytes of memory it has resident.
    #[must_use]
    pub fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running server");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// GETs a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        http::send("GET", &(self.url() + path), &[], &[])
    }

    /// Sends JSON to a path.
    #[must_use]
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        let body = serde_json::to_vec(body).unwrap();
        http::send("POST", &(self.url() + path), &[("content-type", "application/json")], &body)
    }

    /// Sends anything to a path.
    #[must_use]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        http::send(method, &(self.url() + path), headers, body)
    }

    /// Asks a model.
    #[must_use]
    pub fn infer(&self, model: &str, request: &serde_json::Value) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), request)
    }

    /// Asks the hostile plugin `loop`, on a server that takes one call at a time, until it takes this one.
    #[must_use]
    pub fn looping(&self) -> Answer {
        self.try_looping().unwrap()
    }

    /// The same, where the server may end meanwhile.
    ///
    /// # Errors
    /// What the connection came to.
    pub fn try_looping(&self) -> Result<Answer, ureq::Error> {
        let url = self.url() + "/v2/models/loop/infer";
        let body = serde_json::to_vec(&oip::kind(0)).unwrap();
        loop {
            let answer = http::try_send("POST", &url, &[], &body)?;
            if answer.status != 503 {
                return Ok(answer);
            }
        }
    }

    /// Waits until a server that takes one call at a time, and has `iris`, has one.
    pub fn wait_until_busy(&self) {
        let busy = || (self.infer("iris", &oip::flower()).status == 503).then_some(());
        wait::until("the server is busy", busy);
    }

    /// Uploads a package.
    #[must_use]
    pub fn upload(&self, model: &str, version: &str, package: &[u8]) -> Answer {
        self.send("PUT", &repository_path(model, version), &[], package)
    }

    /// Removes a version.
    #[must_use]
    pub fn delete(&self, model: &str, version: &str) -> Answer {
        self.send("DELETE", &repository_path(model, version), &[], &[])
    }

    /// Uploads version 1 of the package that was built from the folder `model`.
    pub fn push(&self, model: &str) {
        let package = fs::read(built::package(model)).unwrap();
        // Triton's models have an underscore in their names, where folders have a dash.
        let name = if model.starts_with("simple") || model.starts_with("repeat") {
            model.replace('-', "_")
        } else {
            model.to_owned()
        };
        let answer = self.upload(&name, "1", &package);
        assert_eq!(answer.status, 201, "{answer}");
    }

    /// The repository's index: `NAME VERSION STATE` and the reason, a line each.
    #[must_use]
    pub fn index(&self) -> Vec<String> {
        let answer = self.send("POST", "/v2/repository/index", &[], &[]);
        assert_eq!(answer.status, 200, "{answer}");
        let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap().to_owned();
        let line = |entry| ["name", "version", "state", "reason"].map(|key| text(entry, key)).join(" ");
        answer.json().as_array().unwrap().iter().map(|entry| line(entry).trim_end().to_owned()).collect()
    }

    /// Asks it to end, as a service manager does.
    pub fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    /// Waits until it has ended.
    #[must_use]
    pub fn wait(mut self) -> ExitStatus {
        wait::until("the server ends", || self.child.try_wait().unwrap())
    }

    /// Asks it to end, and sees that it does so in good order.
    pub fn stop(self) {
        self.terminate();
        let log = self.log.clone();
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", tail(&log));
    }

    /// Ends it without asking.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let how = ended.map(|status| format!(", which had ended: {status}")).unwrap_or_default();
            eprintln!("--- log of the server{how}\n{}---", tail(&self.log));
        }
        mem::drop(self.home.take());
    }
}

fn tail(log: &Path) -> String {
    let log = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].iter().fold(String::new(), |text, line| text + line + "\n")
}

/// The path of a version in the repository.
#[must_use]
pub fn repository_path(model: &str, version: &str) -> String {
    format!("/v2/repository/models/{model}/versions/{version}")
}

fn signal(process: u32, name: &str) {
    // Of a shell, for `kill` as a program is not on every machine, and std can only end a process abruptly.
    let arguments = ["-c", "kill -s \"$1\" \"$2\"", "sh", name];
    assert!(Command::new("sh").args(arguments).arg(process.to_string()).status().unwrap().success());
}
