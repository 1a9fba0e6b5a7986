//! Servers that get packages by themselves: at the start, and when they are asked to.

use std::fs;

use vespid_tests::archive::Archive;
use vespid_tests::built::package;
use vespid_tests::http::Answer;
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::registry::{Registry, User};
use vespid_tests::server::{FREE_PORTS, Home, Server, repository_path, serve};
use vespid_tests::{cli, wait};

/// Starts a server as this user.
fn start(home: &Home, user: &User, arguments: &[&str]) -> Server {
    let variables = user.variables();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    home.start_in(arguments, &variables)
}

/// What a server says that does not start.
fn refused(home: &Home, user: &User, arguments: &[&str]) -> String {
    let mut command = serve(&home.store(), &[FREE_PORTS, arguments].concat());
    command.envs(user.variables()).current_dir(user.path("."));
    cli::run(command).expect(1).stderr.clone()
}

#[test]
fn packages_are_there_when_the_server_is() {
    let (registry, user, home) = (Registry::start(), User::default(), Home::default());
    let digest = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let pinned = registry.reference(&format!("models/iris@{digest}"));
    let tagged = registry.reference("models/iris:1");
    let native = package("iris-native").display().to_string();
    fs::create_dir(user.path("simple")).unwrap();
    let simple = Archive::built("simple");
    for file in ["model.toml", "simple.wasm"] {
        user.write(&format!("simple/{file}"), simple.data(file));
    }
    let folder = user.path("simple").display().to_string();
    let arguments = ["--package", &pinned, "--package", &native, "--package", &folder];
    let server = start(&home, &user, &arguments);
    assert_eq!(server.index(), ["iris 1 READY", "iris-native 1 READY", "simple 1 READY"]);
    assert_setosa(&server.infer("iris", &flower()));
    server.stop();

    // They are there already, and the registry is not asked for their blobs.
    let before = registry.requests().len();
    let server = start(&home, &user, &["--package", &tagged, "--package", &native, "--package", &folder]);
    assert_eq!(server.index().len(), 3);
    server.stop();
    let asked = registry.requests().split_off(before);
    assert!(!asked.iter().any(|request| request.contains("/blobs/")), "{asked:#?}");
    drop(registry);
    // What is pinned needs no registry at all.
    start(&home, &user, &["--package", &pinned]).stop();
}

#[test]
fn another_package_of_a_version_that_is_there_is_refused_by_name() {
    let (registry, user, home) = (Registry::start(), User::default(), Home::default());
    let first = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    start(&home, &user, &["--package", &registry.reference("models/iris:1")]).stop();
    user.write("other.tar", Archive::built("iris").file("more.txt", "more").to_tar());
    let second = user.pushes(&user.path("other.tar"), &registry.reference("models/iris:1"), &[]);
    let error = refused(&home, &user, &["--package", &registry.reference("models/iris:1")]);
    assert!(error.contains(&first) && error.contains(&second), "{error}");
    assert!(error.contains("model 'iris' version 1"), "{error}");
    let error = refused(&home, &user, &["--package", &registry.reference("models/iris:7")]);
    assert!(error.contains("the registry holds no such artifact"), "{error}");
    let error = refused(&home, &user, &["--package", "no-such-file.tar"]);
    assert!(error.contains("no-such-file.tar"), "{error}");
    // What was there is as it was.
    let server = start(&home, &user, &[]);
    assert_setosa(&server.infer("iris", &flower()));
}

fn put(server: &Server, model: &str, version: &str, source: &str) -> Answer {
    let body = serde_json::json!({ "source": source }).to_string();
    let json = [("content-type", "application/json; charset=utf-8")];
    server.send("PUT", &repository_path(model, version), &json, body.as_bytes())
}

#[test]
fn a_server_pulls_what_it_is_asked_to_from_where_it_may() {
    let (registry, user, home) = (Registry::start(), User::default(), Home::default());
    let digest = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let elsewhere = user.pushes(&package("iris"), &registry.reference("elsewhere/iris:1"), &[]);
    let pinned = registry.reference(&format!("models/iris@{digest}"));
    let pattern = format!("{}/models/**", registry.host());
    let server = start(&home, &user, &["--registry", &pattern]);
    for (version, source, status, expected) in [
        ("1", registry.reference("models/iris:1"), 400, "is not pinned"),
        ("1", "iris".to_owned(), 400, "write it as oci://"),
        ("1", registry.reference(&format!("elsewhere/iris@{elsewhere}")), 403, "start it with `--registry`"),
        ("1", format!("oci://169.254.169.254/models/iris@{digest}"), 403, "start it with `--registry`"),
        ("2", pinned.clone(), 400, "the package is 'iris' version 1; the request names 'iris' version 2"),
        (
            "1",
            registry.reference(&format!("models/none@{digest}")),
            404,
            "the registry holds no such artifact",
        ),
    ] {
        put(&server, "iris", version, &source).assert_error(status, expected);
        assert_eq!(server.index(), [""; 0], "{source}");
    }
    let answer = put(&server, "iris", "1", &pinned);
    assert_eq!((answer.status, answer.json()["state"].as_str()), (201, Some("READY")), "{answer}");
    assert_setosa(&server.infer("iris", &flower()));
    put(&server, "iris", "1", &pinned).assert_error(409, "model 'iris' version 1 exists already");
    let json = [("content-type", "application/json")];
    let path = repository_path("iris", "2");
    server.send("PUT", &path, &json, br#"{"sauce": 1}"#).assert_error(400, "sauce");
    server.stop();
    // It is in the store, with the digest that it had.
    let server = start(&home, &user, &["--package", &pinned]);
    assert_setosa(&server.infer("iris", &flower()));
}

#[test]
fn a_server_with_a_policy_takes_what_the_policy_admits() {
    let (registry, user, home) = (Registry::start(), User::default(), Home::default());
    user.runs(&["keygen", "--output", "team"]).expect(0);
    let trust = |more: &str| {
        let rule = format!("[[rule]]\npattern = \"{}/models/*\"\nkeys = [\"team.pub\"]\n", registry.host());
        user.write("trust.toml", format!("{more}{rule}"));
        user.path("trust.toml").display().to_string()
    };
    let unsigned = user.pushes(&package("iris"), &registry.reference("models/iris:1"), &[]);
    let pattern = format!("{}/models/*", registry.host());
    let server = start(&home, &user, &["--registry", &pattern, "--trust", &trust("")]);
    let source = registry.reference(&format!("models/iris@{unsigned}"));
    put(&server, "iris", "1", &source)
        .assert_error(403, "it is not signed; a signature by one of these keys is wanted: team.pub");
    // A client's own upload is another matter, unless the policy says so too.
    server.push("iris-native");
    user.pushes(&package("iris"), &registry.reference("models/iris:1"), &["--sign", "team.key"]);
    assert_eq!(put(&server, "iris", "1", &source).status, 201);
    server.stop();

    let error = refused(
        &Home::default(),
        &user,
        &["--package", &registry.reference("other/iris:1"), "--trust", &trust("")],
    );
    assert!(error.contains("other/iris"), "{error}");
    let server = start(&home, &user, &["--trust", &trust("uploads = \"deny\"\n")]);
    assert_eq!(server.index(), ["iris 1 READY", "iris-native 1 READY"]);
    let simple = Archive::built("simple").to_tar();
    server.upload("simple", "1", &simple).assert_error(403, "the trust policy does not admit uploads");
    let files = serde_json::json!({"parameters": {"config": "{}", "file:1/model.onnx": ""}});
    server.post("/v2/repository/models/iris-native/load", &files).assert_error(403, "does not admit uploads");
    wait::until("it serves on", || (server.infer("iris", &flower()).status == 200).then_some(()));
}
