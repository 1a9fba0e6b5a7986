//! The command line, run as a user runs it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::built;

/// What a command wrote, and how it ended.
pub struct Outcome {
    /// The exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    line: String,
}

impl Outcome {
    /// Checks the exit code.
    pub fn expect(&self, code: i32) -> &Self {
        let Self { code: got, stdout, stderr, line } = self;
        assert!(*got == code, "`{line}` ended with {got}, not {code}\n{stdout}{stderr}");
        self
    }
}

/// Runs `vespid` in a folder, with variables of the environment.
#[must_use]
pub fn vespid<S: AsRef<OsStr>>(folder: &Path, variables: &[(&str, &str)], arguments: &[S]) -> Outcome {
    let mut command = Command::new(built::vespid());
    command.env_remove("VESPID_SERVER").env_remove("VESPID_LOG").envs(variables.iter().copied());
    command.current_dir(folder).args(arguments);
    run(command)
}

/// Runs a command to its end.
#[must_use]
pub fn run(mut command: Command) -> Outcome {
    let line = format!("{command:?}");
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{line} does not start: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Outcome { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr), line }
}
