//! A `vespid serve` that ends with the value that stands for it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::ui;

/// Enough for a machine that is busy with other things.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// What the server gets to finish its calls.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A running server on ports that the system chose.
pub(crate) struct Server {
    child: Child,
    address: Address,
}

/// What the server says once it listens.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    http: String,
    admin: String,
}

impl Server {
    /// Starts one and waits until it listens. Its log goes to a file.
    pub(crate) fn start(cx: &Context, vespid: &Path, store: &Path, log: &Path) -> Result<Self> {
        let mut command = cx.command(vespid);
        command.args(["serve", "--store"]).arg(store);
        for port in ["--http", "--grpc", "--admin"] {
            command.args([port, "127.0.0.1:0"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let child = command.spawn().with_context(|| format!("{} does not start", vespid.display()))?;
        let mut server = Self { child, address: Address { http: String::new(), admin: String::new() } };
        server.address = server
            .wait_until_ready()
            .with_context(|| format!("the server did not start; its log is {}", log.display()))?;
        Ok(server)
    }

    /// Where predictions are asked for.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address.http)
    }

    /// Where the server is administered.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.address.admin)
    }

    /// Waits until it ends by itself, or by the Ctrl-C that reaches it with this program.
    pub(crate) fn wait(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the server ended: {status}");
        }
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<Address> {
        let output = self.child.stdout.take().context("the server has no output")?;
        // The thread behind this goes on reading, so that the server never blocks on its own output.
        let lines = ui::lines(output);
        let deadline = Instant::now() + READY_LIMIT;
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(address) = Address::parse(&line) {
                return Ok(address);
            }
        }
        bail!("it ended, or said within {} s nowhere that it listens", READY_LIMIT.as_secs())
    }

    /// Asks it to end, as a service manager does, and gives it time to.
    fn stop(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // Of a shell, for `kill` as a program is not on every machine, and std can only end a process abruptly.
        let pid = self.child.id().to_string();
        Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status()?;
        let deadline = Instant::now() + STOP_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("the server ignored the request to end");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            ui::say(&format!("warning: {error:#}: killing it"));
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Address {
    fn parse(line: &str) -> Option<Self> {
        let words = line.trim().strip_prefix("listening ")?;
        let of = |name: &str| {
            let value =
                words.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.to_owned())
        };
        Some(Self { http: of("http")?, admin: of("admin")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_names_the_addresses_is_found() {
        let address =
            Address::parse("listening http=127.0.0.1:4000 grpc=127.0.0.1:4002 admin=127.0.0.1:4001\n");
        let expected = Address { http: "127.0.0.1:4000".to_owned(), admin: "127.0.0.1:4001".to_owned() };
        assert_eq!(address, Some(expected));
        assert_eq!(Address::parse("listening http=127.0.0.1:4000"), None);
        assert_eq!(Address::parse("starting"), None);
    }
}
