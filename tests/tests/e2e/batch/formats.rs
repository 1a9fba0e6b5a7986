//! Every format in and out, on disk and in a bucket: the rows are those that the server answers online.

use std::fs;

use serde_json::{Value, json};
use vespid_tests::oip::{assert_close, numbers, output, request};
use vespid_tests::s3::S3;
use vespid_tests::server::Server;

use super::Desk;

const FORMATS: [&str; 4] = ["parquet", "csv", "jsonl", "arrow"];
const ROWS: usize = 2500;

/// Holds a job's rows against what a server answers for the same flowers.
fn assert_online(rows: &[Value], count: usize) {
    assert_eq!(rows.len(), count);
    let columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
    let of = |row: &Value, name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
    let measurements: Vec<f64> =
        rows.iter().flat_map(|row| columns.map(|name| of(row, name) as f32 as f64)).collect();
    let server = Server::with(&["iris"]);
    let answer = server.infer("iris", &request("measurements", "FP32", &[count, 4], json!(measurements)));
    let species = output(&answer, "species")["data"].as_array().unwrap().clone();
    assert_eq!(rows.iter().map(|row| row["species"].clone()).collect::<Vec<_>>(), species);
    let got: Vec<f64> = rows.iter().flat_map(|row| numbers(&row["probabilities"])).collect();
    assert_close(&got, &numbers(&output(&answer, "probabilities")["data"]), 1e-6);
    for (id, row) in rows.iter().enumerate() {
        assert_eq!(row["id"], json!(id));
        let place = ["Gaspé", "Kyoto, \"east\"", "Innsbruck\nvalley"][id % 3];
        assert_eq!(row["place"], place, "{row}");
    }
}

#[test]
fn every_format_gives_what_the_server_answers() {
    let desk = Desk::default();
    for format in FORMATS {
        let input = format!("in/{format}.{format}");
        desk.flowers(format, &input, ROWS, 0, 1000);
        let out = format!("out-{format}");
        let report = desk.report(&["--input", &input, "--output", &out]);
        assert_eq!((&report["rows"], &report["errors"]), (&json!(ROWS), &json!(0)), "{report}");
        assert_online(&desk.rows(&out), ROWS);
        assert!(desk.path(&out).join("_SUCCESS").is_file());
        // All done: it is said again, and nothing is done.
        assert_eq!(desk.report(&["--input", &input, "--output", &out]), report);
    }
    for format in FORMATS {
        let out = format!("to-{format}");
        desk.report(&["--input", "in/parquet.parquet", "--output", &out, "--output-format", format]);
        assert_online(&desk.rows(&out), ROWS);
    }
}

#[test]
fn categories_are_kept_as_their_text() {
    let desk = Desk::default();
    desk.flowers("categories", "in/a.parquet", ROWS, 0, 1000);
    for format in FORMATS {
        let out = format!("to-{format}");
        desk.report(&["--input", "in", "--output", &out, "--output-format", format]);
        assert_online(&desk.rows(&out), ROWS);
    }
    desk.report(&["--input", "in", "--output", "some", "--where", "place LIKE 'Kyoto%'"]);
    let some = desk.rows("some");
    assert_eq!(some.len(), (0..ROWS).filter(|id| id % 3 == 1).count());
    assert!(some.iter().all(|row| row["place"] == "Kyoto, \"east\""));
}

#[test]
fn the_same_job_runs_in_a_bucket() {
    let s3 = S3::start();
    let desk = Desk::beside(&s3);
    for format in FORMATS {
        let name = format!("a.{format}");
        desk.flowers(format, &name, ROWS, 0, 1000);
        s3.put(&format!("in/{format}/{name}"), &fs::read(desk.path(&name)).unwrap());
        let (input, out) = (s3.url(&format!("in/{format}/*")), s3.url(&format!("out/{format}")));
        desk.report(&["--input", &input, "--output", &out]);
        let folder = desk.path(&format!("got-{format}"));
        fs::create_dir(&folder).unwrap();
        for path in s3.names(&format!("out/{format}")) {
            let file = path.rsplit('/').next().unwrap();
            if file.starts_with("part-") && !path.contains("/_") {
                fs::write(folder.join(file), s3.get(&path)).unwrap();
            }
        }
        assert_online(&super::rows(&folder), ROWS);
    }
}

#[test]
fn folders_filters_and_columns_are_chosen() {
    let desk = Desk::default();
    for (year, first) in [(2025, 0), (2026, 1000)] {
        desk.flowers("parquet", &format!("in/year={year}/a.parquet"), 1000, first, 300);
    }
    let query = ["--where", "year = 2026 AND id < 1100 AND place LIKE 'Kyoto%'", "--keep", "id,year"];
    desk.report(&[&["--input", "in", "--output", "out"], &query[..]].concat());
    let rows = desk.rows("out");
    let expected: Vec<_> = (1000..1100).filter(|id| id % 3 == 1).map(|id| json!(id)).collect();
    assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), expected);
    assert_eq!(rows[0]["year"], "2026");
    assert!(rows[0].get("sepal_length").is_none(), "{}", rows[0]);
    // Row groups that cannot hold such rows are no parts.
    assert_eq!(desk.parts("out").len(), 1);
}

#[test]
fn a_folder_of_files_is_a_row_each() {
    let desk = Desk::default();
    for (name, content) in
        [("a/one.json", "{\"a\": [1, 2, 3]}"), ("a/b/two.py", "import os\n\nprint(os.name)\n")]
    {
        let path = desk.path(&format!("in/{name}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let job = "model: will be said\ninput: {url: in, format: files}\ninputs: {file: content}\noutput: {url: out, format: jsonl}\n";
    fs::write(desk.path("job.yaml"), job).unwrap();
    vespid_tests::cli::run(desk.command("file-type", &["job.yaml"])).expect(0);
    let text = fs::read_to_string(desk.path("out/part-00000.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kind = |row: &Value| (row["path"].clone(), row["label"].clone());
    assert_eq!(
        rows.iter().map(kind).collect::<Vec<_>>(),
        [(json!("a/b/two.py"), json!("python")), (json!("a/one.json"), json!("json")),]
    );
    assert!(rows[0].get("content").is_none());
}
