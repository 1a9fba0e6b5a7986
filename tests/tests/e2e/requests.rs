//! Single requests: the files under `tests/cases/requests` (its README says how).

use std::fs;

use serde::Deserialize;
use serde_json::Value;
use vespid_tests::built::repository;
use vespid_tests::http::{self, Answer};
use vespid_tests::oip::{assert_setosa, flower};
use vespid_tests::server::Server;

const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    method: Option<String>,
    path: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    body: Option<Value>,
    #[serde(default)]
    hex: String,
    status: Option<u16>,
    error: Option<String>,
    answer: Option<Value>,
}

#[test]
fn requests_are_answered_as_the_cases_say() {
    let server =
        Server::with(&["iris", "iris-native", "simple", "simple-string", "simple-identity", "empty"]);
    let mut departures = Vec::new();
    let cases = cases();
    assert!(cases.len() > 50, "only {} cases were found", cases.len());
    for case in cases {
        let answer = send(&server, &case);
        if let Err(what) = check(&case, &answer) {
            departures.push(format!("{}: {what}\n    {answer}", case.about));
        }
        // Whatever was asked, the next one is served.
        assert_setosa(&server.infer("iris", &flower()));
    }
    assert!(departures.is_empty(), "\n{}", departures.join("\n"));
}

#[test]
fn the_port_for_probes_answers_probes_alone() {
    let server = Server::with(&["iris"]);
    let get = |path: &str| http::send("GET", &(server.admin_url() + path), &[], &[]);
    assert_eq!(get("/v2/health/live").status, 200);
    assert_eq!(get("/v2/health/ready").json(), serde_json::json!({"live": true, "ready": true}));
    get("/v2/models/iris").assert_error(404, "no such path");
}

fn cases() -> Vec<Case> {
    let mut files: Vec<_> = fs::read_dir(repository("tests/cases/requests"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let read = |file| -> Vec<Case> { serde_json::from_slice(&fs::read(&file).unwrap()).unwrap() };
    files.into_iter().flat_map(read).collect()
}

fn send(server: &Server, case: &Case) -> Answer {
    let mut body = match &case.body {
        None => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(value) => {
            // Errors say where in the body they are, whatever order serde_json keeps.
            let mut value = value.clone();
            value.sort_all_objects();
            serde_json::to_vec(&value).unwrap()
        }
    };
    let json = body.len().to_string();
    body.extend_from_slice(&hex::decode(&case.hex).unwrap());
    let headers: Vec<(&str, &str)> = case
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), if value == "json" { json.as_str() } else { value }))
        .collect();
    let method = case.method.as_deref().unwrap_or(if case.body.is_some() { "POST" } else { "GET" });
    server.send(method, &case.path, &headers, &body)
}

fn check(case: &Case, answer: &Answer) -> Result<(), String> {
    let status = case.status.unwrap_or(200);
    if answer.status != status {
        return Err(format!("the status is not {status}"));
    }
    if let Some(error) = &case.error
        && !answer.error().contains(error.as_str())
    {
        return Err(format!("the error does not say: {error}"));
    }
    case.answer.as_ref().map_or(Ok(()), |expected| holds(&answer.json(), expected, "answer"))
}

/// Whether `got` is what is expected, objects having at least the fields expected.
fn holds(got: &Value, expected: &Value, at: &str) -> Result<(), String> {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => expected.iter().try_for_each(|(key, expected)| {
            let value = got.get(key).ok_or_else(|| format!("{at}.{key} is missing"))?;
            holds(value, expected, &format!("{at}.{key}"))
        }),
        (Value::Array(got), Value::Array(expected)) if got.len() == expected.len() => {
            let mut pairs = got.iter().zip(expected).enumerate();
            pairs.try_for_each(|(index, (got, expected))| holds(got, expected, &format!("{at}[{index}]")))
        }
        (Value::Number(one), Value::Number(other)) if close(one, other) => Ok(()),
        (got, expected) if got == expected => Ok(()),
        _ => Err(format!("{at} is {got}, not {expected}")),
    }
}

fn close(one: &serde_json::Number, other: &serde_json::Number) -> bool {
    one.as_f64().zip(other.as_f64()).is_some_and(|(one, other)| (one - other).abs() <= TOLERANCE)
}
