//! Who has a lease: a process, and whether it is still there.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A process of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// What it is called, for people.
    host: String,
    /// What tells machines apart, and containers on one: this boot, and its numbering of processes. None where that cannot be told.
    machine: Option<String>,
    process: u32,
    /// When it started, in ticks of the machine; numbers of processes are used again.
    started: Option<u64>,
}

impl Holder {
    /// This process.
    pub(super) fn this() -> Self {
        static THIS: OnceLock<Holder> = OnceLock::new();
        let this = THIS.get_or_init(|| {
            let process = std::process::id();
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
            Self { host, machine: machine(), process, started: started(process) }
        });
        this.clone()
    }

    /// Whether it can be seen from here that it is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.is_of_this_machine() && started(self.process) != self.started
    }

    /// Whether it can be seen from here that it lives.
    pub(super) fn is_known_to_live(&self) -> bool {
        self.is_of_this_machine() && !self.has_ended()
    }

    fn is_of_this_machine(&self) -> bool {
        self.machine.is_some() && self.started.is_some() && self.machine == Self::this().machine
    }

    #[cfg(test)]
    pub(super) fn elsewhere() -> Self {
        Self { machine: Some("another".to_owned()), ..Self::this() }
    }

    #[cfg(test)]
    pub(super) fn of_process(process: u32, started: u64) -> Self {
        Self { process, started: Some(started), ..Self::this() }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.process, self.host)
    }
}

fn machine() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let processes = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), processes.display()))
}

/// The 22nd field of `/proc/PID/stat` (proc_pid_stat(5)); the second may have anything in it, and ends with the last parenthesis.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    // One that has ended and is not yet reaped works no more.
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}
