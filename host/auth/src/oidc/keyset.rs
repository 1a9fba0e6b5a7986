//! The keys of a provider.
//!
//! Contract: a key is used for what it is for: those for encryption, of kinds or with algorithms that are not taken here, and those
//! without a name are left out; what else is in the set does not suffer from them. A key is found by its name and gives itself
//! for the algorithms that go with its kind alone, so that no token can have a public key taken for a shared secret.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize as _;
use serde_json::Value;

use crate::Denied;
use crate::fingerprint::{Fingerprint, Fingerprinter};

/// The keys of a provider at some time.
pub(super) struct KeySet {
    keys: HashMap<String, Vec<Key>>,
    /// Of all that is used of it.
    pub(super) fingerprint: Fingerprint,
    /// Counts the sets of this provider that differ.
    pub(super) generation: u64,
}

struct Key {
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    pub(super) fn new(values: &[Value]) -> Self {
        let mut keys: HashMap<String, Vec<Key>> = HashMap::new();
        let mut fingerprinter = Fingerprinter::new();
        for value in values {
            match read(value) {
                Ok((name, key)) => {
                    fingerprinter.text(&value.to_string());
                    keys.entry(name).or_default().push(key);
                }
                Err(reason) => tracing::debug!(reason, "a key of a provider is not used"),
            }
        }
        Self { keys, fingerprint: fingerprinter.finish(), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of that name for that algorithm; none where there is none of that name.
    pub(super) fn find(&self, name: &str, algorithm: Algorithm) -> Option<Result<&DecodingKey, Denied>> {
        let keys = self.keys.get(name)?;
        let fitting = keys.iter().find(|key| key.algorithms.contains(&algorithm));
        Some(fitting.map(|key| &key.key).ok_or(Denied::AlgorithmNotAllowed))
    }
}

fn read(value: &Value) -> Result<(String, Key), &'static str> {
    let jwk = Jwk::deserialize(value).map_err(|_| "it is not readable")?;
    let name = jwk.common.key_id.clone().ok_or("it has no name (kid)")?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("it is not for signatures (use)");
    }
    let operations = jwk.common.key_operations.as_deref();
    if operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("it is not for checking signatures (key_ops)");
    }
    let fitting = fitting(&jwk.algorithm);
    let algorithms = match jwk.common.key_algorithm {
        None => fitting.to_vec(),
        Some(named) => {
            let named = Algorithm::try_from(named).map_err(|_| "its algorithm (alg) is not taken")?;
            fitting.iter().copied().filter(|algorithm| *algorithm == named).collect()
        }
    };
    if algorithms.is_empty() {
        return Err("its kind (kty, crv) is not taken, or its algorithm (alg) does not go with that");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "it is not readable")?;
    Ok((name, Key { algorithms, key }))
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// What goes with a key of that kind. Nothing goes with a shared secret.
fn fitting(parameters: &AlgorithmParameters) -> &'static [Algorithm] {
    match parameters {
        AlgorithmParameters::RSA(_) => &RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => &[],
        },
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value)] // For the sake of those who write `json!`.
    fn rsa(extra: Value) -> Value {
        let mut key = json!({ "kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB" });
        key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        key
    }

    #[test]
    fn a_key_is_used_for_what_it_is_for() {
        for unused in [
            rsa(json!({ "use": "enc" })),
            rsa(json!({ "use": "other" })),
            rsa(json!({ "key_ops": ["encrypt"] })),
            rsa(json!({ "alg": "RSA-OAEP" })),
            rsa(json!({ "alg": "HS256" })),
            rsa(json!({ "alg": "ES256" })),
            rsa(json!({ "kid": null })),
            json!({ "kty": "oct", "kid": "a", "k": "AQAB" }),
            json!({ "kty": "EC", "kid": "a", "crv": "P-521", "x": "AQAB", "y": "AQAB" }),
            json!({ "kty": "OKP", "kid": "a", "crv": "X25519", "x": "AQAB" }),
            json!({ "kty": "new", "kid": "a" }),
            json!("key"),
        ] {
            assert_eq!(KeySet::new(std::slice::from_ref(&unused)).len(), 0, "{unused}");
            let beside =
                KeySet::new(&[unused, rsa(json!({ "kid": "b", "use": "sig", "key_ops": ["verify"] }))]);
            assert!(beside.find("b", Algorithm::RS256).is_some());
        }
    }

    #[test]
    fn a_key_gives_itself_for_its_algorithms_alone() {
        let keys = KeySet::new(&[rsa(json!({})), rsa(json!({ "kid": "b", "alg": "PS256" }))]);
        let fits = |name, algorithm| keys.find(name, algorithm).map(|found| found.is_ok());
        assert_eq!(fits("a", Algorithm::RS256), Some(true));
        assert_eq!(fits("a", Algorithm::PS512), Some(true));
        for other in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
            assert_eq!(fits("a", other), Some(false));
        }
        assert_eq!((fits("b", Algorithm::PS256), fits("b", Algorithm::RS256)), (Some(true), Some(false)));
        assert_eq!(fits("c", Algorithm::RS256), None);
    }

    #[test]
    fn what_is_not_used_makes_no_other_set() {
        let one = KeySet::new(&[rsa(json!({}))]);
        assert_eq!(one.fingerprint, KeySet::new(&[rsa(json!({ "use": "enc" })), rsa(json!({}))]).fingerprint);
        assert_ne!(one.fingerprint, KeySet::new(&[rsa(json!({ "n": "AQAC" }))]).fingerprint);
    }
}
