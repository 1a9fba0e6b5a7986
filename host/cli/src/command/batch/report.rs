//! What the user sees of a job while it runs, and when it is done.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use vespid_batch::{Counts, Metrics, Progress, Report};
use vespid_telemetry::Telemetry;

use super::BatchArgs;
use crate::args::Output;
use crate::local::Local;
use crate::ui;

/// How often a bar moves, and how often there is a line where there is no terminal.
const BAR: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(10);

/// How much of a pod's last words Kubernetes keeps.
const MAX_LEFT: usize = 4096;

/// Tells of the progress for as long as it is asked: by a bar on a terminal, else by lines of the log.
pub(super) async fn tell(progress: &Progress) -> Infallible {
    let bar = io::stderr().is_terminal().then(bar);
    loop {
        tokio::time::sleep(if bar.is_some() { BAR } else { LINE }).await;
        let counts = progress.counts();
        match &bar {
            Some(bar) => {
                bar.set_length(counts.rows.unwrap_or(counts.parts));
                bar.set_position(if counts.rows.is_some() { counts.rows_done } else { counts.parts_done });
                bar.set_message(line(&counts));
            }
            None => tracing::info!(target: "vespid_batch", "{}", line(&counts)),
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    match ProgressStyle::with_template("{bar:30} {percent}% {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn line(counts: &Counts) -> String {
    let left = counts.seconds_left.map(|seconds| {
        format!(", {} left", indicatif::HumanDuration(Duration::from_secs(seconds.clamp(0.0, 1e9) as u64)))
    });
    let failed = if counts.failed > 0 { format!(", {} failed", counts.failed) } else { String::new() };
    format!(
        "{} rows, {} of {} parts, {:.0} rows/s{failed}{}",
        counts.rows_done,
        counts.parts_done,
        counts.parts,
        counts.rows_per_second,
        left.unwrap_or_default()
    )
}

/// Serves the metrics of the job and its model, and probes.
pub(super) async fn admin(
    address: SocketAddr,
    local: &Local,
    output: &str,
    args: &BatchArgs,
    progress: &Arc<Progress>,
) -> anyhow::Result<()> {
    let (counted, output) = (Arc::clone(progress), output.to_owned());
    let metrics = Metrics::new(Box::new(move || vec![(output.clone(), counted.counts())]))?;
    let register = |telemetry: &Telemetry| Ok(telemetry.register(Box::new(metrics))?);
    local.admin(address, &args.libraries.registries, register, None).await?;
    Ok(())
}

/// The report as JSON, without what may make it too long to be left.
pub(super) fn short(report: &Report) -> anyhow::Result<String> {
    let text = serde_json::to_string(report)?;
    if text.len() <= MAX_LEFT {
        return Ok(text);
    }
    Ok(serde_json::to_string(&Report { first_error: None, ..report.clone() })?)
}

/// Leaves a text in a file, where there is to be one. That it cannot be written fails no job.
pub(super) fn leave(file: Option<&Path>, text: &str) {
    let Some(file) = file else { return };
    let end = text.floor_char_boundary(MAX_LEFT);
    if let Err(error) = std::fs::write(file, text.get(..end).unwrap_or_default()) {
        tracing::warn!("--report-file {}: {error}", file.display());
    }
}

/// Prints what came of the job.
pub(super) fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        ui::result(serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    let Report { model, rows, errors, parts, bytes, seconds, rows_per_second, first_error, .. } = report;
    ui::result(format!("model   {} version {}, {}", model.name, model.version, model.digest))?;
    ui::result(format!("rows    {rows} in {seconds:.1} s, {rows_per_second:.0} a second"))?;
    ui::result(format!("errors  {errors}"))?;
    if let Some(first) = first_error {
        ui::result(format!("first   {}", ui::clean(first)))?;
    }
    ui::result(format!("output  {parts} parts, {}", ui::size(*bytes)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(first_error: &str) -> Report {
        serde_json::from_value(serde_json::json!({
            "model": {"name": "iris", "version": "1", "digest": format!("sha256:{}", "0".repeat(64))},
            "rows": 10, "errors": 1, "first_error": first_error, "parts": 2, "bytes": 3, "seconds": 1.0,
            "part_seconds": 1.0, "rows_per_second": 10.0,
        }))
        .unwrap()
    }

    #[test]
    fn what_is_left_is_never_longer_than_kubernetes_takes_and_a_report_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        for error in ["short".to_owned(), "ü".repeat(5000)] {
            leave(Some(&file), &short(&report(&error)).unwrap());
            let left: Report = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            assert_eq!((left.rows, left.errors, left.parts), (10, 1, 2));
            assert_eq!(left.first_error.is_some(), error == "short");
        }
        leave(Some(&file), &format!("x{}", "ü".repeat(5000)));
        assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 4095, "no letter is cut in two");
    }
}
