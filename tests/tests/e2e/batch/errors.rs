//! Rows that fail: they are told, and the others are answered.

use std::fs;

use serde_json::{Value, json};
use vespid_tests::cli::run;

use super::Desk;

fn csv(desk: &Desk, rows: usize, bad: &[usize]) {
    let mut text = "id,sepal_length,sepal_width,petal_length,petal_width\n".to_owned();
    for row in 1..=rows {
        let width = if bad.contains(&row) { "wide" } else { "3.5" };
        text += &format!("{row},5.1,{width},1.4,0.2\n");
    }
    fs::write(desk.path("in.csv"), text).unwrap();
}

#[test]
fn rows_that_fail_are_told_and_the_job_goes_on_up_to_a_limit() {
    let desk = Desk::default();
    csv(&desk, 3000, &[7, 1500, 2999]);
    let arguments = ["--input", "in.csv", "--output", "out", "--output-format", "jsonl"];
    let with = |max: &'static str| [&arguments[..], &["--max-errors", max]].concat();
    let strict = desk.run(&with("2"));
    let told = &strict.expect(1).stderr;
    assert!(
        told.contains("3 of") && told.contains("in.csv, row 7") && told.contains("out/_errors"),
        "{told}"
    );
    assert!(!desk.path("out/_SUCCESS").exists());
    // Another limit, and it goes on.
    let report = desk.report(&with("0.1%"));
    assert_eq!((&report["rows"], &report["errors"]), (&json!(3000), &json!(3)), "{report}");
    let errors = desk.errors("out");
    assert_eq!(
        errors.iter().map(|error| error["row"].clone()).collect::<Vec<_>>(),
        [json!(7), json!(1500), json!(2999)]
    );
    assert_eq!(errors[0]["code"], "INVALID_ARGUMENT");
    assert_eq!(errors[0]["file"], "in.csv");
    assert_eq!(errors[0]["column"], "sepal_width");
    assert!(errors[0]["message"].as_str().unwrap().contains("'wide'"), "{}", errors[0]);
    let text = fs::read_to_string(desk.path("out/part-00000.jsonl")).unwrap();
    let ids: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids.len(), 2997);
    assert!(!ids.contains(&json!("7")) && ids.contains(&json!("8")));
}

#[test]
fn a_row_that_the_plugin_refuses_costs_that_row() {
    let desk = Desk::default();
    // `embed` refuses what is no UTF-8 text, and with it the call that it is in.
    let rows = ["fine", "good", "\\xff", "well"];
    let mut command = vespid_tests::built::python("tests/python/batch_files.py");
    command.args(["texts"]).arg(desk.path("in.parquet")).args(rows);
    run(command).expect(0);
    let arguments = [
        "--input",
        "in.parquet",
        "--output",
        "out",
        "--output-format",
        "jsonl",
        "--keep",
        "none",
        "--max-errors",
        "1",
    ];
    run(desk.command("embed", &arguments)).expect(0);
    let errors = desk.errors("out");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(
        (&errors[0]["row"], &errors[0]["code"]),
        (&json!(3), &json!("INVALID_ARGUMENT")),
        "{}",
        errors[0]
    );
    let text = fs::read_to_string(desk.path("out/part-00000.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn a_plugin_that_crashes_over_rows_costs_those_rows() {
    let desk = Desk::default();
    // Of three calls of 100 rows: one traps, one runs out of time, one is well.
    let kind = |row| match row {
        42 => -1,
        142 => 1000,
        row => row,
    };
    let lines: String = (0..300).map(|row| format!("{}\n", json!({"kind": kind(row)}))).collect();
    fs::write(desk.path("in.jsonl"), lines).unwrap();
    let arguments = ["--input", "in.jsonl", "--output", "out", "--rows-per-call", "100", "--max-errors", "2"];
    let report = run(desk.command("some-rows", &arguments));
    let report: Value = serde_json::from_str(&report.expect(0).stdout).unwrap();
    assert_eq!((&report["rows"], &report["errors"]), (&json!(300), &json!(2)), "{report}");
    let errors = desk.errors("out");
    let told: Vec<_> = errors.iter().map(|error| (error["row"].clone(), error["code"].clone())).collect();
    assert_eq!(
        told,
        [(json!(43), json!("PLUGIN_FAILED")), (json!(143), json!("DEADLINE_EXCEEDED"))],
        "{errors:?}"
    );
    let text = fs::read_to_string(desk.path("out/part-00000.jsonl")).unwrap();
    let answers: Vec<i64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["answer"].as_i64().unwrap())
        .collect();
    let expected: Vec<i64> = (0..300).filter(|row| ![42, 142].contains(row)).map(|row| row * 2).collect();
    assert_eq!(answers, expected);
}
