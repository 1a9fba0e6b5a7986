//! A pod of the node: what it is, what becomes of it, and its process.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::super::address::Address;
use super::super::process::Process;

/// A pod, which its own thread, the node's and the test's look at.
pub(super) struct Pod {
    manifest: Value,
    address: Address,
    folder: PathBuf,
    /// Set when it is to end: how long it may take.
    grace: Mutex<Option<Duration>>,
    /// The cluster has it no more.
    gone: AtomicBool,
    process: Mutex<Option<Running>>,
}

struct Running {
    process: Process,
    id: u32,
}

impl Pod {
    /// One that has nothing yet but a folder.
    pub(super) fn new(manifest: &Value, folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        Self {
            manifest: manifest.clone(),
            address: Address::claim(),
            folder,
            grace: Mutex::default(),
            gone: AtomicBool::new(false),
            process: Mutex::default(),
        }
    }

    pub(super) fn manifest(&self) -> &Value {
        &self.manifest
    }

    pub(super) fn container(&self) -> &Value {
        &self.manifest["spec"]["containers"][0]
    }

    pub(super) fn name(&self) -> &str {
        self.manifest["metadata"]["name"].as_str().unwrap()
    }

    pub(super) fn namespace(&self) -> &str {
        self.manifest["metadata"]["namespace"].as_str().unwrap()
    }

    /// Where the API server has it.
    pub(super) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace(), self.name())
    }

    pub(super) fn ip(&self) -> Ipv4Addr {
        self.address.ip()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name()))
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Takes note of what the cluster says of it.
    pub(super) fn observe(&self, manifest: &Value) {
        let metadata = &manifest["metadata"];
        if metadata["deletionTimestamp"].is_string() {
            let seconds = metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or(30);
            self.grace.lock().unwrap().get_or_insert(Duration::from_secs(seconds));
        }
    }

    /// How long it may take to end, where it is to.
    pub(super) fn grace(&self) -> Option<Duration> {
        *self.grace.lock().unwrap()
    }

    pub(super) fn lose(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Starts its process.
    pub(super) fn start(&self, command: &mut Command) {
        let process = Process::start(command, &self.log_file());
        let id = process.id();
        *self.process.lock().unwrap() = Some(Running { process, id });
    }

    /// How its process ended, once.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        let mut process = self.process.lock().unwrap();
        let status = process.as_mut()?.process.ended()?;
        *process = None;
        Some(status)
    }

    /// Kills its process and what that has started.
    pub(super) fn kill(&self) {
        if let Some(running) = &*self.process.lock().unwrap() {
            send("KILL", &format!("-{}", running.id));
        }
    }

    /// Sends a signal to its process.
    pub(super) fn signal(&self, name: &str) {
        if let Some(running) = &*self.process.lock().unwrap() {
            send(name, &running.id.to_string());
        }
    }
}

fn send(signal: &str, to: &str) {
    // Of a shell, for `kill` as a program is not on every machine, and std can only end a process abruptly. It may have ended.
    let arguments = ["-c", "kill -s \"$1\" -- \"$2\"", "sh", signal, to];
    let _ = Command::new("sh").args(arguments).stderr(Stdio::null()).status();
}
