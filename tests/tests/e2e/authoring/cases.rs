//! `vespid test` over a model that is a graph alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use vespid_tests::built::repository;
use vespid_tests::cli::{self, Outcome};
use vespid_tests::oip::flower;

struct Model {
    _parent: TempDir,
    folder: PathBuf,
}

impl Model {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("iris-native");
        fs::create_dir_all(folder.join("cases")).unwrap();
        for file in ["model.toml", "iris.onnx"] {
            fs::copy(repository("plugins/iris-native").join(file), folder.join(file)).unwrap();
        }
        Self { _parent: parent, folder }
    }

    fn case(&self, name: &str) -> PathBuf {
        self.folder.join("cases").join(format!("{name}.json"))
    }

    fn write(&self, name: &str, case: &Value) {
        fs::write(self.case(name), case.to_string()).unwrap();
    }

    fn test(&self, arguments: &[&str]) -> Outcome {
        let folder = self.folder.display().to_string();
        cli::vespid(
            Path::new("/"),
            &[("VESPID_ONNXRUNTIME", "off")],
            &[&["test", &folder], arguments].concat(),
        )
    }
}

fn probabilities(data: [f64; 3]) -> Value {
    json!({"outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 3], "data": data}]})
}

#[test]
fn what_differs_is_told_and_recorded() {
    let model = Model::new();
    model.test(&[]).expect(1);
    let right = probabilities([0.9998348, 0.00015487, 1.034e-05]);
    model.write("right", &json!({"request": flower(), "response": right}));
    model.write("wrong", &json!({"request": flower(), "response": probabilities([0.9998348, 0.1, 0.2])}));
    model.write(
        "close",
        &json!({"request": flower(), "response": probabilities([0.9, 0.1, 0.0]), "tolerance": 0.2}),
    );
    model.write(
        "refused",
        &json!({"request": {"inputs": []}, "error": {"code": "INVALID_ARGUMENT", "contains": "is missing"}}),
    );
    let before = fs::read(model.case("right")).unwrap();
    let tested = model.test(&[]);
    tested.expect(1);
    let lines: Vec<&str> = tested.stdout.lines().collect();
    assert!(lines[0].starts_with("ok       close") && lines[1].starts_with("ok       refused"), "{lines:?}");
    assert!(lines[3].starts_with("FAIL     wrong"), "{lines:?}");
    let difference = "output 'probabilities'[0][1]: expected 0.1";
    assert!(
        lines[4].contains(difference) && lines[4].ends_with("(tolerance 1e-5); 2 of 3 values differ"),
        "{lines:?}"
    );
    assert_eq!(lines[5], "4 cases: 3 passed, 1 failed");
    assert_eq!(model.test(&["--case", "right"]).expect(0).stdout.lines().count(), 2);
    assert!(
        model.test(&["--case", "other"]).expect(2).stderr.contains("there are close, refused, right, wrong")
    );

    let updated = model.test(&["--update"]);
    assert!(
        updated.expect(0).stdout.ends_with("4 cases: 3 passed, 1 updated, 0 failed\n"),
        "{}",
        updated.stdout
    );
    model.test(&[]).expect(0);
    assert!(fs::read(model.case("right")).unwrap() == before, "a case that passes is left as it is written");
    let recorded: Value = serde_json::from_slice(&fs::read(model.case("wrong")).unwrap()).unwrap();
    assert_eq!(recorded["request"], flower());
}

#[test]
fn cases_that_cannot_be_read_fail_by_name() {
    let model = Model::new();
    fs::write(model.case("text"), "text").unwrap();
    let refused = model.test(&[]);
    refused.expect(1);
    assert!(
        refused.stderr.contains("text.json") && refused.stderr.contains("not a case"),
        "{}",
        refused.stderr
    );

    fs::remove_file(model.case("text")).unwrap();
    let file =
        json!({"inputs": [{"name": "measurements", "datatype": "FP32", "shape": [1, 4], "files": ["row"]}]});
    model.write("file", &json!({"request": file}));
    assert!(model.test(&[]).expect(1).stderr.contains("cases/row is missing"));
    let row: Vec<u8> = [5.1f32, 3.5, 1.4, 0.2].iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(model.folder.join("cases/row"), row).unwrap();
    let unrecorded = model.test(&[]);
    assert!(unrecorded.expect(1).stdout.contains("neither 'response' nor 'error' is recorded yet"));
    model.test(&["--update"]).expect(0);
    let recorded: Value = serde_json::from_slice(&fs::read(model.case("file")).unwrap()).unwrap();
    let first = recorded["response"]["outputs"][0]["data"][0].as_f64().unwrap();
    assert!((first - 0.9998348).abs() < 1e-5, "{recorded}");
}
