//! The command line, as a user types it.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use vespid_tests::built::{package, repository};
use vespid_tests::cli::{self, Outcome};
use vespid_tests::oip::flower;
use vespid_tests::server::Server;

/// A user in a folder, with a server.
struct User<'a> {
    folder: &'a Path,
    url: String,
    guests: String,
}

impl<'a> User<'a> {
    fn new(folder: &'a Path, url: String) -> Self {
        let guests = folder.join("guests").display().to_string();
        Self { folder, url, guests }
    }

    fn runs(&self, arguments: &[impl AsRef<OsStr>]) -> Outcome {
        let variables = [("VESPID_SERVER", self.url.as_str()), ("VESPID_GUEST_TARGET_DIR", &self.guests)];
        cli::vespid(self.folder, &variables, arguments)
    }
}

/// The words of each line of a table.
fn rows(outcome: &Outcome) -> Vec<String> {
    outcome.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_new_plugin_is_built_pushed_and_asked_as_its_readme_says() {
    let server = Server::with(&[]);
    let parent = tempfile::tempdir().unwrap();
    let outside = User::new(parent.path(), server.url());
    let new = outside.runs(&["new", "scaler"]);
    new.expect(0);
    assert!(new.stdout.contains("wrote scaler"), "{}", new.stdout);
    outside.runs(&["new", "scaler"]).expect(1);

    let project = parent.path().join("scaler");
    let readme = fs::read_to_string(project.join("README.md")).unwrap();
    let inside = User { folder: &project, url: server.url(), guests: outside.guests.clone() };
    for command in ["vespid build .", "vespid push .", "vespid predict scaler values='3,4;1,2'"] {
        assert!(readme.contains(command), "{readme}");
    }
    let built = inside.runs(&["build", "."]);
    built.expect(0);
    assert!(
        built.stdout.contains("scaler-1.tar") && project.join("scaler-1.tar").is_file(),
        "{}",
        built.stdout
    );
    let pushed = inside.runs(&["push", "."]);
    pushed.expect(0);
    assert!(pushed.stdout.contains("pushed scaler version 1"), "{}", pushed.stdout);
    let table = inside.runs(&["predict", "scaler", "values=3,4;1,2"]);
    table.expect(0);
    assert_eq!(rows(&table), ["scaled length", "[0.6000, 0.8000] 5.0000", "[0.4472, 0.8944] 2.2361"]);

    // The configuration is part of the package, and the code is not touched.
    let manifest = fs::read_to_string(project.join("model.toml")).unwrap();
    let manifest =
        manifest.replace("version = \"1\"", "version = \"2\"").replace("length = 1.0", "length = 10");
    fs::write(project.join("model.toml"), manifest).unwrap();
    inside.runs(&["push", "."]).expect(0);
    let table = inside.runs(&["predict", "scaler", "values=3,4"]);
    table.expect(0);
    assert_eq!(rows(&table), ["scaled length", "[6.0000, 8.0000] 5.0000"]);
    let first = inside.runs(&["predict", "scaler", "values=3,4", "--version", "1"]);
    first.expect(0);
    assert_eq!(rows(&first), ["scaled length", "[0.6000, 0.8000] 5.0000"]);
    let again = inside.runs(&["push", "scaler-1.tar"]);
    again.expect(1);
    assert!(again.stderr.contains("exists already") && again.stderr.contains("hint:"), "{}", again.stderr);
}

#[test]
fn models_are_listed_asked_and_deleted() {
    let server = Server::with(&["file-type", "simple"]);
    let folder = tempfile::tempdir().unwrap();
    let user = User::new(folder.path(), server.url());
    let package = package("iris");
    let pushed = user.runs(&[OsStr::new("push"), package.as_os_str()]);
    pushed.expect(0);
    assert!(pushed.stdout.starts_with("pushed iris version 1"), "{}", pushed.stdout);
    let listed = user.runs(&["models"]);
    listed.expect(0);
    assert_eq!(
        rows(&listed),
        ["NAME VERSION STATE REASON", "file-type 1 READY", "iris 1 READY", "simple 1 READY"]
    );
    let listed = user.runs(&["models", "--output", "json"]);
    listed.expect(0);
    let json: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(json[1], json!({"name": "iris", "version": "1", "state": "READY", "reason": ""}));

    let asked = user.runs(&["predict", "iris", "measurements=5.1,3.5,1.4,0.2;6.5,3.2,5.1,2.0"]);
    asked.expect(0);
    let table = rows(&asked);
    assert!(table[1].starts_with("setosa [0.99") && table[2].starts_with("virginica [0.0"), "{table:?}");
    let asked = user.runs(&["predict", "iris", "measurements=5.1,3.5,1.4,0.2", "--output", "json"]);
    asked.expect(0);
    let json: Value = serde_json::from_str(&asked.stdout).unwrap();
    assert_eq!(json["outputs"][0]["data"], json!(["setosa"]));

    fs::write(folder.path().join("request.json"), flower().to_string()).unwrap();
    let asked = user.runs(&["predict", "iris", "--json", "request.json"]);
    asked.expect(0);
    assert!(rows(&asked)[1].starts_with("setosa "), "{}", asked.stdout);
    let script = repository("tests/cases/files/sieve.py").display().to_string();
    let asked = user.runs(&["predict", "file-type", "--file", &script, "request.json"]);
    asked.expect(0);
    let table = rows(&asked);
    assert!(table[1].starts_with(&format!("{script} python text/x-python ")), "{table:?}");
    assert!(table[2].starts_with("request.json json application/json "), "{table:?}");

    let deleted = user.runs(&["delete", "iris", "--version", "1"]);
    deleted.expect(0);
    assert!(deleted.stdout.starts_with("deleted iris version 1"), "{}", deleted.stdout);
    user.runs(&["delete", "iris", "--version", "1"]).expect(1);
    user.runs(&["predict", "iris", "measurements=1,2,3,4"]).expect(1);
}

#[test]
fn the_doctor_finds_nothing_amiss() {
    let server = Server::with(&[]);
    let folder = tempfile::tempdir().unwrap();
    let user = User::new(folder.path(), server.url());
    let outcome = user.runs(&["doctor"]);
    outcome.expect(0);
    assert!(outcome.stdout.contains(&format!("is ready at {}", server.url())), "{}", outcome.stdout);
    server.stop();
    let outcome = user.runs(&["doctor"]);
    outcome.expect(1);
    assert!(outcome.stderr.contains("needed and not there: server"), "{}", outcome.stderr);
}

#[test]
fn mistakes_are_named_with_a_remedy_and_an_exit_code() {
    let server = Server::with(&["iris", "simple"]);
    let folder = tempfile::tempdir().unwrap();
    let user = User::new(folder.path(), server.url());
    fs::write(folder.path().join("empty.tar"), "").unwrap();
    fs::write(folder.path().join("text.tar"), "not a tar").unwrap();
    let nobody = "http://127.0.0.1:9";
    for (arguments, code, message) in [
        (&["predict", "iriss", "a=1"][..], 1, "Request for unknown model"),
        (&["predict", "iris", "measurements=1,2,3"], 2, "measurements"),
        (&["predict", "iris", "flower=1,2,3,4"], 2, "flower"),
        (&["predict", "iris", "measurements=a,b,c,d"], 2, "measurements"),
        (&["predict", "iris"], 2, "required"),
        (&["predict", "iris", "--json", "nothing.json"], 1, "nothing.json"),
        (&["predict", "iris", "--file", "empty.tar"], 2, "BYTES"),
        (&["predict", "../iris", "a=1"], 2, "is not a model name"),
        (&["delete", "nothing", "--version", "1"], 1, "no model 'nothing' version 1"),
        (&["delete", "iris"], 2, "--version"),
        (&["push", "nothing.tar"], 1, "nothing.tar"),
        (&["push", "empty.tar"], 1, "empty.tar"),
        (&["push", "text.tar"], 1, "text.tar"),
        (&["build", "."], 1, "model.toml cannot be read"),
        (&["new", "Not A Name"], 2, "is not a model name"),
        (&["new", "fn"], 2, "choose another"),
        (&["models", "--server", nobody], 1, "no server answers at"),
        (&["push", "text.tar", "--server", "ftp://x"], 2, "--server"),
        (&["predict", "iris", "a=1", "--server", nobody], 1, "vespid serve --store DIR"),
        (&["frobnicate"], 2, "frobnicate"),
        (&["serve"], 2, "--store"),
        (&[], 2, "Usage:"),
    ] {
        let outcome = user.runs(arguments);
        println!("{arguments:?}: {}\n{}", outcome.code, outcome.stderr);
        outcome.expect(code);
        assert!(outcome.stderr.contains(message), "'{message}' is not in\n{}", outcome.stderr);
        assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["--version"], &["serve", "--help"], &["predict", "-h"]] {
        let outcome = cli::vespid(folder.path(), &[], arguments);
        outcome.expect(0);
        assert!(outcome.stdout.contains("vespid") && outcome.stderr.is_empty(), "{}", outcome.stderr);
    }
}
