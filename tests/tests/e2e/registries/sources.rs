//! Files that a `model.toml` has others bring: `plugin_source`, and `source` of a graph.

use std::fs;

use vespid_tests::archive::Archive;
use vespid_tests::built::package;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::registry::{Registry, User};
use vespid_tests::server::Server;

/// With the graph under another name than that of the artifact.
fn manifest(iris: &Archive, plugin: &str, graph: &str) -> String {
    let text = String::from_utf8(iris.data("model.toml").to_vec()).unwrap();
    for line in ["plugin = \"iris.wasm\"", "file = \"iris.onnx\""] {
        assert!(text.contains(line), "{text}");
    }
    text.replace("plugin = \"iris.wasm\"", &format!("plugin = \"iris.wasm\"\nplugin_source = \"{plugin}\""))
        .replace("file = \"iris.onnx\"", &format!("file = \"graphs/own.onnx\"\nsource = \"{graph}\""))
}

#[test]
fn a_package_is_made_of_what_others_published() {
    let (registry, user) = (Registry::start(), User::default());
    let iris = Archive::built("iris");
    let whole = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let plugin = registry.reference(&format!("models/iris:1@{whole}"));
    let graph = registry.reference(&format!("models/iris@{whole}"));
    user.write("iris/model.toml", manifest(&iris, &plugin, &graph));
    user.runs(&["build", "iris", "--output", "iris.tar"]).expect(0);
    let pushed = user.pushes(&user.path("iris"), &registry.reference("models/made:1"), &[]);
    // The server does not ask anybody.
    drop(registry);
    let server = Server::with(&[]);
    let answer = server.upload("iris", "1", &fs::read(user.path("iris.tar")).unwrap());
    assert_eq!(answer.status, 201, "{answer}");
    assert_setosa(&server.infer("iris", &flower()));
    assert_ne!(pushed, whole, "another model.toml is another package");
    // What the folder holds is not asked for.
    let gone = user.runs(&["build", "iris", "--output", "again.tar"]);
    assert!(gone.expect(1).stderr.contains("Connection refused"), "{}", gone.stderr);
    user.write("iris/iris.wasm", iris.data("iris.wasm"));
    user.write("iris/graphs/own.onnx", iris.data("iris.onnx"));
    user.runs(&["build", "iris", "--output", "again.tar"]).expect(0);
    assert!(fs::read(user.path("iris.tar")).unwrap() == fs::read(user.path("again.tar")).unwrap());
}

#[test]
fn sources_that_do_not_do_are_told() {
    let (registry, user) = (Registry::start(), User::default());
    let iris = Archive::built("iris");
    let whole = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let native = user.pushes(&package("iris-native"), &registry.reference("models/native:1"), &[]);
    let good = registry.reference(&format!("models/iris@{whole}"));
    for (plugin, graph, expected) in [
        (registry.reference("models/iris:1"), good.clone(), "model.plugin_source: oci://"),
        (good.clone(), registry.reference("models/iris:1"), "source: oci://"),
        (
            registry.reference(&format!("models/native@{native}")),
            good.clone(),
            "holds no layer of type application/wasm",
        ),
        (
            good.clone(),
            registry.reference(&format!("models/gone@{native}")),
            "the registry holds no such artifact",
        ),
    ] {
        user.write("iris/model.toml", manifest(&iris, &plugin, &graph));
        let built = user.runs(&["build", "iris", "--output", "iris.tar"]);
        assert!(built.expect(1).stderr.contains(expected), "{expected}: {}", built.stderr);
    }
    user.write("trust.toml", "");
    user.write("iris/model.toml", manifest(&iris, &good, &good));
    let built = user.runs(&["build", "iris", "--trust", "trust.toml"]);
    assert!(built.expect(1).stderr.contains("no rule of trust.toml matches"), "{}", built.stderr);
}
