//! A client that others wrote, unmodified. `tests/conformance` has more.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use vespid_tests::built::{package, python, repository, vespid};
use vespid_tests::cli::run;
use vespid_tests::oip::output;
use vespid_tests::server::Server;

/// Files by name, each with the label and MIME type that is right.
type Files = BTreeMap<String, [String; 2]>;

const LARGE: usize = 50 << 20;

#[test]
fn file_types_are_right_and_those_that_google_s_client_tells() {
    let server = Server::with(&["file-type"]);
    let folder = tempfile::tempdir().unwrap();
    let files = write_files(folder.path());
    for (name, [label, mime_type]) in &files {
        let content = fs::read(folder.path().join(name)).unwrap();
        let raw = [("content-type", "application/octet-stream")];
        let answer = server.send("POST", "/v2/models/file-type/infer", &raw, &content);
        assert_eq!(output(&answer, "label")["data"], json!([label]), "{name}: {answer}");
        assert_eq!(output(&answer, "mime_type")["data"], json!([mime_type]), "{name}: {answer}");
    }
    for batch in ["1", "4"] {
        let mut compare = python("plugins/file-type/compare.py");
        compare.args(["--server", &server.url(), "--batch", batch, "--tolerance", "1e-4"]);
        compare.args(["--max-bytes", &LARGE.to_string()]).arg(folder.path());
        let outcome = run(compare);
        outcome.expect(0);
        let expected = format!("{} files compared, 0 mismatches, 0 left out", files.len());
        assert!(outcome.stdout.contains(&expected), "{}", outcome.stdout);
    }
}

/// The files of `tests/cases/files`, and others that are too large to be there.
fn write_files(folder: &Path) -> Files {
    let cases = repository("tests/cases/files");
    let mut files: Files = serde_json::from_slice(&fs::read(cases.join("expected.json")).unwrap()).unwrap();
    for name in files.keys() {
        fs::copy(cases.join(name), folder.join(name)).unwrap();
    }
    let script = fs::read(cases.join("sieve.py")).unwrap();
    let mut program = fs::read(vespid()).unwrap();
    // The graph sees the ends alone, and this is enough to tell that it does.
    program.truncate(1 << 20);
    for (name, content, label, mime_type) in [
        ("empty", Vec::new(), "empty", "inode/x-empty"),
        ("one-byte", b"a".to_vec(), "txt", "text/plain"),
        ("one-odd-byte", b"\xff".to_vec(), "unknown", "application/octet-stream"),
        ("program", program, "elf", "application/x-executable-elf"),
        ("package.tar", fs::read(package("iris")).unwrap(), "tar", "application/x-tar"),
        ("large", script.iter().copied().cycle().take(LARGE).collect(), "python", "text/x-python"),
    ] {
        fs::write(folder.join(name), content).unwrap();
        files.insert(name.to_owned(), [label.to_owned(), mime_type.to_owned()]);
    }
    files
}
