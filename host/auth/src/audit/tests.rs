use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::{Identity, Kind};

fn alice() -> Principal {
    let [issuer, tenant] = ["https://id.example", "acme"].map(|text| Some(text.to_owned()));
    Principal::new(Identity { kind: Kind::Oidc, id: "alice".to_owned(), issuer, tenant, roles: Vec::new() })
}

fn event<'a>(who: Option<&'a Principal>, model: &'a str, request_id: &'a str) -> Event<'a> {
    Event {
        who,
        client: Some("192.0.2.7".parse().unwrap()),
        action: Action::Predict,
        model: Some(model),
        version: "3".parse().ok(),
        digest: Some(Digest::new([10; 32])),
        outcome: Outcome::Denied,
        status: 403,
        reason: Some("forbidden"),
        request_id: Some(request_id),
    }
}

fn read(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_line_says_who_did_what_and_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let audit = Audit::open(AuditTarget::File(path.clone()), Arc::default()).unwrap();
    let alice = alice();
    audit.write(&event(Some(&alice), "iris", "r-1")).await;
    audit.write(&Event { model: None, ..event(None, "", "r-2") }).await;
    audit.flush().await;

    let mut lines = read(&path);
    let time = lines[0]["time"].take();
    assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok(), "{time}");
    let expected = serde_json::json!({
        "time": null,
        "who": { "kind": "oidc", "id": "alice", "issuer": "https://id.example", "tenant": "acme" },
        "client": "192.0.2.7",
        "action": "Predict",
        "model": "iris",
        "version": 3,
        "digest": format!("sha256:{}", "0a".repeat(32)),
        "outcome": "denied",
        "status": 403,
        "reason": "forbidden",
        "request_id": "r-1",
    });
    assert_eq!(lines[0], expected);
    assert!(lines[1]["who"].is_null() && lines[1]["model"].is_null());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_looks_like_a_secret_is_withheld_wherever_it_stands() {
    let key = format!("{PREFIX}{}", "a".repeat(43));
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
    for secret in [key.as_str(), token, &format!("Bearer {token}")] {
        let who = Principal::new(Identity {
            kind: Kind::Oidc,
            id: secret.to_owned(),
            issuer: None,
            tenant: Some(secret.to_owned()),
            roles: Vec::new(),
        });
        let text = String::from_utf8(line(&event(Some(&who), secret, secret)).unwrap()).unwrap();
        assert!(!text.contains(secret) && text.matches("withheld").count() == 4, "{text}");
    }
    let long = "é".repeat(1000);
    let text = String::from_utf8(line(&event(None, &long, "line\nbreak")).unwrap()).unwrap();
    assert!(text.contains(&"é".repeat(256)) && !text.contains(&"é".repeat(257)));
    assert_eq!(text.lines().count(), 1);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let [path, old] = ["audit.log", "audit.log.1"].map(|name| folder.path().join(name));
    let audit = Audit::open(AuditTarget::File(path.clone()), Arc::default()).unwrap();
    audit.write(&event(None, "a", "1")).await;
    audit.flush().await;
    std::fs::rename(&path, &old).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    audit.write(&event(None, "b", "2")).await;
    audit.flush().await;
    let models = |path| read(path).iter().map(|line| line["model"].clone()).collect::<Vec<_>>();
    assert_eq!((models(&old), models(&path)), (vec!["a".into()], vec!["b".into()]));
}

#[tokio::test]
async fn what_was_there_stays_and_all_that_comes_is_written_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, "{\"request_id\":\"before\"}\n").unwrap();
    let audit = Audit::open(AuditTarget::File(path.clone()), Arc::default()).unwrap();
    // More than are in hand at once: who writes waits.
    let count = 3 * IN_HAND;
    for at in 0..count {
        audit.write(&event(None, "m", &at.to_string())).await;
    }
    audit.flush().await;
    let ids: Vec<Value> = read(&path).into_iter().map(|mut line| line["request_id"].take()).collect();
    assert_eq!(ids[0], "before");
    assert!(
        ids[1..].iter().enumerate().all(|(at, id)| id.as_str() == Some(&at.to_string()))
            && ids.len() == count + 1
    );
}

#[tokio::test]
async fn a_line_that_cannot_be_written_is_counted() {
    let counts: Arc<Counts> = Arc::default();
    let audit = Audit::open(AuditTarget::File("/dev/full".into()), Arc::clone(&counts)).unwrap();
    audit.write(&event(None, "m", "1")).await;
    audit.flush().await;
    assert_eq!(counts.of("audit_lost"), 1);
    let nowhere = AuditTarget::File("/nowhere/audit.log".into());
    assert!(Audit::open(nowhere, counts).err().unwrap().to_string().contains("/nowhere/audit.log"));
}
