//! A real OCI registry on this machine, and a line to it that can be cut.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::cli::{self, Outcome};
use crate::{built, wait};

/// Docker's registry, with a folder of its own. Dropping it kills it.
pub struct Registry {
    child: Child,
    folder: TempDir,
    host: String,
}

/// What the registry takes where it asks who one is.
pub const USER: &str = "somebody";
/// See [`USER`].
pub const PASSWORD: &str = "secret";
/// As Apache's `htpasswd -B` writes it.
const HTPASSWD: &str = "somebody:$2b$04$11z6RaKrtDsSPjtHAA4eH.imXrsYRA9pdAq/1vLxDU8uz.Hkv.dCK\n";

impl Registry {
    /// One that takes and gives everything.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// One that asks for [`USER`] and [`PASSWORD`].
    #[must_use]
    pub fn locked() -> Self {
        Self::start_with("auth:\n  htpasswd:\n    realm: test\n    path: HTPASSWD\n")
    }

    fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("htpasswd"), HTPASSWD).unwrap();
        let more = more.replace("HTPASSWD", path("htpasswd").to_str().unwrap());
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n\
             http: {{addr: '127.0.0.1:0', secret: test}}\n{more}",
            path("data").display()
        );
        fs::write(path("config.yml"), config).unwrap();
        let log = File::create(path("log")).unwrap();
        let child = Command::new(built::registry())
            .arg("serve")
            .arg(path("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut registry = Self { child, folder, host: String::new() };
        registry.host = wait::until("the registry listens", || {
            let log = registry.log();
            let (_, rest) = log.split_once("listening on ")?;
            Some(rest.split_once('"')?.0.to_owned())
        });
        registry
    }

    /// Its host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A reference to what is in it, such as `models/iris:1`.
    #[must_use]
    pub fn reference(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.host)
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap()).into_owned()
    }

    /// What it was asked so far: `METHOD PATH STATUS`, a line each, without the identities of uploads.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = self.log();
        let line = |line: &str| {
            let (_, rest) = line.split_once("] \"")?;
            let (request, rest) = rest.split_once("\" ")?;
            let mut words = request.split(' ');
            let (method, path) = (words.next()?, words.next()?);
            let path = path.split_once("/uploads/").map_or(path, |(before, _)| before);
            Some(format!("{method} {path} {}", rest.split(' ').next()?))
        };
        log.lines().filter_map(line).collect()
    }

    /// How many blobs have been put into it.
    #[must_use]
    pub fn uploads(&self) -> usize {
        let put = |request: &&String| request.starts_with("PUT ") && request.contains("/blobs ");
        self.requests().iter().filter(put).count()
    }

    /// The file in which it keeps a blob or a manifest.
    #[must_use]
    pub fn file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of the registry\n{}---", self.log());
        }
    }
}

/// A user in a folder of his own: his files, his cache, and his Docker configuration.
pub struct User {
    folder: TempDir,
}

impl Default for User {
    fn default() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
}

impl User {
    /// Where his files are.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The variables of his environment.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let folder = |name: &str| self.path(name).display().to_string();
        vec![
            ("VESPID_CACHE", folder("cache")),
            ("DOCKER_CONFIG", folder("docker")),
            ("COSIGN_PASSWORD", "pass".to_owned()),
        ]
    }

    /// Runs `vespid`.
    #[must_use]
    pub fn runs(&self, arguments: &[&str]) -> Outcome {
        self.runs_with(&[], arguments)
    }

    /// The same, with further variables of the environment.
    #[must_use]
    pub fn runs_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
        let own = self.variables();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<(&str, &str)> = own.chain(variables.iter().copied()).collect();
        cli::vespid(self.folder.path(), &all, arguments)
    }

    /// Starts `vespid` and does not wait for it.
    #[must_use]
    pub fn starts(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(built::vespid());
        command.args(arguments).envs(self.variables()).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Pushes to a registry and returns the digest that was printed.
    pub fn pushes(&self, package: &Path, target: &str, more: &[&str]) -> String {
        let package = package.display().to_string();
        let pushed = self.runs(&[&["push", &package, target], more].concat());
        pushed.expect(0);
        digest(&pushed)
    }
}

/// The digest that a command printed.
#[must_use]
pub fn digest(outcome: &Outcome) -> String {
    let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("digest "));
    line.unwrap_or_else(|| panic!("no digest: {}", outcome.stdout)).trim().to_owned()
}

/// A line to a server: it hands on what comes, counts what goes back, and can be cut or stopped.
pub struct Line {
    host: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    /// Bytes that came back from the server.
    back: AtomicU64,
    /// When so many have come back, what is open is cut, once.
    cut_at: AtomicU64,
    /// When so many have come back, nothing more does.
    stop_at: AtomicU64,
    cuts: AtomicUsize,
}

impl Line {
    /// A line to `upstream`, a host with a port.
    #[must_use]
    pub fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            back: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            stop_at: AtomicU64::new(u64::MAX),
            cuts: AtomicUsize::new(0),
        });
        let own = Arc::clone(&shared);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&own);
                thread::spawn(move || shared.serve(&client));
            }
        });
        Self { host, shared }
    }

    /// Its host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A reference to what is at its other end.
    #[must_use]
    pub fn reference(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.host)
    }

    /// Has what is open cut when so many bytes have come back.
    pub fn cut_at(&self, bytes: u64) {
        self.shared.cut_at.store(bytes, Ordering::SeqCst);
    }

    /// Lets nothing through after so many bytes.
    pub fn stop_at(&self, bytes: u64) {
        self.shared.stop_at.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes have come back.
    #[must_use]
    pub fn back(&self) -> u64 {
        self.shared.back.load(Ordering::SeqCst)
    }

    /// How often it was cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(&self.upstream) else { return };
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut buffer = vec![0; 16 << 10];
                while let Ok(read @ 1..) = (&*client).read(&mut buffer) {
                    if (&server).write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
            let mut buffer = vec![0; 16 << 10];
            while let Ok(read @ 1..) = (&server).read(&mut buffer) {
                let back = self.back.fetch_add(read as u64, Ordering::SeqCst) + read as u64;
                // Until the test lets it through.
                while back > self.stop_at.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                if back > self.cut_at.load(Ordering::SeqCst) {
                    self.cut_at.store(u64::MAX, Ordering::SeqCst);
                    self.cuts.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                if (&*client).write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
    }
}
