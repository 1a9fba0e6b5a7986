use serde_json::{Value, json};

use super::*;

const MODEL: &str = "[model]\nname = 'm'\nversion = '1'\nplugin = 'bin/p.wasm'\n\
                     [[graph]]\nname = 'g'\nfile = 'g.xml'\nweights = 'g.bin'\nencoding = 'openvino'\n\
                     [[graph]]\nname = 'h'\nfile = 'a.onnx'\nencoding = 'onnx'\n";

/// With a component inside that has an import and an export of its own.
const COMPONENT: &str = r#"(component
    (import "a:b/c@1.0.0" (instance))
    (import "f" (func $f))
    (component (import "inner" (func $i)) (export "inner-too" (func $i)))
    (core module (import "m" "n" (func)))
    (export "g" (func $f)))"#;

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn package() -> tempfile::TempDir {
    folder(&[
        ("model.toml", MODEL.as_bytes()),
        ("bin/p.wasm", b"\0asm\x01\0\0\0"),
        ("g.xml", b"<xml/>"),
        ("g.bin", b"weights"),
        ("a.onnx", b"graph"),
        ("labels.txt", b"graph"),
    ])
}

#[test]
fn a_folder_has_one_record_and_it_reads_back() {
    let (one, two) = (package(), package());
    let (record, config) = Record::of_folder(one.path()).unwrap();
    let (again, _) = Record::of_folder(two.path()).unwrap();
    assert_eq!((record.bytes(), record.digest()), (again.bytes(), again.digest()));
    assert_eq!(record.digest(), digest_of(record.bytes()));
    assert_eq!((record.config().digest, record.config().size), (digest_of(&config), config.len() as u64));

    let raw: Value = serde_json::from_slice(record.bytes()).unwrap();
    let layer =
        |layer: &Value| format!("{} {}", layer["mediaType"], layer["annotations"][TITLE]).replace('"', "");
    let layers: Vec<String> = raw["layers"].as_array().unwrap().iter().map(layer).collect();
    assert_eq!(
        layers,
        [
            "application/wasm bin/p.wasm",
            "application/vnd.vespid.model.v1+toml model.toml",
            "application/vnd.vespid.graph.v1+onnx a.onnx",
            "application/vnd.vespid.graph.v1+openvino g.bin",
            "application/vnd.vespid.graph.v1+openvino g.xml",
            "application/vnd.vespid.file.v1 labels.txt",
        ]
    );
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["os"], "wasip1", "a core module is a program for WASI 0.1");
    assert_eq!(config["component"], Value::Null);
    assert_eq!(config["layerDigests"].as_array().unwrap().len(), 6);

    let size: u64 = MODEL.len() as u64 + 8 + 6 + 7 + 5 + 5;
    assert_eq!((record.size(), record.files().len()), (size, 6));
    // Two files with one content are one blob, and the config is one more.
    assert_eq!(record.blobs().len(), 6);
}

#[test]
fn what_is_in_the_folder_decides_and_nothing_else() {
    let dir = package();
    let (before, _) = Record::of_folder(dir.path()).unwrap();
    fs::write(dir.path().join("labels.txt"), "other").unwrap();
    let (after, _) = Record::of_folder(dir.path()).unwrap();
    assert_ne!(before.digest(), after.digest());
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    let error = Record::of_folder(dir.path()).unwrap_err().to_string();
    assert!(error.contains("'link' is refused: only files and folders"), "{error}");
}

#[test]
fn a_component_s_own_names_are_in_its_config() {
    let interface = Interface::read(&wat::parse_str(COMPONENT).unwrap()).unwrap().unwrap();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    assert_eq!(interface, Interface { exports: names(&["g"]), imports: names(&["a:b/c@1.0.0", "f"]) });
    assert_eq!(Interface::read(b"\0asm\x01\0\0\0").unwrap(), None);
    assert!(Interface::read(b"#!/bin/sh").is_err());
}

#[test]
fn records_that_are_no_package_s_are_refused() {
    let dir = package();
    let (record, _) = Record::of_folder(dir.path()).unwrap();
    let good: Value = serde_json::from_slice(record.bytes()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut raw = good.clone();
        change(&mut raw);
        serde_json::to_vec(&raw).unwrap()
    };
    let titled = |position: usize, title: &str| {
        with(&|raw| raw["layers"][position]["annotations"][TITLE] = json!(title))
    };
    for (bytes, expected) in [
        (b"<html>".to_vec(), "not an OCI image manifest"),
        (with(&|raw| raw["layers"] = json!({})), "not an OCI image manifest"),
        (with(&|raw| raw["schemaVersion"] = json!(1)), "schemaVersion 2"),
        (with(&|raw| raw["mediaType"] = json!("application/vnd.oci.image.index.v1+json")), "is not of type"),
        (
            with(&|raw| raw["config"]["mediaType"] = json!("application/x")),
            "config.mediaType 'application/x'",
        ),
        (
            with(&|raw| raw["config"]["mediaType"] = json!("application/wasm")),
            "use 'application/vnd.wasm.config",
        ),
        (
            with(&|raw| raw["layers"][0]["mediaType"] = json!("text/plain")),
            "layers[0].mediaType 'text/plain'",
        ),
        (with(&|raw| raw["layers"][0]["digest"] = json!("sha256:12")), "'sha256:12' is not a digest"),
        (with(&|raw| raw["layers"][0]["size"] = json!(-1)), "not an OCI image manifest"),
        (with(&|raw| raw["layers"][0]["annotations"] = json!({})), "layers[0] has no annotation"),
        (with(&|raw| raw["layers"][2]["size"] = json!(7)), "'labels.txt' has another size"),
        (titled(2, "/etc/passwd"), "layers[2]: '/etc/passwd' is not a plain relative path"),
        (titled(2, "../x"), "plain relative path"),
        (titled(2, "g.xml"), "there is another file 'g.xml'"),
        (titled(2, "g.xml/a"), "'g.xml/a' is within a file"),
        (titled(2, "bin"), "'bin/p.wasm' is within a file"),
        (titled(1, "other.toml"), "holds no model.toml"),
        (with(&|raw| raw["layers"].as_array_mut().unwrap().truncate(1)), "holds no model.toml"),
        (
            with(&|raw| raw["layers"][1]["mediaType"] = json!("application/vnd.vespid.file.v1")),
            "'model.toml' is of type 'application/vnd.vespid.file.v1'",
        ),
        (vec![b' '; MAX_RECORD as usize + 1], "larger than 4.0 MiB"),
    ] {
        let error = Record::parse(bytes.into()).unwrap_err().to_string();
        assert!(error.contains(expected), "expected '{expected}': {error}");
    }
    // Fields of OCI's that say nothing to us are passed over, as OCI asks for.
    let more = with(&|raw| {
        raw["annotations"] = json!({"a": "b"});
        raw["artifactType"] = json!("application/x");
    });
    assert_eq!(Record::parse(more.into()).unwrap().files(), record.files());
}
