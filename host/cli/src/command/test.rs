//! `vespid test`: runs a model's recorded cases in this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use vespid_ingress::cases::{Case, Difference};
use vespid_serving::ReadyModel;
use vespid_types::{ModelRef, Response};

use crate::failure::{Failure, Hint};
use crate::local::{Libraries, Local};
use crate::source::{Cases, Package};
use crate::ui::{self, BAD, GOOD, WARN};

const AFTER_HELP: &str = "\
Examples:
  vespid test scaler                         builds the folder first
  vespid test scaler-1.tar --case rows
  vespid test scaler --update                records what the model answers now

A case is a file cases/NAME.json beside model.toml:

  {
    \"request\": {\"inputs\": [{\"name\": \"values\", \"datatype\": \"FP32\", \"shape\": [1, 2], \"data\": [3, 4]}]},
    \"response\": {\"outputs\": [{\"name\": \"length\", \"datatype\": \"FP32\", \"shape\": [1], \"data\": [5]}]},
    \"tolerance\": 1e-5
  }

Request and response are those of the Open Inference Protocol; `outputs` of the request choose what is answered. In place of \
`data` an input may have \"files\": [\"cat.png\"], which lie beside the case. A floating-point value may be off by the tolerance, \
and by that part of the expected value; all else must be equal. In place of the response a failure can be expected: \
\"error\": {\"code\": \"INVALID_ARGUMENT\", \"contains\": \"a part of its text\"}.";

/// Run a model's recorded cases, without a server
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct TestArgs {
    /// A model's folder, or a package that `vespid build` wrote
    #[arg(value_name = "DIR|TAR")]
    model: PathBuf,
    /// A case to run, by its name; all of them where not given
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Record what the model answers in the cases that differ
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    libraries: Libraries,
}

/// Cases run one after the other; a plugin may call itself by another model.
const MAX_INSTANCES: u32 = 16;

/// What of the log is shown where nobody says: the plugin's lines, and what failed.
const LOG: &str = "error,plugin=info";

pub(crate) fn run(args: &TestArgs) -> anyhow::Result<()> {
    vespid_telemetry::Log::start_with(vespid_telemetry::LogFormat::Text, LOG)?;
    let package = Package::open(&args.model, &args.libraries.registries)?;
    let mut cases = Cases::of(&args.model, &package)?;
    select(&mut cases, args)?;
    if args.update && !cases.can_be_written() {
        return Err(Failure::usage("--update writes the cases of a folder, and not those in a package")
            .hint("name the model's folder")
            .into());
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads to run on")?;
    let run = runtime.block_on(run_all(args, &package, &cases));
    runtime.shutdown_background();
    let Tally { passed, updated, failed } = run?;
    let updates = if args.update { format!(", {updated} updated") } else { String::new() };
    ui::result(format!("{} cases: {passed} passed{updates}, {failed} failed", passed + updated + failed))?;
    if failed > 0 {
        return Err(Failure::new("not all cases passed")
            .hint("mend the plugin or the cases; --update records what the model answers now")
            .into());
    }
    Ok(())
}

/// Keeps the cases that are asked for, of which there must be some.
fn select(cases: &mut Cases, args: &TestArgs) -> Result<(), Failure> {
    let hint = "write one, cases/NAME.json: `vespid test --help` shows its form";
    if cases.files.is_empty() {
        return Err(Failure::new(format!("{} has no recorded cases", args.model.display())).hint(hint));
    }
    if let Some(missing) = args.cases.iter().find(|name| !cases.files.contains_key(*name)) {
        let names: Vec<&str> = cases.files.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("there is no case '{missing}'"))
            .hint(format!("there are {}", names.join(", "))));
    }
    if !args.cases.is_empty() {
        cases.files.retain(|name, _| args.cases.contains(name));
    }
    Ok(())
}

/// How the cases came out.
#[derive(Default)]
struct Tally {
    passed: usize,
    updated: usize,
    failed: usize,
}

async fn run_all(args: &TestArgs, package: &Package, cases: &Cases) -> anyhow::Result<Tally> {
    let local = Local::start(&args.libraries, MAX_INSTANCES).await?;
    let model = local.load(package).await.map_err(|error| Failure::new(error.message()))?;
    let width = cases.files.keys().map(String::len).max().unwrap_or_default();
    let mut tally = Tally::default();
    for (name, path) in &cases.files {
        let Ran { answer, took, case } = match one(&local, &model, path, &cases.folder).await {
            Ok(ran) => ran,
            Err(unreadable) => {
                tally.failed += 1;
                report(name, width, BAD, "FAIL", None, &[unreadable])?;
                continue;
            }
        };
        let differences = case.check(&answer);
        if differences.is_empty() {
            tally.passed += 1;
            report(name, width, GOOD, "ok", Some(took), &[])?;
        } else if args.update {
            let recorded = case.record(&answer).map_err(|error| error.message().to_owned());
            match recorded.and_then(|text| fs::write(path, text).map_err(|error| error.to_string())) {
                Ok(()) => {
                    tally.updated += 1;
                    report(name, width, WARN, "updated", Some(took), &[])?;
                }
                Err(reason) => {
                    tally.failed += 1;
                    report(name, width, BAD, "FAIL", None, &[format!("cannot be recorded: {reason}")])?;
                }
            }
        } else {
            tally.failed += 1;
            let lines: Vec<String> = differences.iter().map(Difference::to_string).collect();
            report(name, width, BAD, "FAIL", Some(took), &lines)?;
        }
    }
    Ok(tally)
}

/// A case that has been run.
struct Ran {
    case: Case,
    answer: vespid_types::Result<Response>,
    took: Duration,
}

async fn one(local: &Local, model: &Arc<ReadyModel>, path: &Path, folder: &Path) -> Result<Ran, String> {
    let text =
        fs::read(path).hint("it cannot be read", "check its rights").map_err(|error| error.to_string())?;
    let case = Case::parse(&text).map_err(|error| error.message().to_owned())?;
    let target = ModelRef { name: model.name().clone(), version: Some(model.version()) };
    let begun = Instant::now();
    // A request that does not read is answered with its refusal, as it would be over the network.
    let answer = match case.request(target, folder) {
        Ok(request) => local.predictor.predict(model, request).await,
        Err(error) => Err(error),
    };
    Ok(Ran { case, answer, took: begun.elapsed() })
}

fn report(
    name: &str,
    width: usize,
    style: anstyle::Style,
    state: &str,
    took: Option<Duration>,
    lines: &[String],
) -> std::io::Result<()> {
    let took = took.map(|took| format!("  {:.1} ms", took.as_secs_f64() * 1e3)).unwrap_or_default();
    ui::result(format!("{}  {name:width$}{took}", ui::styled(style, format!("{state:7}"))))?;
    lines.iter().try_for_each(|line| ui::result(format!("           {}", ui::clean(line))))
}
