//! Tokens of a real provider of OpenID Connect: oidc-provider of npm, on a port of this machine.

use std::fs;

use vespid_tests::archive::Archive;
use vespid_tests::http::Answer;
use vespid_tests::oidc::Provider;
use vespid_tests::oip::flower;
use vespid_tests::server::{Home, Server};
use vespid_tests::wait;

const POLICY: &str = r#"
permit (principal, action in [Vespid::Action::"Predict", Vespid::Action::"Upload"], resource)
when { principal has tenant && principal.tenant == "acme" && principal in Vespid::Role::"editor" };
"#;

/// Whom tokens are for here.
const VESPID: &str = "https://vespid.example";

/// A server that takes its tokens.
fn server(provider: &Provider) -> Server {
    let place = provider.folder();
    let config = format!(
        "oidc: [{{issuer: \"{}\", audience: \"{VESPID}\", algorithms: [RS256], clock_skew: 0s}}]\n\
             policies: policy.cedar\n",
        provider.issuer()
    );
    fs::write(place.join("access.yaml"), config).unwrap();
    fs::write(place.join("policy.cedar"), POLICY).unwrap();
    let home = Home::default();
    home.start_with(&["--access", place.join("access.yaml").to_str().unwrap()]).at(home)
}

fn infer(server: &Server, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let body = flower().to_string();
    server.send("POST", "/v2/models/iris/infer", &[("authorization", &bearer)], body.as_bytes())
}

fn push(server: &Server, token: &str) {
    let (bearer, package) = (format!("Bearer {token}"), Archive::built("iris").to_tar());
    let path = vespid_tests::server::repository_path("iris", "1");
    let answer = server.send("PUT", &path, &[("authorization", &bearer)], &package);
    assert_eq!(answer.status, 201, "{answer}");
}

/// A request with its token is answered so, once the server has had the time to hear of the provider.
fn soon(server: &Server, token: &str, status: u16) {
    wait::until("the server hears of it", || (infer(server, token).status == status).then_some(()));
}

#[test]
fn a_token_is_taken_for_what_it_is() {
    let mut provider = Provider::new();
    provider.start(&["first"]);
    let server = server(&provider);
    let good = provider.token(VESPID);
    soon(&server, &good, 404);
    push(&server, &good);
    assert_eq!(infer(&server, &good).status, 200);
    assert_eq!(infer(&server, &provider.forge("same", &good, "first")).status, 200, "forging works");
    for (how, reason) in [
        ("none", "the token is not valid here"),
        ("hs256", "the token is not valid here"),
        ("kid", "the token is not valid here"),
        ("issuer", "the token is not valid here"),
        ("claims", "the token is not valid here"),
        ("early", "the token is not valid yet"),
    ] {
        let answer = infer(&server, &provider.forge(how, &good, "first"));
        answer.assert_error(401, reason);
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"), "{how}: {answer}");
    }
    let elsewhere = provider.token("https://elsewhere.example");
    infer(&server, &elsewhere).assert_error(401, "the token is not valid here");
    let short = provider.token("https://short.example");
    wait::until("the token's time is over", || (infer(&server, &short).status == 401).then_some(()));
    infer(&server, &short).assert_error(401, "the token has expired");
    assert_eq!(infer(&server, &good).status, 200);
}

#[test]
fn a_provider_may_change_its_keys_and_be_away() {
    let mut provider = Provider::new();
    provider.start(&["first"]);
    let early = provider.token(VESPID);
    provider.stop();
    // Down at the start.
    let server = server(&provider);
    infer(&server, &early).assert_error(503, "cannot be checked now");
    provider.start(&["first"]);
    soon(&server, &early, 404);
    push(&server, &early);
    // A new key signs, and the one before is still known.
    provider.start(&["second", "first"]);
    let late = provider.token(VESPID);
    soon(&server, &late, 200);
    assert_eq!(infer(&server, &early).status, 200);
    // Down while it serves.
    provider.stop();
    assert_eq!((infer(&server, &early).status, infer(&server, &late).status), (200, 200));
}
