//! Input that is not what it should be: what is told of it, and that nothing half-written is taken for whole.

use std::fs;
use std::process::Command;

use vespid_tests::cli::run;

use super::Desk;

/// Runs a job that fails with that code, and says all of that; no part is there afterwards.
#[track_caller]
fn refused(desk: &Desk, arguments: &[&str], code: i32, expected: &[&str]) {
    let outcome = desk.run(&[&["--output", "out"], arguments].concat());
    let told = &outcome.expect(code).stderr;
    for expected in expected {
        assert!(told.contains(expected), "'{expected}' is not in\n{told}");
    }
    assert!(!told.contains("panicked"), "{told}");
    assert!(desk.parts("out").is_empty(), "{:?}", desk.parts("out"));
    assert!(!desk.path("out/_SUCCESS").exists());
    let _ = fs::remove_dir_all(desk.path("out"));
}

fn write(desk: &Desk, name: &str, content: impl AsRef<[u8]>) {
    let path = desk.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_column_that_does_not_fit_is_told_before_any_row_is_read() {
    let desk = Desk::default();
    desk.flowers("parquet", "in.parquet", 100, 0, 50);
    let input = ["--input", "in.parquet"];
    let map = |map: &'static str| [&input[..], &["--map", map]].concat();
    refused(
        &desk,
        &map("measurements=sepal_length,sepal_width,petal,petal_width"),
        2,
        &["inputs.measurements", "there is no column 'petal'", "'petal_length'"],
    );
    refused(
        &desk,
        &map("measurements=sepal_length,sepal_width,petal_length,place"),
        2,
        &["column 'place' is Utf8", "FP32"],
    );
    refused(&desk, &map("measurements=sepal_length"), 2, &["name the 4 columns"]);
    refused(&desk, &map("measurement=id"), 2, &["the model has no such input", "'measurements'"]);
    refused(&desk, &[&input[..], &["--write", "spezies"]].concat(), 2, &["outputs.spezies", "'species'"]);
    refused(
        &desk,
        &[&input[..], &["--write", "species=id"]].concat(),
        2,
        &["two columns would be named 'id'"],
    );
    refused(&desk, &[&input[..], &["--where", "colour = 'red'"]].concat(), 2, &["where", "colour"]);
    refused(&desk, &[&input[..], &["--where", "id >"]].concat(), 2, &["where"]);
    write(&desk, "job.yaml", "model: iris\ninput: {url: in.parquet, formt: csv}\noutput: {url: out}\n");
    refused(&desk, &["job.yaml"], 2, &["job.yaml", "unknown field `formt`", "2:26"]);
    refused(&desk, &["--input", "nothing/*.parquet"], 1, &["nothing/*.parquet", "no files"]);
    refused(&desk, &["--input", "in.parquet", "--output-format", "xml"], 2, &["parquet, csv, jsonl"]);
}

#[test]
fn a_damaged_file_is_told_by_its_name() {
    let desk = Desk::default();
    desk.flowers("parquet", "whole.parquet", 1000, 0, 500);
    let whole = fs::read(desk.path("whole.parquet")).unwrap();
    write(&desk, "cut/a.parquet", &whole[..whole.len() / 2]);
    refused(&desk, &["--input", "cut"], 1, &["cut/a.parquet"]);
    write(&desk, "none/a.parquet", "");
    refused(&desk, &["--input", "none"], 1, &["none/a.parquet"]);
    let mut damaged = whole.clone();
    damaged[200..260].fill(0xff);
    write(&desk, "damaged/a.parquet", damaged);
    refused(&desk, &["--input", "damaged"], 1, &["damaged/a.parquet"]);
    // The second file has another type.
    write(&desk, "mixed/a.parquet", &whole);
    let text = "id,sepal_length\n1,2\n";
    write(&desk, "mixed/b.csv", text);
    refused(&desk, &["--input", "mixed"], 2, &["a.parquet", "b.csv"]);
    write(&desk, "short/a.csv", text);
    refused(&desk, &["--input", "short/a.csv"], 2, &["sepal_width"]);
}

#[test]
fn a_row_that_cannot_be_read_is_told_with_its_file_row_and_column() {
    let desk = Desk::default();
    let header = "id,sepal_length,sepal_width,petal_length,petal_width,place\n";
    let good = "1,5.1,3.5,1.4,0.2,here\n";
    write(&desk, "a.csv", format!("{header}{good}2,5.1,3.5\n{good}"));
    refused(&desk, &["--input", "a.csv"], 1, &["a.csv, row 2", "3 fields"]);
    write(&desk, "a.csv", format!("{header}{good}{good}3,5.1,wide,1.4,0.2,here\n"));
    refused(&desk, &["--input", "a.csv"], 1, &["a.csv, row 3", "'wide' is no FP32"]);
    write(&desk, "a.csv", format!("{header}{good}2,5.1,,1.4,0.2,here\n"));
    refused(&desk, &["--input", "a.csv"], 1, &["a.csv, row 2"]);
    write(
        &desk,
        "a.jsonl",
        "{\"sepal_length\": 1, \"sepal_width\": 1, \"petal_length\": 1, \"petal_width\": 1}\n{\"sepal\n",
    );
    refused(&desk, &["--input", "a.jsonl"], 1, &["a.jsonl, row 2"]);
}

#[test]
fn a_file_that_changes_under_a_job_is_told() {
    let desk = Desk::default();
    desk.flowers("parquet", "in.parquet", 1000, 0, 100);
    // Too many failed rows end it with parts to do; then the file is another.
    desk.flowers("csv", "in/a.csv", 1000, 0, 100);
    let broken = fs::read_to_string(desk.path("in/a.csv")).unwrap() + "\"1\n";
    write(&desk, "in/a.csv", &broken);
    let run = || desk.run(&["--input", "in", "--output", "out"]);
    run().expect(1);
    write(&desk, "in/a.csv", broken + "\n\n");
    let outcome = run();
    assert!(outcome.expect(1).stderr.contains("a.csv has changed"), "{}", outcome.stderr);
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let desk = Desk::default();
    desk.flowers("parquet", "in.parquet", 200_000, 0, 50_000);
    // No file may be larger than 64 KiB, which is how a disk that is full looks to who writes.
    let job = desk.iris(&["--input", "in.parquet", "--output", "out"]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$@\"", "sh"])
        .arg(job.get_program())
        .args(job.get_args());
    shell.current_dir(desk.folder.path()).env("VESPID_ONNXRUNTIME", "off").env("VESPID_OPENVINO", "off");
    let outcome = run(shell);
    assert!(outcome.expect(1).stderr.contains("out/part-0000"), "{}", outcome.stderr);
    assert!(desk.parts("out").is_empty(), "{:?}", desk.parts("out"));
    assert_eq!(desk.report(&["--input", "in.parquet", "--output", "out"])["rows"], 200_000);
}
