//! A program that runs beside the test, writes into a log, and does not outlive the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// How much of a log a failed test shows.
const SHOWN: usize = 40;

/// A running program. Dropping it kills it, and shows the end of its log where a test fails.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

/// A command that is killed when the thread that starts it ends, however it does: a test that is killed drops nothing.
pub(super) fn bound(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Process {
    /// Starts it. What it writes is added to `log`.
    pub(super) fn start(command: &mut Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let errors = output.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// The process's number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Panics where it has ended.
    pub(super) fn assert_runs(&mut self) {
        if let Some(status) = self.ended() {
            panic!("it has ended: {status}\n{}", tail(&self.log));
        }
    }

    /// How it has ended, where it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- {}\n{}---", self.log.display(), tail(&self.log));
        }
    }
}

/// The last lines of a log, without those that Kubernetes's servers mark as information.
pub(super) fn tail(log: &Path) -> String {
    let log = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let informs = |line: &str| {
        let mark = line.strip_prefix('I').unwrap_or_default();
        mark.len() > 4 && mark.bytes().take(4).all(|byte| byte.is_ascii_digit())
    };
    let lines: Vec<&str> = log.lines().filter(|line| !informs(line)).collect();
    lines[lines.len().saturating_sub(SHOWN)..].iter().fold(String::new(), |text, line| text + line + "\n")
}
