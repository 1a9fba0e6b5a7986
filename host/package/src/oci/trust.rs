//! The trust policy: whose artifacts are taken, by where they are.
//!
//! Contract: the policy is a TOML file; unknown keys are errors. An artifact is trusted where a rule's pattern matches its
//! place (`HOST[:PORT]/REPOSITORY`) and one of the keys of such rules has signed its digest; what matches no rule, and what
//! none of the keys has signed, is refused. Left out: keyless signatures, which need the public trust root. Packages that
//! clients upload bear no signature: `uploads = "deny"` refuses them.

use std::fs;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};
use serde::Deserialize;

use super::error::RegistryError;
use super::keys::PublicKey;
use super::reference::Reference;

/// Whose artifacts are taken.
#[derive(Debug)]
pub struct TrustPolicy {
    file: PathBuf,
    rules: Vec<Rule>,
    uploads: Uploads,
}

#[derive(Debug)]
struct Rule {
    places: PlacePattern,
    keys: Vec<PublicKey>,
}

/// Which places in registries: `*` stands for a part of a path or of a host, `**` for any number of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacePattern(Pattern);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Uploads {
    #[default]
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    uploads: Uploads,
    #[serde(default, rename = "rule")]
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    pattern: PlacePattern,
    keys: Vec<PathBuf>,
}

impl TrustPolicy {
    /// Reads a policy and the keys that it names, whose paths begin at its folder.
    ///
    /// # Errors
    /// What is wrong with it or with a key.
    pub fn read(file: &Path) -> Result<Self, RegistryError> {
        let wrong = |reason: String| RegistryError::Policy {
            file: file.to_owned(),
            reason: reason.trim_end().to_owned(),
        };
        let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let RawPolicy { uploads, rules } = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let rule = |RawRule { pattern, keys }: RawRule| {
            if keys.is_empty() {
                return Err(wrong(format!("rule '{pattern}': keys is empty: name at least one public key")));
            }
            let read = |key: PathBuf| PublicKey::read(&folder.join(&key), &key.display().to_string());
            Ok(Rule { places: pattern, keys: keys.into_iter().map(read).collect::<Result<_, _>>()? })
        };
        let rules = rules.into_iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { file: file.to_owned(), rules, uploads })
    }

    /// Whether clients may upload packages, which no signature vouches for.
    #[must_use]
    pub fn allows_uploads(&self) -> bool {
        self.uploads == Uploads::Allow
    }

    /// The keys of which one must have signed an artifact at this place.
    ///
    /// # Errors
    /// [`RegistryError::Untrusted`] where no rule is about the place.
    pub(super) fn keys(&self, reference: &Reference) -> Result<Vec<&PublicKey>, RegistryError> {
        let place = reference.place();
        let matching: Vec<_> = self.rules.iter().filter(|rule| rule.places.matches(&place)).collect();
        if matching.is_empty() {
            return Err(RegistryError::Untrusted {
                reference: reference.clone(),
                reason: format!("no rule of {} matches {place}", self.file.display()),
            });
        }
        Ok(matching.into_iter().flat_map(|rule| &rule.keys).collect())
    }
}

impl PlacePattern {
    /// Whether a place, `HOST[:PORT]/REPOSITORY`, is one of these.
    #[must_use]
    pub fn matches(&self, place: &str) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        self.0.matches_with(place, options)
    }
}

impl std::str::FromStr for PlacePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form =
            "write it as HOST[:PORT]/REPOSITORY, where * stands for a part and ** for any number of them";
        if text.contains("://") || text.contains('@') || !text.contains('/') {
            return Err(format!("'{text}' is no pattern of places in a registry: {form}"));
        }
        Pattern::new(text).map(Self).map_err(|error| format!("'{text}' is no pattern: {error}; {form}"))
    }
}

impl<'de> Deserialize<'de> for PlacePattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for PlacePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::SigningKey;
    use super::*;

    fn policy(text: &str) -> Result<TrustPolicy, String> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let prefix = dir.path().join(name);
            SigningKey::generate(&prefix).unwrap().write(&prefix, "").unwrap();
        }
        let file = dir.path().join("trust.toml");
        fs::write(&file, text).unwrap();
        TrustPolicy::read(&file).map_err(|error| error.to_string())
    }

    #[test]
    fn the_keys_of_all_rules_that_match_are_asked_for() {
        let policy = policy(
            "[[rule]]\npattern = 'r.example/models/*'\nkeys = ['a.pub']\n\
             [[rule]]\npattern = 'r.example/**'\nkeys = ['b.pub', 'a.pub']\n",
        )
        .unwrap();
        assert!(policy.allows_uploads());
        let keys = |text: &str| {
            let keys = policy.keys(&text.parse().unwrap());
            keys.map(|keys| keys.iter().map(|key| key.name().to_owned()).collect::<Vec<_>>().join(" "))
                .map_err(|error| error.to_string())
        };
        assert_eq!(keys("oci://r.example/models/iris").unwrap(), "a.pub b.pub a.pub");
        assert_eq!(keys("oci://r.example/models/more/iris").unwrap(), "b.pub a.pub");
        let error = keys("oci://r.example:5000/models/iris:1").unwrap_err();
        assert!(
            error.contains("no rule of ") && error.contains("matches r.example:5000/models/iris"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_told() {
        assert!(!policy("uploads = 'deny'").unwrap().allows_uploads());
        for (text, expected) in [
            ("uploads = 'never'", "uploads"),
            ("upload = 'deny'", "upload"),
            ("[[rule]]\npattern = 'r/*'\nkey = ['a.pub']", "key"),
            ("[[rule]]\npattern = 'r/*'\nkeys = []", "keys is empty"),
            ("[[rule]]\npattern = 'oci://r/*'\nkeys = ['a.pub']", "'oci://r/*' is no pattern of places"),
            ("[[rule]]\npattern = 'r/a***'\nkeys = ['a.pub']", "'r/a***' is no pattern"),
            ("[[rule]]\npattern = 'r/*'\nkeys = ['c.pub']", "c.pub"),
            ("[[rule]]\npattern = 'r/*'\nkeys = ['a.key']", "no public key in PEM"),
            ("[rule", "trust.toml"),
        ] {
            let error = policy(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
