//! Files, standard input, and the codecs.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use vespid_tests::wait;

use super::{Desk, flower, measurements, package};

fn lines(desk: &Desk, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(desk.path(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_file_is_read_once_and_followed() {
    let desk = Desk::default();
    let write = |ids: std::ops::Range<u64>| {
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(desk.path("in.jsonl")).unwrap();
        ids.for_each(|id| writeln!(file, "{}", flower(id)).unwrap());
    };
    let spec = |follow: bool| {
        json!({
            "model": package("iris"),
            "source": {"file": {"path": "in.jsonl", "position": "at", "follow": follow}},
            "sink": {"file": {"path": "out.jsonl"}},
            "inputs": measurements(),
            "outputs": {"species": "name"},
            "keep": "all",
        })
    };
    write(0..3000);
    let config = desk.stream("iris", &spec(false));
    assert!(desk.command(&config).status().unwrap().success());
    assert_eq!(std::fs::read_to_string(desk.path("at")).unwrap().trim(), "3000");
    write(3000..3010);
    assert!(desk.command(&config).status().unwrap().success());
    let stream = desk.start(&desk.stream("iris", &spec(true)));
    write(3010..3020);
    wait::until("more lines are not answered", || (lines(&desk, "out.jsonl").len() == 3020).then_some(()));
    assert_eq!(stream.stop(), 0);
    let answers = lines(&desk, "out.jsonl");
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (0..3020).collect::<Vec<_>>());
    let fields: Vec<_> = answers[7].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["a", "b", "c", "d", "id", "name"]);
}

#[test]
fn raw_bytes_go_in_and_json_comes_out() {
    let desk = Desk::default();
    let spec = json!({
        "model": package("file-type"),
        "source": {"file": {"path": "-"}, "codec": "raw"},
        "sink": {"file": {"path": "-"}},
        "outputs": {"label": "label"},
    });
    let mut child = desk
        .command(&desk.stream("types", &spec))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(
            b"<!DOCTYPE html><html><head><title>A page</title></head><body><p>text</p></body></html>\n",
        )
        .unwrap();
    input.write_all(b"{\"a\": [1, 2, 3], \"b\": {\"c\": \"some text\"}, \"d\": null}\n").unwrap();
    drop(input);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(text, "{\"label\":\"html\"}\n{\"label\":\"json\"}\n");
}
