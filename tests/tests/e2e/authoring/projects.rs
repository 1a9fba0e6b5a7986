//! New projects, as their README says.

use std::fs;
use std::path::Path;

use serde_json::json;
use vespid_tests::cli::{self, Outcome};
use vespid_tests::oip::{output, request};
use vespid_tests::server::Server;

fn vespid(folder: &Path, arguments: &[&str]) -> Outcome {
    let guests = folder.join("guests").display().to_string();
    cli::vespid(folder, &[("VESPID_GUEST_TARGET_DIR", &guests)], arguments)
}

/// A new project in `language`, whose README is followed.
fn follow(language: &str) {
    let parent = tempfile::tempdir().unwrap();
    vespid(parent.path(), &["new", "scaler", "--lang", language]).expect(0);
    let project = parent.path().join("scaler");
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    for command in ["vespid test .", "vespid dev .", "vespid push .", "vespid build ."] {
        assert!(readme.contains(command), "{readme}");
    }
    let tested = vespid(&project, &["test", "."]);
    assert!(tested.expect(0).stdout.ends_with("2 cases: 2 passed, 0 failed\n"), "{}", tested.stdout);

    let built = vespid(&project, &["build", "."]);
    built.expect(0);
    let package = fs::read(project.join("scaler-1.tar")).unwrap();
    // What was built once is not built again, without the tools too, and comes out the same.
    let path = if language == "rust" { std::env::var("PATH").unwrap() } else { "/nothing".to_owned() };
    cli::vespid(&project, &[("PATH", &path)], &["build", "."]).expect(0);
    assert!(package == fs::read(project.join("scaler-1.tar")).unwrap());
    // The cases are in the package.
    let tested = vespid(&project, &["test", "scaler-1.tar", "--case", "rows"]);
    assert!(tested.expect(0).stdout.ends_with("1 cases: 1 passed, 0 failed\n"), "{}", tested.stdout);

    let server = Server::with(&[]);
    vespid(&project, &["push", ".", "--server", &server.url()]).expect(0);
    let values = |columns: usize, values: &[f32]| {
        request("values", "FP32", &[values.len() / columns.max(1), columns], values)
    };
    let answer = server.infer("scaler", &values(2, &[3.0, 4.0, 0.0, 0.0]));
    assert_eq!(output(&answer, "scaled")["data"], json!([0.6, 0.8, 0.0, 0.0]));
    assert_eq!(output(&answer, "length")["data"], json!([5.0, 0.0]));
    server.infer("scaler", &values(0, &[])).assert_error(400, "'values' has rows without values");
}

#[test]
fn a_project_in_rust_answers_at_once() {
    follow("rust");
}

#[test]
fn a_project_in_python_answers_at_once() {
    follow("python");
}

#[test]
fn a_project_in_javascript_answers_at_once() {
    follow("js");
}

#[test]
fn what_does_not_build_is_shown_as_the_language_has_it() {
    let parent = tempfile::tempdir().unwrap();
    for (language, file, broken, expected) in [
        ("python", "plugin.py", "from vespid import *\ndef describe(:\n", &["plugin.py", "SyntaxError"][..]),
        ("js", "plugin.js", "export function describe( {\n", &["plugin.js:"]),
    ] {
        vespid(parent.path(), &["new", language, "--lang", language]).expect(0);
        fs::write(parent.path().join(language).join(file), broken).unwrap();
        let built = vespid(parent.path(), &["build", language]);
        built.expect(1);
        let plain = [&format!("the plugin in {language} does not build") as &str, "hint:"];
        for text in expected.iter().chain(&plain) {
            assert!(built.stderr.contains(text), "'{text}' is not in\n{}", built.stderr);
        }
        assert!(!built.stderr.contains("/tmp/") && !built.stderr.contains("Caused by"), "{}", built.stderr);
    }
    fs::write(parent.path().join("js/plugin.py"), "").unwrap();
    let both = vespid(parent.path(), &["build", "js"]);
    assert!(both.expect(1).stderr.contains("holds both plugin.py and plugin.js"), "{}", both.stderr);
}

#[test]
fn a_machine_without_the_tools_is_told_what_to_install() {
    let parent = tempfile::tempdir().unwrap();
    let nothing = [("PATH", "/nothing"), ("VESPID_CACHE", parent.path().to_str().unwrap())];
    for (language, missing) in
        [("python", "there is no python3 on the path"), ("js", "there is no python3 on the path")]
    {
        vespid(parent.path(), &["new", language, "--lang", language]).expect(0);
        let built = cli::vespid(parent.path(), &nothing, &["build", language]);
        built.expect(1);
        assert!(
            built.stderr.contains(missing) && built.stderr.contains("install Python"),
            "{}",
            built.stderr
        );
    }
    let doctor = cli::vespid(parent.path(), &nothing, &["doctor"]);
    for told in ["componentize-py: there is no python3", "componentize-qjs: there is no Node.js"] {
        assert!(doctor.expect(0).stdout.contains(told), "{}", doctor.stdout);
    }
}
