//! `vespid inspect`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vespid_tests::built::{package, repository};
use vespid_tests::cli::{self, Outcome};

fn inspect(path: &Path, arguments: &[&str]) -> Outcome {
    let mut line = vec![OsStr::new("inspect"), path.as_os_str()];
    line.extend(arguments.iter().map(OsStr::new));
    cli::vespid(Path::new("/"), &[], &line)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&inspect(path, &["--output", "json"]).expect(0).stdout).unwrap()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn a_package_is_shown_with_what_its_plugin_wants() {
    let path = package("kinds-js");
    let shown = json_of(&path);
    assert_eq!((&shown["name"], &shown["version"]), (&json!("kinds-js"), &json!("1")));
    let digest = |content: &[u8]| hex::encode(Sha256::digest(content));
    assert_eq!(shown["archive"]["sha256"], digest(&fs::read(&path).unwrap()));
    let files = shown["files"].as_array().unwrap();
    let model = fs::read(repository("tests/scripted/kinds-js/model.toml")).unwrap();
    let expected = json!({"path": "model.toml", "size": model.len(), "sha256": digest(&model)});
    assert!(files.contains(&expected), "{files:?}");
    assert_eq!(shown["grants"]["models"], json!(["simple_string"]));
    let plugin = &shown["plugin"];
    assert_eq!((&plugin["kind"], &plugin["streams"]), (&json!("component"), &json!(true)));
    assert!(names(&plugin["imports"]).contains(&"vespid:model/host@0.1.0"), "{plugin}");
    assert!(names(&plugin["exports"]).contains(&"vespid:model/streaming@0.1.0"), "{plugin}");
    let said = json!({"name": "said", "datatype": "BYTES", "shape": [-1], "optional": false});
    assert!(shown["signature"]["outputs"].as_array().unwrap().contains(&said), "{shown}");

    let table = inspect(&package("iris"), &[]);
    for text in ["model      iris", "measurements", "wasi:nn/graph@0.2.0-rc-2024-10-28", "iris.onnx"] {
        assert!(table.expect(0).stdout.contains(text), "{}", table.stdout);
    }
    let wit = inspect(&package("iris"), &["--wit"]);
    assert!(wit.expect(0).stdout.contains("export vespid:model/model@0.1.0;"), "{}", wit.stdout);
}

#[test]
fn what_cannot_be_told_says_why() {
    let shown = json_of(&package("describe-trap"));
    assert!(shown["signature_unknown"].as_str().unwrap().contains("does not describe itself"), "{shown}");
    assert!(shown["signature"].is_null(), "{shown}");
    assert_eq!(json_of(&package("iris-command"))["plugin"]["kind"], "command");
    let native = json_of(&package("iris-native"));
    assert!(
        native["plugin"].is_null() && native["signature"]["inputs"][0]["name"] == "measurements",
        "{native}"
    );
    assert!(inspect(&repository("Cargo.toml"), &[]).expect(1).stderr.contains("as a package"));
}
