//! `vespid dev`: serves a model's folder on this machine, and builds it anew with each change.
//!
//! Contract: the model is served in this process, over HTTP on one port, from memory: nothing is pushed anywhere. A change
//! is built and loaded beside what serves, which goes on until the new one is ready, and after it where that fails. Left
//! out on purpose: gRPC and the admin port, which `vespid serve` has, and other models that the plugin may call.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use bytesize::ByteSize;
use clap::Args;
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use vespid_ingress::Api;
use vespid_serving::{ReadyModel, Sources};
use vespid_telemetry::{Log, LogFormat, Telemetry, TelemetryOptions, TraceLevel, TraceSettings};
use vespid_types::{Datatype, Extent, TensorSpec};

use crate::access::{AccessArgs, Port};
use crate::failure::{self, Failure, Hint};
use crate::local::{Libraries, Local};
use crate::registry::RegistryArgs;
use crate::serve::listener::listen;
use crate::serve::{Signals, bind};
use crate::source::Package;
use crate::ui::{self, EMPHASIS, GOOD, WARN};

const AFTER_HELP: &str = "\
Examples:
  vespid dev scaler
  vespid dev scaler --http 127.0.0.1:9000

The plugin's own lines and its failures show as they come; VESPID_LOG=plugin=trace shows all of its lines. With each version \
that serves it prints a line `ready NAME version VERSION at URL` to standard output. A change that does not build or load is \
shown, and what served before goes on. Ctrl-C ends it.";

/// Where the server listens, and where commands look for one, unless they are told otherwise.
const DEFAULT: &str = "127.0.0.1:8000";

/// How long the folder must be still before a change is built: an editor may write a file in several steps.
const STILL: Duration = Duration::from_millis(150);

/// What of the log is shown where nobody says: the plugin's lines, and what is odd.
const LOG: &str = "warn,plugin=debug";

const MAX_INSTANCES: u32 = 64;

/// How long requests in flight may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Serve a model's folder on this machine, building it anew with each change
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DevArgs {
    /// The model's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Where clients reach it; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT)]
    http: SocketAddr,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    libraries: Libraries,
}

pub(crate) fn run(args: &DevArgs) -> anyhow::Result<()> {
    if !args.folder.is_dir() {
        return Err(Failure::usage(format!("{} is no folder", args.folder.display()))
            .hint("name a model's folder; `vespid new NAME` writes one to start from")
            .into());
    }
    let log = Log::start_with(LogFormat::Text, LOG)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    let served = runtime.block_on(serve(args, log));
    // A build that goes on is left behind.
    runtime.shutdown_background();
    served
}

async fn serve(args: &DevArgs, log: Log) -> anyhow::Result<()> {
    let local = Local::start(&args.libraries, MAX_INSTANCES).await?;
    let access = args.access.open(&[Port::plain("--http", args.http)])?;
    let listener = bind(args.http).await.hint_address(args.http)?;
    let address = listener.local_addr()?;
    let mut signals = Signals::listen()?;
    let (stop, stopped) = watch::channel(false);
    let trace = TraceSettings {
        level: TraceLevel::Timestamps,
        rate: vespid_telemetry::DEFAULT_TRACE_RATE,
        count: None,
    };
    let options = TelemetryOptions { trace, log: Some(log), ..TelemetryOptions::default() };
    let api = Api {
        predictor: local.predictor.clone(),
        telemetry: Telemetry::new(local.predictor.clone(), options)?,
        repository: local.repository.clone(),
        sources: Sources::new(
            local.repository.clone(),
            args.libraries.registries.open(ByteSize::gib(4))?,
            Vec::new(),
        ),
        jobs: None,
        streams: None,
        access,
        max_body: ByteSize::mib(256),
        stopping: stopped.clone(),
    };
    // Before the first build: a change during it is not missed.
    let (changes, _watcher) = watched(&args.folder)?;
    let listening = listen(listener, vespid_ingress::router(api), Duration::from_secs(75), None, stopped);
    let building = Dev {
        folder: &args.folder,
        registries: &args.libraries.registries,
        local: &local,
        address,
        served: None,
    }
    .run(changes);
    tokio::pin!(listening);
    tokio::select! {
        ended = &mut listening => return ended,
        () = building => {}
        _ = signals.next() => {}
    }
    stop.send_replace(true);
    // Whoever still waits after that is let down: this is a server for one.
    match tokio::time::timeout(DRAIN, listening).await {
        Ok(ended) => ended,
        Err(_) => Ok(()),
    }
}

trait HintAddress<T> {
    fn hint_address(self, address: SocketAddr) -> Result<T, anyhow::Error>;
}

impl<T> HintAddress<T> for anyhow::Result<T> {
    fn hint_address(self, address: SocketAddr) -> anyhow::Result<T> {
        self.map_err(|error| {
            Failure::new(format!("{error:#}"))
                .hint(format!("end what uses {address}, or choose another with --http"))
                .into()
        })
    }
}

/// Tells of changes in a folder, as long as the watcher lives.
fn watched(folder: &Path) -> anyhow::Result<(mpsc::Receiver<()>, Debouncer<RecommendedWatcher>)> {
    // One waiting change is as good as many.
    let (tell, changes) = mpsc::channel(1);
    let root = std::fs::canonicalize(folder)?;
    let within = root.clone();
    let handler = move |events: DebounceEventResult| {
        let changed = match events {
            Ok(events) => events.iter().any(|event| matters(&within, &event.path)),
            // Something was missed: it may have been a change.
            Err(_) => true,
        };
        if changed {
            let _ = tell.try_send(());
        }
    };
    let hint = "the system may be out of watches: raise fs.inotify.max_user_watches";
    let mut watcher = new_debouncer(STILL, handler).hint("the folder cannot be watched", hint)?;
    watcher.watcher().watch(&root, RecursiveMode::Recursive).hint("the folder cannot be watched", hint)?;
    Ok((changes, watcher))
}

/// Whether a changed file can be a part of the model, and not of what was built of it.
fn matters(root: &Path, path: &Path) -> bool {
    let Ok(relative) = path.strip_prefix(root) else { return false };
    let built = path.extension().is_some_and(|extension| extension == "tar" || extension == "pyc");
    let mut names = relative.components().map(|part| part.as_os_str().to_string_lossy());
    !built && !names.any(|name| name.starts_with('.') || name == "target" || name == "__pycache__")
}

/// The files that can be a part of the model, with the time of their last change and their length. What cannot be read is
/// left out: the build says so.
fn stamps(folder: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let mut stamps = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            match std::fs::metadata(&path) {
                Ok(metadata) if !matters(folder, &path) || !(metadata.is_dir() || metadata.is_file()) => {}
                Ok(metadata) if metadata.is_dir() => folders.push(path),
                Ok(metadata) => {
                    let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    stamps.insert(path, (changed, metadata.len()));
                }
                Err(_) => {}
            }
        }
    }
    stamps
}

struct Dev<'a> {
    folder: &'a Path,
    registries: &'a RegistryArgs,
    local: &'a Local,
    address: SocketAddr,
    /// What serves: the package's digest.
    served: Option<[u8; 32]>,
}

impl Dev<'_> {
    /// Builds and loads, once and after each change, until nobody tells of changes any more.
    async fn run(mut self, mut changes: mpsc::Receiver<()>) {
        loop {
            // Looked at before they are read: what changes while they are is a change after that.
            let seen = stamps(self.folder);
            if let Err(error) = self.once().await {
                failure::report(&error);
                let before =
                    if self.served.is_some() { "what was there before goes on serving; " } else { "" };
                ui::note(ui::styled(WARN, format!("{before}waiting for a change")));
            }
            // That somebody has read a file is told as well, the build above all.
            while stamps(self.folder) == seen {
                if changes.recv().await.is_none() {
                    return;
                }
            }
        }
    }

    async fn once(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (folder, registries) = (self.folder.to_owned(), self.registries.clone());
        let package = spawn_blocking(move || Package::build(&folder, &registries))
            .await
            .context("the build ended early")??;
        let digest = package.digest();
        if self.served == Some(digest) {
            return Ok(());
        }
        let model = self.local.load(&package).await.map_err(|error| Failure::new(error.message()))?;
        self.served = Some(digest);
        let took = begun.elapsed();
        ui::result(format!(
            "{} {} version {} at http://{} ({:.1} s)",
            ui::styled(GOOD, "ready"),
            model.name(),
            model.version(),
            self.address,
            took.as_secs_f64()
        ))?;
        ui::note(format!("{} {}", ui::styled(EMPHASIS, "try:"), sample(&model, self.address)));
        Ok(())
    }
}

/// A command that asks the model.
fn sample(model: &ReadyModel, address: SocketAddr) -> String {
    let mut command = format!("vespid predict {}", model.name());
    for input in model.signature().inputs.iter().filter(|input| !input.optional) {
        command.push(' ');
        command.push_str(&sample_input(input));
    }
    if address.to_string() != DEFAULT {
        command.push_str(&format!(" --server http://{address}"));
    }
    command
}

/// More values than anybody wants to see.
const MOST_VALUES: u64 = 16;

fn sample_input(spec: &TensorSpec) -> String {
    let extents: Vec<u64> = spec
        .shape
        .iter()
        .enumerate()
        .map(|(place, extent)| match extent {
            Extent::Fixed(extent) => *extent,
            // A row of two or a few says more than one value.
            Extent::Any if place > 0 && place + 1 == spec.shape.len() => 2,
            Extent::Any => 1,
        })
        .collect();
    let count: u64 = extents.iter().product();
    let value = match spec.datatype {
        Datatype::Bytes => "text",
        Datatype::Bool => "true",
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => "0.5",
        _ => "1",
    };
    let values = if count <= MOST_VALUES {
        vec![value; usize::try_from(count).unwrap_or_default()].join(",")
    } else {
        "@FILE".to_owned()
    };
    // One row of values needs no shape to be said.
    let plain = extents.iter().rev().skip(1).all(|extent| *extent == 1) && extents.len() <= 2;
    let name = &spec.name;
    if plain {
        format!("'{name}={values}'")
    } else {
        let shape: Vec<String> = extents.iter().map(ToString::to_string).collect();
        format!("'{name}[{}]={values}'", shape.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_no_change() {
        let root = Path::new("/p");
        for (path, expected) in [
            ("/p/plugin.py", true),
            ("/p/cases/one.json", true),
            ("/p/model.toml", true),
            ("/p/src/lib.rs", true),
            ("/p/m.wasm", true),
            ("/p/target/release/x", false),
            ("/p/.git/index", false),
            ("/p/.plugin.py.swp", false),
            ("/p/__pycache__/plugin.pyc", false),
            ("/p/m-1.tar", false),
            ("/q/plugin.py", false),
        ] {
            assert_eq!(matters(root, Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn the_sample_is_what_the_command_line_takes() {
        let spec = |datatype, shape: &[i64]| TensorSpec {
            name: "x".to_owned(),
            datatype,
            shape: shape.iter().filter_map(|extent| Extent::from_signed(*extent)).collect(),
            optional: false,
        };
        assert_eq!(sample_input(&spec(Datatype::Fp32, &[-1, -1])), "'x=0.5,0.5'");
        assert_eq!(sample_input(&spec(Datatype::Fp32, &[-1, 4])), "'x=0.5,0.5,0.5,0.5'");
        assert_eq!(sample_input(&spec(Datatype::Bytes, &[-1])), "'x=text'");
        assert_eq!(sample_input(&spec(Datatype::Int32, &[2, 2])), "'x[2,2]=1,1,1,1'");
        assert_eq!(sample_input(&spec(Datatype::Uint8, &[1, 3, 224, 224])), "'x[1,3,224,224]=@FILE'");
    }
}
