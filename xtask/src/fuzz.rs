//! Fuzzing: libFuzzer over the targets of `tests/fuzz`, on the stable compiler and without a sanitizer.

use std::fs::{self, File};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::setup::{self, tool};
use crate::{scratch, ui};

const CRATE: &str = "tests/fuzz";

/// Seconds that a target may take for one input.
const SLOW: usize = 10;
/// MiB of memory that a target may take.
const MEMORY: u32 = 2048;
/// Where inputs that fail are kept, and what the targets say.
const FINDINGS: &str = "findings";
const LOGS: &str = "logs";
/// Bytes of an input.
const LONGEST: u32 = 16 << 10;

/// How long each target runs: a number of seconds, minutes or hours, such as `90s`, `10m`, `1h`.
pub(crate) fn time(text: &str) -> Result<Duration> {
    let unit = |suffix, seconds| Some((text.strip_suffix(suffix)?, seconds));
    let (number, seconds) =
        unit('s', 1).or_else(|| unit('m', 60)).or_else(|| unit('h', 3600)).context("write 90s, 10m or 1h")?;
    let number: u64 = number.parse().context("write 90s, 10m or 1h")?;
    number.checked_mul(seconds).map(Duration::from_secs).context("that is too long")
}

/// Runs the targets, so many at a time. All of them run, whatever is found; what is found fails the chore in the end.
pub(crate) fn run(cx: &Context, targets: &[String], time: Duration, jobs: NonZero<usize>) -> Result<()> {
    let known = known(cx)?;
    if let Some(unknown) = targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no target '{unknown}': use {}", known.join(", "));
    }
    {
        let _lock = setup::lock(cx)?;
        tool::FUZZ.ensure(cx)?;
    }
    // What it builds is built anew for the fuzzer, and is no use to anything else.
    let folder = cx.target().join("fuzz");
    for part in [FINDINGS, LOGS] {
        scratch::create(&folder.join(part))?;
    }
    ui::step_inherited("fuzz targets", command(cx, "build", &folder))?;
    let targets = if targets.is_empty() { &known[..] } else { targets };
    let waiting = Mutex::new(targets.iter());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut failed = Vec::new();
        while let Some(target) = next() {
            if let Err(error) = run_one(cx, target, &folder, time, jobs) {
                ui::say(&format!("✗ {target}: {error:#}"));
                failed.push(target.as_str());
            }
        }
        failed
    };
    let failed: Vec<&str> = thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.get()).map(|_| scope.spawn(work)).collect();
        // What panics here is a defect of this program, and no success.
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    if !failed.is_empty() {
        bail!("{} failed: the inputs are in {}", failed.join(", "), folder.join(FINDINGS).display());
    }
    Ok(())
}

/// Runs one target, which writes to a file: it says more than anybody reads, and others may run meanwhile.
fn run_one(cx: &Context, target: &str, folder: &Path, time: Duration, jobs: NonZero<usize>) -> Result<()> {
    let work = folder.join("corpus").join(target);
    scratch::create(&work)?;
    let log = folder.join(LOGS).join(format!("{target}.log"));
    let file = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
    let errors = file.try_clone().context("a file cannot be opened twice")?;
    ui::say(&format!("  {target} runs: see {}", log.display()));
    let status = fuzzer(cx, target, folder, &work, time, jobs).stdout(file).stderr(errors).status()?;
    if !status.success() {
        bail!("{status}: see {}", log.display());
    }
    let said = fs::read_to_string(&log).with_context(|| format!("{} cannot be read", log.display()))?;
    let executions = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    ui::say(&format!("✓ {target}: {} executions", executions.context("it does not say what it did")?.trim()));
    Ok(())
}

/// The targets that there are.
fn known(cx: &Context) -> Result<Vec<String>> {
    let folder = cx.root().join(CRATE).join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let name = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut known: Vec<String> = entries.flatten().filter_map(|entry| name(entry.path())).collect();
    known.sort();
    Ok(known)
}

/// cargo-fuzz, with what the build is made by.
fn command(cx: &Context, what: &str, folder: &Path) -> Command {
    let mut command = cx.cargo();
    command.args(["fuzz", what, "--fuzz-dir", CRATE, "--features", "libfuzzer"]);
    // A sanitizer takes an unstable compiler, and finds what unsafe code does: here there is next to none. Dependencies are as they
    // are shipped (`cfg(fuzzing)` changes some), but for overflows and assertions.
    command.args(["--sanitizer", "none", "--no-cfg-fuzzing", "--release", "--debug-assertions"]);
    command.args(["--codegen-units", "16", "--target-dir"]).arg(folder.join("target"));
    // Fully optimised and with all that a debugger wants, the build takes several times as long and as much room.
    command
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
    command
}

fn fuzzer(
    cx: &Context,
    target: &str,
    folder: &Path,
    work: &Path,
    time: Duration,
    jobs: NonZero<usize>,
) -> Command {
    let mut command = command(cx, "run", folder);
    // What is new goes into the first folder.
    command.arg(target).arg(work).arg(cx.root().join(CRATE).join("corpus").join(target)).arg("--");
    command.arg(format!("-max_total_time={}", time.as_secs()));
    command.arg(format!("-artifact_prefix={}/{target}-", folder.join(FINDINGS).display()));
    // By the clock, of which each has less where they share processors.
    let sharing = jobs.get().div_ceil(thread::available_parallelism().map_or(1, NonZero::get));
    command.arg(format!("-timeout={}", SLOW * sharing)).arg(format!("-rss_limit_mb={MEMORY}"));
    command.arg(format!("-max_len={LONGEST}")).arg("-print_final_stats=1");
    let words = cx.root().join(CRATE).join("dict").join(target);
    if words.is_file() {
        command.arg(format!("-dict={}", words.display()));
    }
    command
}
