//! `vespid doctor`: what is here and what is missing, and what to do about it.

mod backends;
mod machine;

use clap::Args;
use comfy_table::Cell;
use serde::Deserialize;
use vespid_engine::{Engine, EngineOptions};
use vespid_toolchain::{GuestTarget, GuestToolchain, Rustc, Tool, ToolchainError};

use crate::client::{Client, ServerUrl};
use crate::failure::Failure;
use crate::serve::DEFAULT_MAX_INSTANCES;
use crate::ui::{self, BAD, GOOD, WARN};
use crate::{onnxruntime, openvino};

const AFTER_HELP: &str = "\
Examples:
  vespid doctor
  vespid doctor --server https://models.example

Ends with exit code 1 where something is missing without which no model can be served, or --server names a server \
that is not ready. A missing compiler is a warning: it takes one to build plugins and not to serve them.";

/// Check what this machine has for serving models and building plugins
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DoctorArgs {
    /// A server to reach too
    #[arg(long, value_name = "URL", env = "VESPID_SERVER", hide_env = true)]
    server: Option<ServerUrl>,
    #[command(flatten)]
    onnxruntime: onnxruntime::Choice,
    #[command(flatten)]
    openvino: openvino::Choice,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    /// Serving works without.
    Warn,
    /// Serving does not work without.
    Missing,
}

/// One line of the report.
#[derive(Debug)]
struct Check {
    name: &'static str,
    state: State,
    detail: String,
    /// What to do, where there is something to do.
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), remedy: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Warn, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Missing, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let mut checks = vec![
        Check::ok("vespid", env!("CARGO_PKG_VERSION")),
        machine::processors(),
        machine::memory(),
        Check::ok("allocator", crate::allocator::NAME),
        machine::cache(),
        engine(),
        backends::embedded(),
    ];
    checks.extend(backends::onnxruntime(&args.onnxruntime));
    checks.push(backends::openvino(&args.openvino));
    checks.push(compiler());
    checks.extend(GuestTarget::ALL.map(guests));
    checks.extend(Tool::ALL.map(tool));
    checks.extend(args.server.as_ref().map(server));
    print(&checks)?;
    let missing: Vec<&str> =
        checks.iter().filter(|check| check.state == State::Missing).map(|check| check.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("needed and not there: {}", missing.join(", "))).into())
}

fn print(checks: &[Check]) -> std::io::Result<()> {
    let mut table = ui::table(["CHECK", "STATE", "DETAIL"]);
    for check in checks {
        let state = match check.state {
            State::Ok => ui::coloured("ok", GOOD),
            State::Warn => ui::coloured("warning", WARN),
            State::Missing => ui::coloured("missing", BAD),
        };
        table.add_row([Cell::new(check.name), state, Cell::new(&check.detail)]);
    }
    ui::print_table(&table)?;
    for (check, remedy) in checks.iter().filter_map(|check| Some((check, check.remedy.as_ref()?))) {
        ui::result(format!("{}: {remedy}", check.name))?;
    }
    Ok(())
}

/// Starts the engine as `vespid serve` does by default: whether the machine gives the address space shows only then.
fn engine() -> Check {
    const NAME: &str = "plugin engine";
    let started = tempfile::tempdir().map_err(anyhow::Error::from).and_then(|cache| {
        let options =
            EngineOptions { code_cache: cache.path().to_owned(), max_instances: DEFAULT_MAX_INSTANCES };
        Ok(Engine::new(&options)?)
    });
    match started {
        Ok(_) => Check::ok(NAME, format!("wasmtime, room for {DEFAULT_MAX_INSTANCES} calls at once")),
        Err(error) => Check::missing(
            NAME,
            format!("{error:#}"),
            "serve with a smaller --max-instances, or raise the limit of address space (ulimit -v)",
        ),
    }
}

fn compiler() -> Check {
    const NAME: &str = "rustc";
    match Rustc::query() {
        Ok(rustc) => Check::ok(NAME, format!("{} ({})", rustc.release(), rustc.host())),
        Err(error) => Check::warn(NAME, "none: plugins in Rust cannot be built here", error.to_string()),
    }
}

fn guests(target: GuestTarget) -> Check {
    let name = target.triple();
    match GuestToolchain::find(target) {
        Ok(toolchain) => Check::ok(name, format!("standard library in {}", toolchain.source())),
        // The error says what to install.
        Err(error) => Check::warn(name, "no standard library for it", error.to_string()),
    }
}

fn tool(tool: Tool) -> Check {
    let (name, language) = (tool.name(), tool.language());
    match tool.find() {
        Ok(installed) => Check::ok(
            name,
            format!(
                "{} in {}, run by {}",
                tool.version(),
                installed.folder().display(),
                installed.program().display()
            ),
        ),
        // Nothing is missing: the first build fetches it.
        Err(error @ ToolchainError::NoTool { .. }) => Check::ok(name, error.to_string()),
        Err(error) => {
            Check::warn(name, format!("plugins in {language} cannot be built here"), error.to_string())
        }
    }
}

fn server(url: &ServerUrl) -> Check {
    const NAME: &str = "server";
    #[derive(Deserialize)]
    struct Server {
        #[serde(default)]
        name: String,
        #[serde(default)]
        version: String,
    }
    let asked = Client::new(url, Some(std::time::Duration::from_secs(5))).and_then(|client| {
        let server = client.get::<Server>("/v2")?;
        client.get::<serde::de::IgnoredAny>("/v2/health/ready").map(|_ready| server)
    });
    match asked {
        Ok(Server { name, version }) => {
            Check::ok(NAME, ui::clean(&format!("{name} {version} is ready at {url}")))
        }
        Err(error) => {
            let remedy = error.hint().unwrap_or_else(|| format!("check that {url} is the server's address"));
            Check::missing(NAME, ui::clean(&error.to_string()), remedy)
        }
    }
}
