//! The report for people: a row a figure, a column a run; then what needs words.

use comfy_table::{Cell, CellAlignment, Table};

use crate::bench::Run;
use crate::bench::load::Load;
use crate::bench::record::Latency;
use crate::bench::stats::Breakdown;
use crate::bench::subject::Subject;
use crate::ui;

/// A row's name, and the figure of a run where it has one.
type Row = (&'static str, Box<dyn Fn(&Run) -> Option<String>>);

/// Prints it as the command's result.
pub(in crate::bench) fn print(subject: &Subject, runs: &[Run]) -> std::io::Result<()> {
    ui::print_table(&render(subject.rows, runs))?;
    for run in runs {
        for line in remarks(run) {
            ui::result(ui::clean(&format!("{}: {line}", run.load)))?;
        }
    }
    let mut reasons: Vec<&String> = runs.iter().filter_map(|run| run.breakdown.as_ref().err()).collect();
    reasons.dedup();
    for reason in reasons {
        ui::result(ui::clean(&format!("where the time went is not known: {reason}")))?;
    }
    Ok(())
}

fn render(rows: Option<u64>, runs: &[Run]) -> Table {
    let heads = runs.iter().map(|run| right(run.load.to_string()));
    let mut table = ui::table(std::iter::once(Cell::new("")).chain(heads));
    let all = counts(rows).into_iter().chain(latencies()).chain(breakdowns());
    for (name, figure) in all {
        let figures: Vec<Option<String>> = runs.iter().map(figure).collect();
        // What no run has is no row.
        if figures.iter().any(Option::is_some) {
            let cells = figures.into_iter().map(|figure| right(figure.unwrap_or_else(|| "-".to_owned())));
            table.add_row(std::iter::once(Cell::new(name)).chain(cells));
        }
    }
    table
}

fn counts(rows: Option<u64>) -> Vec<Row> {
    let open = |run: &Run, count: u64| run.measured.schedule.map(|_| count.to_string());
    vec![
        ("requests", Box::new(|run| Some(run.measured.record.requests().to_string()))),
        ("succeeded", Box::new(|run| Some(run.measured.record.succeeded().to_string()))),
        ("refused (503)", Box::new(|run| Some(run.measured.record.refused().to_string()))),
        ("failed", Box::new(|run| Some(run.measured.record.failed().to_string()))),
        ("late", Box::new(move |run| open(run, run.measured.record.late()))),
        ("unsent", Box::new(|run| run.measured.schedule.map(|schedule| schedule.unsent.to_string()))),
        ("requests/s", Box::new(|run| Some(rate(run.requests_per_second())))),
        (
            "rows/s",
            // A row a request would say the same twice.
            Box::new(move |run| {
                rows.filter(|rows| *rows > 1).map(|rows| rate(run.requests_per_second() * rows as f64))
            }),
        ),
    ]
}

fn latencies() -> Vec<Row> {
    let row = |name, get: fn(Latency) -> f64| -> Row {
        (name, Box::new(move |run| run.measured.record.latency().map(get).map(time)))
    };
    vec![
        row("latency min", |latency| latency.min),
        row("latency mean", |latency| latency.mean),
        row("latency p50", |latency| latency.p50),
        row("latency p90", |latency| latency.p90),
        row("latency p95", |latency| latency.p95),
        row("latency p99", |latency| latency.p99),
        row("latency p99.9", |latency| latency.p99_9),
        row("latency max", |latency| latency.max),
    ]
}

/// The means of a request add up to the mean latency.
fn breakdowns() -> Vec<Row> {
    let row = |name, get: fn(&Breakdown) -> Option<String>| -> Row {
        (name, Box::new(move |run| run.breakdown.as_ref().ok().and_then(get)))
    };
    let unsent = |run: &Run| {
        let breakdown = run.breakdown.as_ref().ok()?;
        matches!(run.load, Load::Open { .. }).then(|| time(breakdown.wait))
    };
    vec![
        ("mean before it is sent", Box::new(unsent)),
        row("mean network and client", |breakdown| Some(time(breakdown.network_and_client))),
        row("mean waiting", |breakdown| breakdown.queue.map(time)),
        row("mean in and out", |breakdown| breakdown.conversion.map(time)),
        row("mean graph", |breakdown| breakdown.compute.map(time)),
        row("mean plugin", |breakdown| breakdown.guest.map(time)),
        row("mean rest of server", |breakdown| Some(time(breakdown.server_other))),
        row("graph runs a request", |breakdown| Some(format!("{:.2}", breakdown.executions_per_request()))),
        row("mean batch", |breakdown| breakdown.mean_batch.map(|rows| format!("{rows:.1}"))),
        row("instances fresh/warm", |breakdown| {
            breakdown.instances.map(|instances| format!("{}/{}", instances.fresh, instances.warm))
        }),
    ]
}

/// What figures alone do not say.
fn remarks(run: &Run) -> Vec<String> {
    let record = &run.measured.record;
    let mut lines = Vec::new();
    if run.measured.interrupted {
        lines.push(format!("ended early, after {:.1} s", run.measured.elapsed.as_secs_f64()));
    }
    for (cause, problem) in record.problems() {
        let status = cause.status().map(|status| format!("{} ", status.as_u16())).unwrap_or_default();
        lines.push(format!("{status}x {}: {}", problem.count, problem.message()));
    }
    if let Some(schedule) = run.measured.schedule {
        if schedule.unsent > 0 {
            lines.push(format!(
                "{} of {} requests were never sent: their time came, and no connection was free until the end",
                schedule.unsent, schedule.due
            ));
        }
        if schedule.blocked > 0 {
            let bound = run.load.connections();
            lines.push(format!(
                "{} were sent late because {bound} were under way (--max-outstanding)",
                schedule.blocked
            ));
        }
    }
    if let Ok(breakdown) = &run.breakdown
        && breakdown.requests != record.succeeded()
    {
        lines.push(format!(
            "the server counted {} requests: others asked the model too, and the means are of all",
            breakdown.requests
        ));
    }
    lines
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.3}") } else { format!("{rate:.1}") }
}

/// Three digits or more, in the unit that suits.
fn time(nanoseconds: f64) -> String {
    let (value, unit) = match nanoseconds {
        ns if ns < 999_500.0 => (ns / 1e3, "us"),
        ns if ns < 999_500_000.0 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    match value {
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::bench::Arrivals;
    use crate::bench::load::{Measured, Schedule};
    use crate::bench::record::{Exchange, Record};
    use crate::client::ClientError;

    fn record(requests: u64) -> Record {
        let mut record = Record::new().unwrap();
        let due = Instant::now();
        for _ in 0..requests {
            let answered = due + Duration::from_millis(2);
            record.add(Exchange { due, sent: due, answered, outcome: Ok(1) });
        }
        record
    }

    fn run(load: Load, record: Record, schedule: Option<Schedule>) -> Run {
        let measured = Measured { record, elapsed: Duration::from_secs(2), interrupted: false, schedule };
        Run { load, measured, breakdown: Err("the server has no stats".to_owned()) }
    }

    fn lines(rows: Option<u64>, runs: &[Run]) -> Vec<String> {
        let mut table = render(rows, runs);
        table.load_style(comfy_table::presets::NOTHING).force_no_tty();
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn runs_are_columns() {
        let runs = [1, 4].map(|n| run(Load::Closed { concurrency: n }, record(u64::from(n) * 100), None));
        let lines = lines(Some(8), &runs);
        assert_eq!(lines[..3], ["concurrency 1 concurrency 4", "requests 100 400", "succeeded 100 400"]);
        for line in ["requests/s 50.0 200.0", "rows/s 400.0 1600.0", "latency p50 2.00 ms 2.00 ms"] {
            assert!(lines.iter().any(|got| got == line), "'{line}' is not in {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.contains("unsent") || line.contains("graph")), "{lines:?}");
    }

    #[test]
    fn what_was_not_sent_and_what_failed_is_told() {
        let mut record = record(3);
        let due = Instant::now();
        let outcome = Err(ClientError::Status {
            server: "localhost".parse().unwrap(),
            status: ureq::http::StatusCode::SERVICE_UNAVAILABLE,
            message: "the server is busy".into(),
        });
        record.add(Exchange { due, sent: due, answered: due, outcome });
        let load = Load::Open { rate: 100.0, arrivals: Arrivals::Constant, max_outstanding: 2 };
        let run = run(load, record, Some(Schedule { due: 9, unsent: 5, blocked: 1 }));
        let remarks = remarks(&run);
        assert_eq!(remarks[0], "503 x 1: the server is busy");
        assert!(remarks[1].starts_with("5 of 9 requests were never sent"), "{remarks:?}");
        assert!(remarks[2].contains("1 were sent late because 2 were under way"), "{remarks:?}");
        assert_eq!(remarks.len(), 3);
        let lines = lines(None, &[run]);
        assert!(lines.contains(&"refused (503) 1".to_owned()) && lines.contains(&"unsent 5".to_owned()));
    }

    #[test]
    fn the_breakdown_has_a_row_for_what_is_known() {
        let breakdown = Breakdown {
            requests: 100,
            failed: 0,
            wait: 0.0,
            network_and_client: 5e5,
            queue: Some(2.5e5),
            conversion: None,
            compute: Some(1e6),
            guest: None,
            server_other: 2.5e5,
            executions: 50,
            mean_batch: Some(4.0),
            instances: None,
        };
        let mut run = run(Load::Closed { concurrency: 1 }, record(101), None);
        run.breakdown = Ok(breakdown);
        assert!(remarks(&run)[0].contains("the server counted 100 requests"));
        let lines = lines(None, &[run]);
        let from = lines.iter().position(|line| line.starts_with("mean network")).unwrap();
        assert_eq!(
            lines[from..],
            [
                "mean network and client 500 us",
                "mean waiting 250 us",
                "mean graph 1.00 ms",
                "mean rest of server 250 us",
                "graph runs a request 0.50",
                "mean batch 4.0",
            ]
        );
    }

    #[test]
    fn times_have_the_unit_that_suits() {
        for (nanoseconds, text) in [
            (0.0, "0.00 us"),
            (12_345.0, "12.3 us"),
            (999_600.0, "1.00 ms"),
            (1.5e8, "150 ms"),
            (2e9, "2.00 s"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
    }
}
