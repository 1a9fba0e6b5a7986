//! What the chores show: a line for each step, and what the step is at while it runs.
//!
//! Everything goes to standard error, as cargo's own messages do, so that the two keep their order.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long to wait for a line before looking at the clock.
const TICK: Duration = Duration::from_millis(100);
/// A live line must not wrap, for a wrapped one is not overwritten.
const WIDTH: usize = 79;
/// What is shown of a failed command where its lines were overwritten.
const TAIL: usize = 30;
const SPINNER: [&str; 4] = ["⠋", "⠙", "⠴", "⠦"];

/// How a step ended.
pub(crate) enum Outcome {
    AlreadyThere,
    Done,
}

/// A step while it runs.
pub(crate) struct Step<'a> {
    name: &'a str,
    started: Instant,
    live: bool,
    last: String,
}

/// Prints a line. A reader that went away is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Runs `work` and prints how it ended.
pub(crate) fn step(name: &str, work: impl FnOnce(&mut Step<'_>) -> Result<Outcome>) -> Result<()> {
    let live = io::stderr().is_terminal();
    let mut step = Step { name, started: Instant::now(), live, last: String::new() };
    let result = work(&mut step);
    step.clear();
    let took = elapsed(step.started.elapsed());
    match result {
        Ok(Outcome::AlreadyThere) => say(&format!("✓ {name} (already there)")),
        Ok(Outcome::Done) => say(&format!("✓ {name} ({took})")),
        Err(error) => {
            say(&format!("✗ {name} ({took})"));
            return Err(error);
        }
    }
    Ok(())
}

/// Runs a command that writes to the terminal itself, as one step.
pub(crate) fn step_inherited(name: &str, command: Command) -> Result<()> {
    step(name, |step| {
        step.plain(&format!("{name}: {}", shown(&command)));
        run_inherited(command)?;
        Ok(Outcome::Done)
    })
}

/// Runs a command that writes to the terminal itself.
pub(crate) fn run_inherited(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("`{}` does not start", shown(&command)))?;
    check(&shown(&command), Some(status))
}

impl Step<'_> {
    /// Says what the step is at.
    pub(crate) fn note(&mut self, line: &str) {
        line.trim().clone_into(&mut self.last);
        self.draw();
        self.plain(line);
    }

    /// Runs a command and shows its lines.
    pub(crate) fn run(&mut self, command: Command) -> Result<()> {
        let name = shown(&command);
        let mut tail = VecDeque::new();
        let status = self.follow(command, None, |step, line| {
            step.note(&line);
            tail.push_back(line);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        })?;
        let result = check(&name, status);
        if result.is_err() && self.live {
            self.clear();
            tail.iter().for_each(|line| say(&format!("  {line}")));
        }
        result
    }

    /// Runs a command that may fail or take longer than `limit` without harm; whether it succeeded.
    pub(crate) fn attempt(&mut self, command: Command, limit: Duration) -> Result<bool> {
        let status = self.follow(command, Some(limit), |step, line| step.last = line)?;
        Ok(status.is_some_and(|status| status.success()))
    }

    /// Hands over the command's lines until it ends. Past the limit it is killed, and there is no status.
    fn follow(
        &mut self,
        command: Command,
        limit: Option<Duration>,
        mut on_line: impl FnMut(&mut Self, String),
    ) -> Result<Option<ExitStatus>> {
        let (mut child, lines) = spawn(command)?;
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            match lines.recv_timeout(TICK) {
                Ok(line) => on_line(self, line),
                Err(RecvTimeoutError::Disconnected) => return Ok(Some(child.wait()?)),
                // A background process that it left behind may hold the pipe open.
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = child.try_wait()? {
                        return Ok(Some(status));
                    }
                }
            }
            self.draw();
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
        }
    }

    fn plain(&self, line: &str) {
        if !self.live {
            say(&format!("  {}", line.trim_end()));
        }
    }

    fn draw(&self) {
        if !self.live {
            return;
        }
        let seconds = self.started.elapsed();
        let frame = usize::try_from(seconds.as_millis() / 250).unwrap_or_default() % SPINNER.len();
        let spinner = SPINNER.get(frame).copied().unwrap_or_default();
        let line = format!("{spinner} {} ({}) {}", self.name, elapsed(seconds), self.last);
        let line: String = line.chars().filter(|c| !c.is_control()).take(WIDTH).collect();
        let mut terminal = io::stderr().lock();
        let _ = write!(terminal, "\r\x1b[2K{line}").and_then(|()| terminal.flush());
    }

    fn clear(&self) {
        if self.live {
            let _ = write!(io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// Starts a command whose output and errors come as lines, in the order in which it wrote them.
fn spawn(mut command: Command) -> Result<(Child, Receiver<String>)> {
    let (reader, writer) = io::pipe().context("no pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("no pipe")?).stderr(writer);
    let child = command.spawn().with_context(|| format!("`{}` does not start", shown(&command)))?;
    // It still holds the pipe's writing end, without which the reader would see no end of it.
    drop(command);
    Ok((child, lines(reader)))
}

/// The lines of a stream, read by a thread of their own.
pub(crate) fn lines(reader: impl io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            // A receiver that is gone must not stop the reading: the writer would block on a full pipe.
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    receiver
}

fn check(name: &str, status: Option<ExitStatus>) -> Result<()> {
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`{name}` failed: {status}"),
        None => bail!("`{name}` took too long and was stopped"),
    }
}

/// A command as one would type it, near enough to read.
fn shown(command: &Command) -> String {
    let program = command.get_program().display().to_string();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    command.get_args().fold(program, |line, argument| format!("{line} {}", argument.display()))
}

fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
