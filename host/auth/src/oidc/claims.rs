//! Who somebody is, by the claims of a token that was checked.
//!
//! Contract: a claim that is there and is not of its kind denies the token: half of the roles might be those that nothing forbids.

use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::config::ProviderConfig;
use crate::{Denied, Identity, Kind, Principal};

pub(super) fn principal(
    claims: &Map<String, Value>,
    config: &ProviderConfig,
    until: Option<SystemTime>,
) -> Result<Principal, Denied> {
    let names = &config.claims;
    let id = match find(claims, &names.id) {
        Some(Value::String(id)) if !id.is_empty() => format!("{}{id}", config.prefix),
        _ => return Err(Denied::Malformed("the token does not say who it is about")),
    };
    let tenant = match find(claims, &names.tenant) {
        None => None,
        Some(Value::String(tenant)) => Some(tenant.clone()),
        Some(_) => return Err(Denied::Malformed("the token's tenant is no text")),
    };
    let roles = match find(claims, &names.roles) {
        None => Vec::new(),
        // As OAuth writes scopes.
        Some(Value::String(roles)) => roles.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(roles)) => roles.iter().map(role).collect::<Result<_, _>>()?,
        Some(_) => return Err(NO_ROLES),
    };
    let issuer = Some(config.issuer.clone());
    Ok(Principal::until(Identity { kind: Kind::Oidc, id, issuer, tenant, roles }, until))
}

const NO_ROLES: Denied = Denied::Malformed("the token's roles are no list of texts");

fn role(role: &Value) -> Result<String, Denied> {
    role.as_str().map(str::to_owned).ok_or(NO_ROLES)
}

/// The claim of that name or, where there is none, at that path. Names such as `https://acme.example/tenant` have dots, too.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = match claims.get(name) {
        Some(claim) => Some(claim),
        None => {
            let mut steps = name.split('.');
            let first = claims.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.get(step))
        }
    };
    found.filter(|claim| !claim.is_null())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::AccessConfig;

    fn read(claims: &Value, names: &str) -> Result<Principal, Denied> {
        let text = format!(
            "policies: p\noidc: [{{ issuer: https://id.example, audience: a, prefix: 'x:', claims: {names} }}]"
        );
        let config = AccessConfig::parse(Path::new("access.yaml"), &text).unwrap();
        principal(claims.as_object().unwrap(), &config.providers[0], None)
    }

    #[test]
    fn claims_are_found_by_name_and_by_path() {
        let claims = json!({
            "sub": "alice", "tenant": "acme", "roles": ["a"],
            "https://acme.example/org": "other", "realm_access": { "roles": ["b", "c"] }, "scope": "d  e",
        });
        let one = read(&claims, "{}").unwrap();
        assert_eq!((one.id(), one.tenant(), one.roles().len()), ("x:alice", Some("acme"), 1));
        assert_eq!(one.issuer(), Some("https://id.example"));
        let names = "{ tenant: 'https://acme.example/org', roles: realm_access.roles }";
        let two = read(&claims, names).unwrap();
        assert_eq!((two.tenant(), two.roles()), (Some("other"), &["b".to_owned(), "c".to_owned()][..]));
        assert_eq!(read(&claims, "{ roles: scope }").unwrap().roles(), ["d", "e"]);
        let none = read(&json!({ "sub": "a", "tenant": null }), "{ roles: a.b.c }").unwrap();
        assert!(none.tenant().is_none() && none.roles().is_empty());
    }

    #[test]
    fn what_is_not_of_its_kind_denies_the_token() {
        for bad in [
            json!({}),
            json!({ "sub": "" }),
            json!({ "sub": 7 }),
            json!({ "sub": "a", "tenant": ["acme"] }),
            json!({ "sub": "a", "roles": ["b", 7] }),
            json!({ "sub": "a", "roles": { "b": true } }),
        ] {
            assert!(matches!(read(&bad, "{}"), Err(Denied::Malformed(_))), "{bad}");
        }
    }
}
