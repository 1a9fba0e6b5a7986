use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::*;

fn parse(text: &str) -> Result<AccessConfig, AccessError> {
    AccessConfig::parse(Path::new("/etc/vespid/access.yaml"), text)
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// A provider with these lines besides its issuer.
fn provider(lines: &str) -> String {
    format!("policies: p.cedar\noidc:\n  - issuer: https://id.example\n{lines}")
}

#[test]
fn all_of_it_is_read() {
    let config = parse(
        "
oidc:
  - issuer: https://id.example/realms/corp
    audience: [vespid, vespid-batch]
    algorithms: [ES256]
    clock_skew: 10s
    jwks_url: https://keys.example/jwks
    prefix: 'corp:'
    claims: { id: email, tenant: org, roles: realm_access.roles }
    ca_file: ca.pem
  - issuer: http://127.0.0.1:8080
    audience: vespid
    prefix: 'local:'
api_keys: keys/all.yaml
certificates:
  - { name: 'spiffe://a/b', tenant: acme, roles: [admin] }
models:
  - { match: 'acme-*', tenant: acme, labels: { tier: gold } }
policies: /policies
anonymous: true
audit: { file: audit.log }
",
    )
    .unwrap();
    let [corp, local] = &config.providers[..] else { panic!("{config:?}") };
    assert_eq!((&corp.algorithms[..], corp.clock_skew), (&[Algorithm::ES256][..], Duration::from_secs(10)));
    assert_eq!(corp.ca_file.as_deref(), Some(Path::new("/etc/vespid/ca.pem")));
    assert_eq!((corp.claims.id.as_str(), corp.claims.roles.as_str()), ("email", "realm_access.roles"));
    assert_eq!(
        (local.audience.len(), local.clock_skew, local.is_loopback),
        (1, Duration::from_secs(60), true)
    );
    assert!(local.algorithms.contains(&Algorithm::EdDSA) && !local.algorithms.contains(&Algorithm::HS256));
    assert_eq!(config.api_keys.as_deref(), Some(Path::new("/etc/vespid/keys/all.yaml")));
    assert_eq!(config.policies, Path::new("/policies"));
    assert_eq!(config.certificates["spiffe://a/b"].tenant(), Some("acme"));
    assert_eq!(config.audit, Some(AuditTarget::File("/etc/vespid/audit.log".into())));
    assert_eq!(config.models[0].labels["tier"], "gold");
}

#[test]
fn what_lets_nobody_in_or_decides_nothing_is_refused() {
    assert!(error("policies: p.cedar").contains("lets nobody in"));
    assert!(error("anonymous: true").contains("policies: it is missing"));
    assert!(error("api_keys: k.yaml").contains("policies: it is missing"));
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    let error = error("anonymous: true\npolicies: p\nanonymus: true");
    assert!(error.contains("anonymus") && error.contains("access.yaml") && error.contains('3'), "{error}");
}

#[test]
fn signatures_by_a_shared_secret_are_refused() {
    for name in ["HS256", "HS384", "HS512", "none", "NONE", "ES512"] {
        let error = error(&provider(&format!("    audience: a\n    algorithms: [RS256, {name}]")));
        assert!(error.contains("oidc[0].algorithms") && error.contains(name) || name == "NONE", "{error}");
        assert!(error.contains("use RS256,"), "{error}");
    }
    assert!(error(&provider("    audience: a\n    algorithms: []")).contains("algorithms: it is empty"));
}

#[test]
fn a_provider_is_asked_over_tls_or_on_this_machine() {
    for bad in
        ["http://id.example", "http://10.0.0.1", "ftp://id.example", "id.example", "https://u:p@id.example"]
    {
        let text = format!("policies: p\noidc: [{{ issuer: '{bad}', audience: a }}]");
        assert!(error(&text).contains("oidc[0].issuer"), "{bad}");
        let text = provider(&format!("    audience: a\n    jwks_url: '{bad}'"));
        assert!(error(&text).contains("oidc[0].jwks_url"), "{bad}");
    }
    for good in ["http://localhost:1", "http://[::1]:1", "http://127.0.0.9", "https://id.example/"] {
        let text = format!("policies: p\noidc: [{{ issuer: '{good}', audience: a }}]");
        assert_eq!(parse(&text).unwrap().providers[0].issuer, good);
    }
}

#[test]
fn an_audience_is_asked_for_and_a_skew_is_small() {
    assert!(error(&provider("    clock_skew: 1s")).contains("audience"));
    for empty in ["[]", "['']", "''"] {
        assert!(error(&provider(&format!("    audience: {empty}"))).contains("oidc[0].audience"), "{empty}");
    }
    assert!(error(&provider("    audience: a\n    clock_skew: 301s")).contains("oidc[0].clock_skew: use 5m"));
    assert!(error(&provider("    audience: a\n    claims: { id: '' }")).contains("oidc[0].claims.id"));
}

#[test]
fn users_of_two_providers_cannot_be_taken_for_each_other() {
    let two = |one: &str, two: &str| {
        parse(&format!(
            "policies: p\noidc:\n  - {{ issuer: https://a, audience: x, prefix: '{one}' }}\n  - {{ issuer: https://b, audience: x, prefix: '{two}' }}"
        ))
    };
    assert!(two("a:", "b:").is_ok());
    for (a, b) in [("", ""), ("", "b:"), ("b:", ""), ("b:", "b:"), ("b:", "b:c:")] {
        assert!(two(a, b).unwrap_err().to_string().contains("oidc[1].prefix"), "{a} {b}");
    }
    let same = "policies: p\noidc:\n  - { issuer: https://a, audience: x, prefix: 'a' }\n  - { issuer: https://a, audience: x, prefix: b }";
    assert!(error(same).contains("oidc[1].issuer"));
}

#[test]
fn the_rest_is_checked_too() {
    let with = |lines: &str| error(&format!("policies: p\nanonymous: true\n{lines}"));
    assert!(with("audit: {}").contains("audit: say one of"));
    assert!(with("audit: { file: a, stdout: true }").contains("audit: say one of"));
    assert!(with("models: [{ match: 'a[' }]").contains("models[0].match"));
    assert!(with("models: [{ match: '' }]").contains("models[0].match"));
    assert!(with("certificates: [{ name: a }, { name: a }]").contains("certificates[1].name"));
    assert!(with("certificates: [{ name: '' }]").contains("certificates[0].name"));
}
