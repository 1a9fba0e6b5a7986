use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::testing::{PERMIT_ALL, Place, bearer, until};
use crate::{Access, Action, ApiKey, CertificateName, Credentials, Denied, Event, KeyEntry, Kind, Outcome};

fn entry(name: &str) -> (ApiKey, KeyEntry) {
    let (key, mut entry) = ApiKey::generate(name).unwrap();
    entry.tenant = Some("acme".to_owned());
    entry.roles = vec!["ci".to_owned()];
    (key, entry)
}

fn file(entries: &[&KeyEntry]) -> String {
    entries.iter().map(|entry| entry.to_yaml().unwrap()).collect()
}

async fn by_header(access: &Access, key: &str) -> Result<crate::Principal, Denied> {
    access.authenticate(Credentials { api_key: Some(key), ..Credentials::default() }).await
}

#[tokio::test]
async fn a_key_comes_in_either_header_and_not_in_both() {
    let (key, entry) = entry("ci");
    let place = Place::new(PERMIT_ALL);
    place.write("keys.yaml", &file(&[&entry]));
    let access = place.start("api_keys: keys.yaml");
    let one = bearer(&access, key.expose()).await.unwrap();
    assert_eq!((one.kind(), one.id(), one.tenant()), (Kind::ApiKey, "ci", Some("acme")));
    assert_eq!(by_header(&access, key.expose()).await, Ok(one.clone()));
    assert_eq!(access.known(Kind::ApiKey, "ci"), Some(one));
    let authorization = format!("Bearer {}", key.expose());
    let both = Credentials {
        authorization: Some(&authorization),
        api_key: Some(key.expose()),
        ..Credentials::default()
    };
    assert!(matches!(access.authenticate(both).await, Err(Denied::Malformed(_))));
}

#[tokio::test]
async fn a_wrong_key_and_one_whose_time_is_over_are_denied() {
    let ((key, mut expired), (other, _)) = (entry("old"), entry("other"));
    let before = SystemTime::now() - Duration::from_secs(10);
    expired.expires = Some(humantime::format_rfc3339_seconds(before).to_string());
    let place = Place::new(PERMIT_ALL);
    place.write("keys.yaml", &file(&[&expired]));
    let access = place.start("api_keys: keys.yaml");
    assert_eq!(by_header(&access, key.expose()).await, Err(Denied::ExpiredApiKey));
    assert_eq!(by_header(&access, other.expose()).await, Err(Denied::UnknownApiKey));
    assert!(matches!(by_header(&access, "hunter2").await, Err(Denied::Malformed(_))));
    // Where no file of keys is, no key is good.
    let without = Place::new(PERMIT_ALL).start("anonymous: true");
    assert_eq!(by_header(&without, key.expose()).await, Err(Denied::UnknownApiKey));
}

#[tokio::test]
async fn keys_are_read_again_and_a_broken_file_changes_nothing() {
    let ((one, first), (two, second)) = (entry("one"), entry("two"));
    let place = Place::new(PERMIT_ALL);
    place.write("keys.yaml", &file(&[&first]));
    let access = place.start("api_keys: keys.yaml");
    assert!(by_header(&access, one.expose()).await.is_ok());

    place.write("keys.yaml", "- name: one\n  sha256: nothing\n");
    until("it was tried", async || access.reload_failures() == 1).await;
    assert!(by_header(&access, one.expose()).await.is_ok());
    std::fs::remove_file(place.path().join("keys.yaml")).unwrap();
    until("it was missed", async || access.reload_failures() == 2).await;
    assert!(by_header(&access, one.expose()).await.is_ok());

    place.write("keys.yaml", &file(&[&second]));
    until("the new key is good", async || by_header(&access, two.expose()).await.is_ok()).await;
    assert_eq!(by_header(&access, one.expose()).await, Err(Denied::UnknownApiKey));
    assert_eq!(access.reload_failures(), 2);
}

#[tokio::test]
async fn a_certificate_counts_where_nothing_else_is_shown() {
    let (key, entry) = entry("ci");
    let place = Place::new(PERMIT_ALL);
    place.write("keys.yaml", &file(&[&entry]));
    let access = place.start(
        "api_keys: keys.yaml\ncertificates: [{ name: 'spiffe://a/b', tenant: acme, roles: [batch] }]\nanonymous: true",
    );
    let [known, unknown] = ["spiffe://a/b", "spiffe://a/c"].map(|name| CertificateName::new(name).unwrap());
    let shown = |certificate| Credentials { certificate: Some(certificate), ..Credentials::default() };
    let principal = access.authenticate(shown(&known)).await.unwrap();
    assert_eq!((principal.kind(), principal.id()), (Kind::Certificate, "spiffe://a/b"));
    assert_eq!((principal.tenant(), principal.roles()), (Some("acme"), &["batch".to_owned()][..]));
    assert_eq!(access.authenticate(shown(&unknown)).await, Err(Denied::UnknownCertificate));
    let both = Credentials { api_key: Some(key.expose()), ..shown(&unknown) };
    assert_eq!(access.authenticate(both).await.unwrap().kind(), Kind::ApiKey);
}

#[tokio::test]
async fn no_secret_is_in_the_audit_or_in_what_is_displayed() {
    let (key, entry) = entry("ci");
    let place = Place::new(PERMIT_ALL);
    place.write("keys.yaml", &file(&[&entry]));
    let access = place.start("api_keys: keys.yaml\naudit: { file: audit.log }");
    let principal = bearer(&access, key.expose()).await.unwrap();
    let (other, _) = ApiKey::generate("x").unwrap();
    let denied = bearer(&access, other.expose()).await.unwrap_err();
    let event = Event {
        who: Some(&principal),
        client: None,
        action: Action::Predict,
        model: Some("iris"),
        version: None,
        digest: None,
        outcome: Outcome::Allowed,
        status: 200,
        reason: None,
        request_id: Some(key.expose()),
    };
    access.audit(event).await;
    let refused = Event { who: None, outcome: Outcome::Denied, status: 401, ..event };
    access.audit(Event { reason: Some(denied.reason()), ..refused }).await;
    access.close().await;

    let log = std::fs::read_to_string(place.path().join("audit.log")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["who"]["id"], &lines[1]["reason"]), (&"ci".into(), &"unknown_api_key".into()));
    let shown = format!("{log}{principal}{principal:?}{denied}{denied:?}{:?}", denied.www_authenticate());
    for secret in [key.expose(), other.expose(), &entry.sha256] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
