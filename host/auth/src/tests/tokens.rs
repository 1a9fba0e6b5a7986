use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vespid_types::ErrorCode;

use crate::oidc::Timing;
use crate::testing::{
    PERMIT_ALL, Place, Provider, Signer, base64, bearer, hs256, now, oidc, quick, unsigned, until,
};
use crate::{Access, Credentials, Denied, Kind};

async fn started(signer: &Signer) -> (Provider, Access) {
    let provider = Provider::start(&[signer]).await;
    let access = Place::new(PERMIT_ALL).start(&oidc(&provider));
    (provider, access)
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn a_good_token_says_who_asks_whatever_signs_it() {
    let signers = [Signer::rsa("rsa"), Signer::ec("ec"), Signer::ed("ed")];
    let provider = Provider::start(&[&signers[0], &signers[1], &signers[2]]).await;
    let access = Place::new(PERMIT_ALL).start(&oidc(&provider));
    for signer in &signers {
        let principal = bearer(&access, &signer.token(&provider.claims())).await.unwrap();
        assert_eq!((principal.kind(), principal.id()), (Kind::Oidc, "alice"));
        assert_eq!((principal.tenant(), principal.roles()), (Some("acme"), &["analyst".to_owned()][..]));
        assert_eq!(principal.issuer(), Some(provider.url.as_str()));
    }
    let pss =
        signers[0].token_with(&json!({ "alg": "PS256", "kid": "rsa", "typ": "at+jwt" }), &provider.claims());
    assert!(bearer(&access, &pss).await.is_ok());
    let several = with(&provider.claims(), "aud", json!(["other", "vespid"]));
    assert!(bearer(&access, &signers[1].token(&several)).await.is_ok());
    assert_eq!(provider.looks(), 1);
}

#[tokio::test]
async fn claims_that_are_not_good_are_denied_each_for_its_reason() {
    let signer = Signer::ec("a");
    let (provider, access) = started(&signer).await;
    let claims = provider.claims();
    for (claims, reason) in [
        (with(&claims, "exp", json!(now() - 20)), "expired"),
        (with(&claims, "nbf", json!(now() + 20)), "not_yet_valid"),
        (with(&claims, "iss", json!("https://elsewhere.example")), "wrong_issuer"),
        (with(&claims, "iss", json!(format!("{}/", provider.url))), "wrong_issuer"),
        (without(&claims, "iss"), "wrong_issuer"),
        (with(&claims, "iss", json!([provider.url])), "malformed"),
        (with(&claims, "aud", json!("other")), "wrong_audience"),
        (with(&claims, "aud", json!(["other"])), "wrong_audience"),
        (without(&claims, "aud"), "wrong_audience"),
        (without(&claims, "exp"), "malformed"),
        (with(&claims, "exp", json!("soon")), "malformed"),
        (without(&claims, "sub"), "malformed"),
    ] {
        let denied = bearer(&access, &signer.token(&claims)).await.unwrap_err();
        assert_eq!((denied.reason(), denied.code()), (reason, ErrorCode::Unauthenticated), "{claims}");
    }
    // The clocks may differ by five seconds.
    for (name, time) in [("exp", now() - 2), ("nbf", now() + 3)] {
        assert!(bearer(&access, &signer.token(&with(&claims, name, json!(time)))).await.is_ok(), "{name}");
    }
    let counted = access.counts().into_iter().find(|(name, _)| *name == "wrong_audience");
    assert_eq!(counted, Some(("wrong_audience", 3)));
}

#[tokio::test]
async fn no_signature_and_a_shared_secret_are_none() {
    let signer = Signer::rsa("a");
    let (provider, access) = started(&signer).await;
    let claims = provider.claims();
    for alg in ["none", "None", "NONE", "", "ES512"] {
        let denied = bearer(&access, &unsigned(alg, "a", &claims)).await;
        assert_eq!(denied, Err(Denied::AlgorithmNotAllowed), "{alg}");
    }
    let (modulus, exponent) = signer.components();
    let der = signer.public_der();
    let pem = format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", base64(&der));
    let (text, jwk) = (base64(&modulus), signer.jwk().to_string());
    let secrets: [&[u8]; 6] = [&modulus, &exponent, &der, pem.as_bytes(), text.as_bytes(), jwk.as_bytes()];
    for secret in secrets {
        let denied = bearer(&access, &hs256(secret, "a", &claims)).await;
        assert_eq!(denied, Err(Denied::AlgorithmNotAllowed));
    }
}

#[tokio::test]
async fn an_algorithm_goes_with_the_key_and_the_provider() {
    let (rsa, ec) = (Signer::rsa("rsa"), Signer::ec("ec"));
    let provider = Provider::start(&[&rsa, &ec]).await;
    let claims = provider.claims();
    let lines =
        format!("oidc: [{{ issuer: '{}', audience: vespid, algorithms: [RS256, ES256] }}]", provider.url);
    let access = Place::new(PERMIT_ALL).start(&lines);
    assert!(bearer(&access, &rsa.token(&claims)).await.is_ok());
    for (signer, alg, kid) in [(&rsa, "PS256", "rsa"), (&rsa, "RS256", "ec"), (&ec, "ES256", "rsa")] {
        let token = signer.token_with(&json!({ "alg": alg, "kid": kid }), &claims);
        assert_eq!(bearer(&access, &token).await, Err(Denied::AlgorithmNotAllowed), "{alg} {kid}");
    }
}

#[tokio::test]
async fn who_signs_with_another_key_by_the_same_name_is_denied() {
    let signer = Signer::ec("a");
    let (provider, access) = started(&signer).await;
    let token = signer.token(&provider.claims());
    assert_eq!(bearer(&access, &Signer::ec("a").token(&provider.claims())).await, Err(Denied::BadSignature));
    // Other claims under a signature that is good for these.
    let [header, _, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let forged = with(&provider.claims(), "roles", json!(["admin"])).to_string();
    let forged = format!("{header}.{}.{signature}", base64(forged));
    assert!(bearer(&access, &token).await.is_ok());
    assert_eq!(bearer(&access, &forged).await, Err(Denied::BadSignature));
}

#[tokio::test]
async fn what_is_no_token_is_denied_before_anything_is_looked_at() {
    let signer = Signer::ec("a");
    let (provider, access) = started(&signer).await;
    let token = signer.token(&provider.claims());
    let large = signer.token(&with(&provider.claims(), "extra", json!("x".repeat(16 * 1024))));
    for malformed in ["a", "a.b", "a.b.c", "..", &format!("{token}.x"), &large] {
        let denied = bearer(&access, malformed).await;
        assert!(matches!(denied, Err(Denied::Malformed(_))), "{denied:?}");
    }
    let token = signer.token_with(&json!({ "alg": "ES256" }), &provider.claims());
    assert_eq!(bearer(&access, &token).await, Err(Denied::UnknownKey));
    let critical = json!({ "alg": "ES256", "kid": "a", "crit": ["x"], "x": 1 });
    let denied = bearer(&access, &signer.token_with(&critical, &provider.claims())).await;
    assert!(matches!(denied, Err(Denied::Malformed(_))), "{denied:?}");
}

#[tokio::test]
async fn a_token_that_was_believed_is_believed_until_it_expires() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    let lines = format!("oidc: [{{ issuer: '{}', audience: vespid, clock_skew: 0s }}]", provider.url);
    let access = Place::new(PERMIT_ALL).start(&lines);
    let token = signer.token(&with(&provider.claims(), "exp", json!(now() + 2)));
    assert!(bearer(&access, &token).await.is_ok());
    assert!(access.inner().0.is_remembered(&token));
    assert!(bearer(&access, &token).await.is_ok());
    sleep(Duration::from_millis(3100)).await;
    assert!(!access.inner().0.is_remembered(&token));
    assert_eq!(bearer(&access, &token).await, Err(Denied::Expired));
}

#[tokio::test]
async fn keys_change_while_tokens_come() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let (provider, access) = started(&old).await;
    let old_token = old.token(&provider.claims());
    assert!(bearer(&access, &old_token).await.is_ok());
    sleep(quick().unknown_key).await;

    provider.set_keys(&[&new]);
    assert!(bearer(&access, &old_token).await.is_ok(), "nobody has asked yet");
    assert!(bearer(&access, &new.token(&provider.claims())).await.is_ok());
    assert!(!access.inner().0.is_remembered(&old_token));
    assert_eq!(bearer(&access, &old_token).await, Err(Denied::UnknownKey));
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for_once_however_many_tokens_have_it() {
    let (known, new) = (Signer::ec("known"), Signer::ec("new"));
    let provider = Provider::start(&[&known]).await;
    let timing = Timing { unknown_key: Duration::from_millis(1500), ..quick() };
    let access = Place::new(PERMIT_ALL).try_start(&oidc(&provider), timing).unwrap();
    assert!(bearer(&access, &known.token(&provider.claims())).await.is_ok());
    let stranger = Signer::ec("stranger").token(&provider.claims());
    // It is too soon: nobody asks, and nobody waits.
    assert_eq!(bearer(&access, &stranger).await, Err(Denied::UnknownKey));
    assert_eq!(provider.looks(), 1);
    sleep(timing.unknown_key).await;

    provider.set_keys(&[&known, &new]);
    provider.set_delay(Duration::from_millis(200));
    let mut callers = tokio::task::JoinSet::new();
    for at in 0..50 {
        let claims = with(&provider.claims(), "sub", json!(format!("user-{at}")));
        let (access, token) = (access.clone(), new.token(&claims));
        callers.spawn(async move { bearer(&access, &token).await });
    }
    let found = callers.join_all().await;
    assert!(found.iter().all(Result::is_ok), "{found:?}");
    assert_eq!(provider.looks(), 2);
    assert_eq!(bearer(&access, &stranger).await, Err(Denied::UnknownKey));
    assert_eq!(provider.looks(), 2);
}

#[tokio::test]
async fn who_waits_for_a_provider_does_not_wait_for_ever() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    provider.set_delay(Duration::from_secs(30));
    let timing = Timing { patience: Duration::from_millis(300), ..quick() };
    let access = Place::new(PERMIT_ALL).try_start(&oidc(&provider), timing).unwrap();
    let begun = Instant::now();
    let denied = bearer(&access, &signer.token(&provider.claims())).await;
    assert_eq!(denied, Err(Denied::ProviderUnavailable));
    assert!((timing.patience..timing.patience * 5).contains(&begun.elapsed()));
}

#[tokio::test]
async fn a_provider_that_is_down_at_the_start_is_asked_until_it_is_up() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    provider.set_down(true);
    let access = Place::new(PERMIT_ALL).start(&oidc(&provider));
    let token = signer.token(&provider.claims());
    let denied = bearer(&access, &token).await.unwrap_err();
    assert_eq!((&denied, denied.code()), (&Denied::ProviderUnavailable, ErrorCode::Unavailable));
    provider.set_down(false);
    until("the provider is asked again", async || bearer(&access, &token).await.is_ok()).await;
    let failed = access.counts().into_iter().find(|(name, _)| *name == "provider_failed");
    assert!(failed.is_some_and(|(_, number)| number > 0));
}

#[tokio::test]
async fn nothing_at_the_provider_s_address_keeps_nobody_else_out() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    // Nobody listens at a port that was just free.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lines = format!(
        "oidc:\n  - {{ issuer: '{}', audience: vespid, prefix: 'a:' }}\n  - {{ issuer: 'http://{free}', audience: vespid, prefix: 'b:' }}",
        provider.url
    );
    let access = Place::new(PERMIT_ALL).start(&lines);
    let principal = bearer(&access, &signer.token(&provider.claims())).await.unwrap();
    assert_eq!(principal.id(), "a:alice");
    let other = with(&provider.claims(), "iss", json!(format!("http://{free}")));
    assert_eq!(bearer(&access, &signer.token(&other)).await, Err(Denied::ProviderUnavailable));
}

#[tokio::test]
async fn keys_of_a_provider_that_went_down_are_used_until_they_are_too_old() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    let timing = Timing {
        stale: Duration::from_millis(1200),
        refresh: Duration::from_millis(50),
        unknown_key: Duration::ZERO,
        ..quick()
    };
    let access = Place::new(PERMIT_ALL).try_start(&oidc(&provider), timing).unwrap();
    let token = signer.token(&provider.claims());
    assert!(bearer(&access, &token).await.is_ok());
    provider.set_down(true);
    sleep(Duration::from_millis(300)).await;
    assert!(bearer(&access, &token).await.is_ok(), "it was believed before");
    let fresh = signer.token(&with(&provider.claims(), "sub", json!("bob")));
    assert!(bearer(&access, &fresh).await.is_ok(), "its key is known");
    let stranger = Signer::ec("stranger").token(&provider.claims());
    assert_eq!(bearer(&access, &stranger).await, Err(Denied::ProviderUnavailable));
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(bearer(&access, &token).await, Err(Denied::ProviderUnavailable));
    provider.set_down(false);
    until("its keys are known again", async || bearer(&access, &token).await.is_ok()).await;
}

#[tokio::test]
async fn keys_are_looked_at_as_often_as_the_provider_says() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    provider.set_max_age(0);
    let timing = Timing { refresh_least: Duration::from_millis(50), ..quick() };
    let access = Place::new(PERMIT_ALL).try_start(&oidc(&provider), timing).unwrap();
    let token = signer.token(&provider.claims());
    assert!(bearer(&access, &token).await.is_ok());
    until("it is asked again", async || provider.looks() > 3).await;
    assert!(access.inner().0.is_remembered(&token), "the same keys are no reason to forget");
    // A key that was taken away is good no longer, though nobody asks with another.
    provider.set_jwks(json!({ "keys": [] }));
    until("the key is gone", async || bearer(&access, &token).await == Err(Denied::UnknownKey)).await;
}

#[tokio::test]
async fn discovery_by_another_issuer_is_not_believed() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    provider.set_issuer("https://elsewhere.example");
    let access = Place::new(PERMIT_ALL).start(&oidc(&provider));
    let token = signer.token(&provider.claims());
    assert_eq!(bearer(&access, &token).await, Err(Denied::ProviderUnavailable));
    assert_eq!(provider.looks(), 0);

    // Where the keys' place is configured, nobody needs discovery.
    let lines = format!("oidc: [{{ issuer: '{0}', audience: vespid, jwks_url: '{0}/jwks' }}]", provider.url);
    let access = Place::new(PERMIT_ALL).start(&lines);
    assert!(bearer(&access, &token).await.is_ok());
}

#[tokio::test]
async fn a_key_for_encryption_checks_no_signature() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[]).await;
    let mut jwk = signer.jwk();
    jwk["use"] = json!("enc");
    provider.set_jwks(json!({ "keys": [jwk] }));
    let access = Place::new(PERMIT_ALL).start(&oidc(&provider));
    let token = signer.token(&provider.claims());
    assert_eq!(bearer(&access, &token).await, Err(Denied::UnknownKey));
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[]).await;
    let padded = json!({ "keys": [signer.jwk()], "padding": "x".repeat(1024 * 1024) });
    provider.set_jwks(padded);
    let access = Place::new(PERMIT_ALL).start(&oidc(&provider));
    let token = signer.token(&provider.claims());
    assert_eq!(bearer(&access, &token).await, Err(Denied::ProviderUnavailable));
}

#[tokio::test]
async fn without_credentials_nobody_is_let_in_unless_all_are() {
    let signer = Signer::ec("a");
    let (provider, access) = started(&signer).await;
    assert_eq!(access.authenticate(Credentials::default()).await, Err(Denied::Missing));
    let open = Place::new(PERMIT_ALL).start(&format!("{}\nanonymous: true", oidc(&provider)));
    let anyone = open.authenticate(Credentials::default()).await.unwrap();
    assert_eq!(anyone.kind(), Kind::Anonymous);
    // Who shows what is not good is not anonymous.
    assert!(bearer(&open, &Signer::ec("a").token(&provider.claims())).await.is_err());
    let basic = Credentials { authorization: Some("Basic YTpi"), ..Credentials::default() };
    assert!(matches!(open.authenticate(basic).await, Err(Denied::Malformed(_))));
}

#[tokio::test]
async fn what_runs_ends_with_the_last_clone() {
    let signer = Signer::ec("a");
    let provider = Provider::start(&[&signer]).await;
    let timing = Timing { refresh: Duration::from_millis(10), ..quick() };
    let access = Place::new(PERMIT_ALL).try_start(&oidc(&provider), timing).unwrap();
    until("it is asked", async || provider.looks() > 2).await;
    drop(access);
    sleep(Duration::from_millis(100)).await;
    let looks = provider.looks();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(provider.looks(), looks);
}
