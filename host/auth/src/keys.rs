//! API keys.
//!
//! Contract: a key has 256 bits of chance, and the file has its SHA-256. That is enough, where a password would want a slow hash: nobody
//! can try 2^256 keys, however fast each is tried, and who reads the file cannot come back from the hash. A key is found by its
//! hash, which takes as long for a wrong key as for a right one; what the time of a look-up tells of a hash tells nothing of a key, for
//! who could choose hashes would have broken SHA-256. Cost: a SHA-256 and a look-up. A key that is taken from the file is refused as
//! soon as the file is read again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use vespid_types::Secret;

use crate::config::yaml;
use crate::fingerprint::{self, Fingerprint};
use crate::{AccessError, Denied, Identity, Kind, Principal};

/// What every key begins with, so that people and scanners know one.
pub(crate) const PREFIX: &str = "vespid_";

const SECRET_BYTES: usize = 32;
/// What 32 bytes are in base64 without padding.
const SECRET_TEXT: usize = 43;

/// A key that was just made: the one time that it is to be seen.
#[derive(Clone, Debug)]
pub struct ApiKey(Secret);

/// What the file says of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Whose it is.
    pub name: String,
    /// The SHA-256 of the key, in hexadecimal digits.
    pub sha256: String,
    /// The tenant of who has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The roles of who has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Until when it is taken (RFC 3339, in UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl ApiKey {
    /// A new key for `name`, and what the file is to say of it.
    ///
    /// # Errors
    /// [`AccessError::Internal`] where the system has no random numbers.
    pub fn generate(name: &str) -> Result<(Self, KeyEntry), AccessError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)
            .map_err(|error| AccessError::Internal(format!("no random numbers for a key: {error}")))?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = hex::encode(fingerprint::of(text.as_bytes()));
        let entry =
            KeyEntry { name: name.to_owned(), sha256, tenant: None, roles: Vec::new(), expires: None };
        Ok((Self(Secret::new(&text)), entry))
    }

    /// The key, for the one that it is for.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl KeyEntry {
    /// The entry as it is added to the file.
    ///
    /// # Errors
    /// [`AccessError::Internal`] where it cannot be written.
    pub fn to_yaml(&self) -> Result<String, AccessError> {
        serde_saphyr::to_string(&[self]).map_err(|error| AccessError::Internal(error.to_string()))
    }
}

/// Whether it is an API key by its looks, and no token.
pub(crate) fn is_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

fn is_well_formed(text: &str) -> bool {
    let in_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.strip_prefix(PREFIX)
        .is_some_and(|secret| secret.len() == SECRET_TEXT && secret.bytes().all(in_base64))
}

/// The keys of a file.
#[derive(Default)]
pub(crate) struct KeyRing {
    keys: HashMap<Fingerprint, Principal>,
}

impl KeyRing {
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, AccessError> {
        let entries: Vec<KeyEntry> = yaml(file, text)?;
        let mut keys = HashMap::with_capacity(entries.len());
        let mut names = HashMap::new();
        for (at, entry) in entries.into_iter().enumerate() {
            let fault = |field: &str, reason: &str| {
                AccessError::config(file, format!("[{at}].{field} (of '{}')", entry.name), reason)
            };
            if entry.name.is_empty() || entry.name.chars().any(char::is_control) {
                return Err(fault("name", "it is empty or has control characters: name whose key it is"));
            }
            if let Some(first) = names.insert(entry.name.clone(), at) {
                let reason = format!("[{first}] has it already: each key has a name of its own");
                return Err(fault("name", &reason));
            }
            let mut sha256 = [0; 32];
            hex::decode_to_slice(&entry.sha256, &mut sha256).map_err(|_| {
                fault("sha256", "it is not 64 hexadecimal digits: use what `vespid authz key` prints")
            })?;
            let expires = match entry.expires.as_deref() {
                Some(text) => Some(humantime::parse_rfc3339(text).map_err(|_| {
                    fault("expires", "it is no time in UTC: write one such as 2027-01-31T00:00:00Z")
                })?),
                None => None,
            };
            match keys.entry(sha256) {
                Entry::Occupied(_) => {
                    return Err(fault("sha256", "another key has the same: each is made anew"));
                }
                Entry::Vacant(place) => place.insert(principal(entry, expires)),
            };
        }
        Ok(Self { keys })
    }

    /// Whose key it is.
    pub(crate) fn find(&self, key: &str, now: SystemTime) -> Result<Principal, Denied> {
        if !is_well_formed(key) {
            return Err(Denied::Malformed("an API key is vespid_ and 43 characters"));
        }
        let known = self.keys.get(&fingerprint::of(key.as_bytes())).ok_or(Denied::UnknownApiKey)?;
        known.is_current(now)?;
        Ok(known.clone())
    }

    /// The principal of the key of that name.
    pub(crate) fn named(&self, name: &str) -> Option<Principal> {
        self.keys.values().find(|principal| principal.id() == name).cloned()
    }
}

fn principal(entry: KeyEntry, expires: Option<SystemTime>) -> Principal {
    let KeyEntry { name: id, tenant, roles, .. } = entry;
    Principal::until(Identity { kind: Kind::ApiKey, id, issuer: None, tenant, roles }, expires)
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({})", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ring(entries: &[KeyEntry]) -> Result<KeyRing, String> {
        let text: String = entries.iter().map(|entry| entry.to_yaml().unwrap()).collect();
        KeyRing::parse(Path::new("keys.yaml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_is_its_owner_s_until_it_expires() {
        let (key, mut entry) = ApiKey::generate("ci").unwrap();
        assert!(key.expose().starts_with("vespid_") && key.expose().len() == 50);
        assert!(!format!("{key:?}").contains(key.expose()));
        entry.tenant = Some("acme".to_owned());
        entry.roles = vec!["batch".to_owned()];
        entry.expires = Some("2030-01-01T00:00:00Z".to_owned());
        let keys = ring(&[entry]).unwrap();

        let expires = humantime::parse_rfc3339("2030-01-01T00:00:00Z").unwrap();
        let principal = keys.find(key.expose(), expires - Duration::from_secs(1)).unwrap();
        assert_eq!((principal.kind(), principal.id()), (Kind::ApiKey, "ci"));
        assert_eq!((principal.tenant(), principal.roles()), (Some("acme"), &["batch".to_owned()][..]));
        assert_eq!(keys.find(key.expose(), expires), Err(Denied::ExpiredApiKey));
        assert_eq!(keys.named("ci"), Some(principal));
    }

    #[test]
    fn another_key_is_nobody_s() {
        let (key, entry) = ApiKey::generate("ci").unwrap();
        let keys = ring(&[entry]).unwrap();
        let (other, _) = ApiKey::generate("ci").unwrap();
        let now = SystemTime::now();
        assert_eq!(keys.find(other.expose(), now), Err(Denied::UnknownApiKey));
        for malformed in ["vespid_", "hunter2", &key.expose()[1..], &format!("{}=", key.expose())] {
            assert!(matches!(keys.find(malformed, now), Err(Denied::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named_and_a_key_never_quoted() {
        let (key, entry) = ApiKey::generate("ci").unwrap();
        let wrong = |entry: KeyEntry| ring(&[entry]).unwrap_err();
        let raw = wrong(KeyEntry { sha256: key.expose().to_owned(), ..entry.clone() });
        assert!(raw.contains("keys.yaml: [0].sha256 (of 'ci')") && !raw.contains(key.expose()), "{raw}");
        let time = wrong(KeyEntry { expires: Some("tomorrow".to_owned()), ..entry.clone() });
        assert!(time.contains("expires") && time.contains("2027-01-31T00:00:00Z"), "{time}");
        assert!(wrong(KeyEntry { name: String::new(), ..entry.clone() }).contains("name"));
        let same = ring(&[entry.clone(), KeyEntry { name: "x".to_owned(), ..entry.clone() }]).unwrap_err();
        assert!(same.contains("[1].sha256"), "{same}");
        let (_, second) = ApiKey::generate("ci").unwrap();
        assert!(ring(&[entry, second]).unwrap_err().contains("[1].name"));

        let unknown = format!("- name: a\n  key: {}\n", key.expose());
        let error = KeyRing::parse(Path::new("keys.yaml"), &unknown).unwrap_err().to_string();
        assert!(error.contains("key") && !error.contains(key.expose()), "{error}");
    }
}
