//! Another client of registries: what it pulls of ours, and what we pull of its.

use std::fs;
use std::process::Command;

use vespid_tests::archive::Archive;
use vespid_tests::built::{self, package};
use vespid_tests::cli;
use vespid_tests::registry::{Registry, User, digest};

fn oras(user: &User, arguments: &[&str]) -> String {
    let mut command: Command = built::python_registry("tests/python/oras_client.py");
    command.args(arguments).current_dir(user.path("."));
    cli::run(command).expect(0).stdout.clone()
}

/// The place of a reference, as other tools write it.
fn bare(reference: &str) -> &str {
    reference.strip_prefix("oci://").unwrap()
}

const WASM_CONFIG: &str = "config.json:application/vnd.wasm.config.v0+json";

#[test]
fn oras_pulls_what_vespid_pushed() {
    let (registry, user) = (Registry::start(), User::default());
    let reference = registry.reference("models/iris:1");
    user.pushes(&package("iris"), &reference, &[]);
    fs::create_dir(user.path("pulled")).unwrap();
    let files = oras(&user, &["pull", bare(&reference), "pulled"]);
    assert_eq!(files.lines().count(), 3, "{files}");
    let iris = Archive::built("iris");
    for file in ["model.toml", "iris.wasm", "iris.onnx"] {
        assert!(fs::read(user.path("pulled").join(file)).unwrap() == iris.data(file), "{file}");
    }
}

#[test]
fn vespid_pulls_what_oras_pushed_where_it_is_a_package() {
    let (registry, user) = (Registry::start(), User::default());
    let iris = Archive::built("iris");
    for file in ["model.toml", "iris.wasm", "iris.onnx"] {
        user.write(file, iris.data(file));
    }
    user.write("config.json", r#"{"architecture": "wasm", "os": "wasip2", "layerDigests": []}"#);
    let reference = registry.reference("models/iris:1");
    let (model, plugin) = ("model.toml:application/vnd.vespid.model.v1+toml", "iris.wasm:application/wasm");
    let graph = "iris.onnx:application/vnd.vespid.graph.v1+onnx";
    oras(&user, &["push", bare(&reference), WASM_CONFIG, plugin, model, graph]);
    let pulled = user.runs(&["pull", &reference, "--output", "iris.tar"]);
    pulled.expect(0);
    assert!(registry.file(&digest(&pulled)).is_file());
    assert!(fs::read(user.path("iris.tar")).unwrap() == fs::read(package("iris")).unwrap());

    // A component alone, as other tools for Wasm push it.
    let component = registry.reference("components/iris:1");
    oras(&user, &["push", bare(&component), WASM_CONFIG, plugin]);
    let refused = user.runs(&["pull", &component]);
    let expected = "it is no package of Vespid's: it holds no model.toml (a layer of type \
                    application/vnd.vespid.model.v1+toml), only application/wasm";
    assert!(refused.expect(1).stderr.contains(expected), "{}", refused.stderr);
    // It can be the plugin of one.
    let found = refused.stderr.split("sha256:").nth(1).unwrap();
    let pinned = format!("{component}@sha256:{}", &found[..64]);
    let text = String::from_utf8(iris.data("model.toml").to_vec()).unwrap();
    let text = text
        .replace("plugin = \"iris.wasm\"", &format!("plugin = \"iris.wasm\"\nplugin_source = \"{pinned}\""));
    user.write("made/model.toml", text);
    user.write("made/iris.onnx", iris.data("iris.onnx"));
    user.runs(&["build", "made", "--output", "made.tar"]).expect(0);
    assert!(Archive::read(&user.path("made.tar")).data("iris.wasm") == iris.data("iris.wasm"));
}
