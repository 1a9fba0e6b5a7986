use std::fs;

use vespid_types::{Error, ErrorCode};

use super::*;

const PASSWORD: &str = "hunter2";

fn read(text: &str) -> Result<Permissions, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grants.toml");
    fs::write(&file, text).unwrap();
    fs::write(folder.path().join("key"), format!("{PASSWORD}\n")).unwrap();
    fs::write(folder.path().join("nothing"), "\n").unwrap();
    let variable = |name: &str| (name == "REGION").then(|| "eu".to_owned());
    read::rules(&file, &variable).map(|rules| Permissions { file: Some(rules.into()), own: None })
}

fn manifest(grants: &str) -> Manifest {
    let model = "[model]\nname = 'forecast'\nversion = '1'\nplugin = 'p.wasm'\n";
    Manifest::parse(&format!("{model}[grants]\n{grants}")).unwrap()
}

const ALL: &str = "models = ['iris']\nhttp = ['api.example.com']\nenv = ['REGION', 'URL']\nsecrets = ['key']\nfolder = 'assets'";

#[test]
fn what_is_asked_for_and_allowed_is_granted_and_no_more() {
    let permissions = read(
        r#"
        [[allow]]
        to = ["other"]
        env = { URL = "theirs" }
        [[allow]]
        to = ["fore*"]
        models = ["ir*"]
        http = ["*.example.com", "http://elsewhere"]
        env = { URL = "first", REGION = { env = "REGION" }, MORE = "unasked" }
        folder = true
        [[allow]]
        to = ["*"]
        env = { URL = "second" }
        secrets = { key = { file = "key" } }
        "#,
    );
    let granted = permissions.unwrap().grant(&manifest(ALL)).unwrap();
    assert_eq!(granted.models.iter().map(ModelName::as_str).collect::<Vec<_>>(), ["iris"]);
    assert_eq!(granted.http.iter().map(ToString::to_string).collect::<Vec<_>>(), ["https://api.example.com"]);
    assert_eq!(granted.env, [("REGION", "eu"), ("URL", "first")].map(|(k, v)| (k.into(), v.into())).into());
    assert_eq!(granted.secrets["key"].expose(), PASSWORD);
    assert_eq!(granted.folder.as_ref().unwrap().as_str(), "assets");
    assert!(!format!("{granted:?}").contains(PASSWORD));
}

#[test]
fn each_thing_that_is_not_allowed_is_listed_with_what_would_allow_it() {
    let refused = |permissions: Permissions| Error::from(permissions.grant(&manifest(ALL)).unwrap_err());
    let error = refused(read("[[allow]]\nto = ['other']\nfolder = true").unwrap());
    assert_eq!(error.code(), ErrorCode::PermissionDenied);
    for part in [
        "model 'forecast' version 1",
        "grants.models \"iris\" (allowed by models = [\"iris\"])",
        "grants.http \"https://api.example.com\" (allowed by http = [\"https://api.example.com\"])",
        "grants.env \"URL\" (allowed by env = { URL = \"VALUE\" })",
        "grants.secrets \"key\" (allowed by secrets = { \"key\" = { file = \"PATH\" } })",
        "grants.folder \"assets\" (allowed by folder = true)",
        "[[allow]] with to = [\"forecast\"]",
    ] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    // Without a file: what reaches nothing that is not served anyway is allowed.
    let error = refused(Permissions::default());
    assert!(error.message().contains("grants.http") && error.message().contains("--grants"), "{error}");
    assert!(
        !error.message().contains("grants.models") && !error.message().contains("grants.folder"),
        "{error}"
    );
    let harmless = manifest("models = ['iris']\nfolder = 'assets'");
    let granted = Permissions::default().grant(&harmless).unwrap();
    assert!(granted.models.contains("iris") && granted.folder.is_some());
}

#[test]
fn what_is_wrong_in_the_file_is_named_and_no_secret_shown() {
    for (text, expected) in [
        ("[[allow]]\nto = []", "number 1: to: name the models"),
        ("[[allow]]", "line 1: missing field `to`"),
        ("[[allow]]\nto = ['a']\n[[allow]]\nto = ['[']", "number 2: to: '[' is no pattern"),
        ("[[allow]]\nto = ['a']\nfiles = true", "line 3: unknown field `files`"),
        ("[[deny]]\nto = ['a']", "unknown field `deny`"),
        ("[[allow]]\nto = ['a']\nhttp = ['a/b']", "line 3: 'a/b' is no host"),
        ("[[allow]]\nto = ['a']\nmodels = ['**x']", "models: '**x' is no pattern"),
        ("[[allow]]\nto = ['a']\nenv = ['A']", "env: use a table"),
        ("[[allow]]\nto = ['a']\nenv = { A-B = 'x' }", "env.A-B: use 1 to 128"),
        ("[[allow]]\nto = ['a']\nenv = { A = 1 }", "env.A: use a text, or"),
        (
            "[[allow]]\nto = ['a']\nenv = { A = { env = 'NONE' } }",
            "env.A: the server's environment has no variable NONE",
        ),
        ("[[allow]]\nto = ['a']\nenv = { A = { file = 'key' } }", "env.A: use a text, or"),
        ("[[allow]]\nto = ['a']\nsecrets = { key = 'hunter2' }", "secrets.key: use { file"),
        ("[[allow]]\nto = ['a']\nsecrets = 'hunter2'", "secrets: use a table"),
        ("[[allow]]\nto = ['a']\nsecrets = { key = hunter2 }", "line 3"),
        (
            "[[allow]]\nto = ['a']\nsecrets = { key = { file = 'key', env = 'hunter2' } }",
            "secrets.key: use { file",
        ),
        ("[[allow]]\nto = ['a']\nsecrets = { key = { file = 'none' } }", "none cannot be read"),
        ("[[allow]]\nto = ['a']\nsecrets = { key = { file = 'nothing' } }", "secrets.key: it is empty"),
        ("[[allow]]\nto = ['a']\nsecrets = { key = { env = 'NONE' } }", "no variable NONE"),
    ] {
        let error = read(text).map(drop).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
    let missing = Permissions::read("/nowhere/grants.toml".as_ref()).unwrap_err().to_string();
    assert!(missing.contains("--grants /nowhere/grants.toml: "), "{missing}");
}

#[test]
fn what_a_model_is_allowed_by_itself_counts_beside_the_file_and_changes() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let file = read("[[allow]]\nto = ['*']\nhttp = ['*.example.com']\nenv = { REGION = 'file' }").unwrap();
    let permissions = file.with_own();
    let name: ModelName = "forecast".parse().unwrap();
    let refused = |permissions: &Permissions| Error::from(permissions.grant(&manifest(ALL)).unwrap_err());
    // Nothing is allowed that neither says, also what reaches nothing.
    let error = refused(&permissions);
    assert_eq!(error.code(), ErrorCode::PermissionDenied);
    for part in [
        "grants.models \"iris\" (allowed by models: [\"iris\"])",
        "grants.env \"URL\" (allowed by env: { URL: \"VALUE\" })",
        "grants.secrets \"key\" (allowed by secrets: { \"key\": { secret: SECRET, key: KEY } })",
        "spec.grants of Model 'forecast'",
    ] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    assert!(!error.message().contains("grants.http"), "{error}");
    let mut own = ModelGrants {
        models: vec!["ir?s".to_owned()],
        env: [("URL", "own"), ("REGION", "own")].map(|(name, value)| (name.into(), value.into())).into(),
        secrets: [("key".to_owned(), key.clone())].into(),
        folder: true,
        ..ModelGrants::default()
    };
    permissions.set(&name, Some(&own)).unwrap();
    // A secret may come later.
    let error = refused(&permissions);
    assert_eq!(error.code(), ErrorCode::Unavailable);
    assert!(error.message().contains("spec.grants.secrets 'key' of Model 'forecast'"), "{error}");
    fs::write(&key, format!("{PASSWORD}\n")).unwrap();
    let granted = permissions.grant(&manifest(ALL)).unwrap();
    assert_eq!((granted.env["URL"].as_str(), granted.env["REGION"].as_str()), ("own", "own"));
    assert_eq!(granted.secrets["key"].expose(), PASSWORD);
    // What is wrong is told by its field, and allows nothing.
    own.http = vec!["a/b".to_owned()];
    let error = permissions.set(&name, Some(&own)).unwrap_err().to_string();
    assert!(error.starts_with("spec.grants of Model 'forecast': http 'a/b': "), "{error}");
    assert_eq!(refused(&permissions).code(), ErrorCode::PermissionDenied);
    for (grants, expected) in [
        (ModelGrants { models: vec!["**x".to_owned()], ..ModelGrants::default() }, "models: '**x'"),
        (ModelGrants { env: [("A-B".into(), String::new())].into(), ..ModelGrants::default() }, "env 'A-B'"),
        (ModelGrants { secrets: [("/x".into(), key)].into(), ..ModelGrants::default() }, "secrets '/x'"),
    ] {
        let error = permissions.set(&name, Some(&grants)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
