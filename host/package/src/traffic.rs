//! Which of a model's versions are served, and how requests that name none are led to them.
//!
//! Contract: it belongs to the model and not to one of its versions, and is kept beside them as a document in JSON, which is
//! validated once. Weights are shares of their sum. Versions that it names need not be there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vespid_types::Version;

use crate::{PackageError, VersionPolicy};

/// A model's traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Which versions are served.
    #[serde(with = "policy")]
    pub versions: VersionPolicy,
    /// Shares of the requests that name no version. Where there are none, the greatest version answers them all.
    #[serde(with = "weights", skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<Version, NonZero<u32>>,
    /// The version that gets copies of such requests, whose answers are compared and counted and never returned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A version that is tried on real requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The version.
    #[serde(deserialize_with = "version")]
    pub version: Version,
    /// Of how many of a hundred requests it gets a copy; more than 0 and at most 100.
    #[serde(default = "all")]
    pub percent: f64,
    /// By how much elements of floating-point outputs may differ, absolutely or relative to the one returned; all others
    /// must be equal.
    #[serde(default = "tolerance")]
    pub tolerance: f64,
}

impl Shadow {
    /// A version that gets a copy of each, and may differ by as much as is usual.
    #[must_use]
    pub fn of(version: Version) -> Self {
        Self { version, percent: all(), tolerance: tolerance() }
    }
}

fn all() -> f64 {
    100.0
}

fn tolerance() -> f64 {
    1e-5
}

const MAX_WEIGHT: u32 = 1_000_000;

impl Traffic {
    /// The versions that it leads requests or copies of them to.
    pub fn named(&self) -> impl Iterator<Item = Version> {
        self.weights.keys().copied().chain(self.shadow.as_ref().map(|shadow| shadow.version))
    }

    /// Reads the document.
    ///
    /// # Errors
    /// [`PackageError::Traffic`], which names the field.
    pub fn parse(json: &[u8]) -> Result<Self, PackageError> {
        // An object first: a list of values would pass for the fields in their order.
        let read = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json);
        let traffic: Self = read
            .and_then(|fields| serde_json::from_value(fields.into()))
            .map_err(|error| PackageError::Traffic { reason: error.to_string() })?;
        let wrong = |reason: &str| Err(PackageError::Traffic { reason: reason.to_owned() });
        if traffic.weights.values().any(|weight| weight.get() > MAX_WEIGHT) {
            return wrong(
                "weights: use whole numbers from 1 to 1000000; leave a version out that is to have none",
            );
        }
        if let Some(Shadow { percent, tolerance, .. }) = &traffic.shadow {
            if !(*percent > 0.0 && *percent <= 100.0) {
                return wrong("shadow.percent: use more than 0 and at most 100");
            }
            if !(tolerance.is_finite() && *tolerance >= 0.0) {
                return wrong("shadow.tolerance: use 0 or more");
            }
        }
        Ok(traffic)
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Numbers that are no JSON are refused by `parse`, and nothing else can fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A whole number from 1.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Whole(NonZero<u32>);

impl TryFrom<f64> for Whole {
    type Error = String;

    fn try_from(number: f64) -> Result<Self, String> {
        vespid_types::whole(number)
            .and_then(NonZero::new)
            .map(Self)
            .ok_or_else(|| format!("{number} is not a whole number from 1 to {}", u32::MAX))
    }
}

/// A version as a number or as text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a version: a whole number from 1")]
enum Spelling {
    Number(u64),
    Real(Whole),
    Text(String),
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    parse_version(Spelling::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn parse_version(spelling: Spelling) -> Result<Version, vespid_types::InvalidId> {
    match spelling {
        Spelling::Number(number) => number.to_string().parse(),
        Spelling::Real(Whole(number)) => number.to_string().parse(),
        Spelling::Text(text) => text.parse(),
    }
}

mod weights {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        weights: &BTreeMap<Version, NonZero<u32>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(weights.iter().map(|(version, weight)| (version.to_string(), weight)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Version, NonZero<u32>>, D::Error> {
        let weights = BTreeMap::<String, Whole>::deserialize(deserializer)?;
        let parse = |(version, Whole(weight)): (String, _)| Ok((version.parse::<Version>()?, weight));
        weights
            .into_iter()
            .map(parse)
            .collect::<Result<_, vespid_types::InvalidId>>()
            .map_err(serde::de::Error::custom)
    }
}

mod policy {
    use super::*;

    /// As it is written: `"all"`, `{"latest": 2}` or `{"specific": [1, 3]}`.
    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Written<'a> {
        All,
        Latest(NonZero<u32>),
        Specific(&'a BTreeSet<Version>),
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Read {
        All,
        Latest(Whole),
        Specific(Vec<Spelling>),
    }

    pub(super) fn serialize<S: Serializer>(policy: &VersionPolicy, serializer: S) -> Result<S::Ok, S::Error> {
        match policy {
            VersionPolicy::All => Written::All,
            VersionPolicy::Latest(number) => Written::Latest(*number),
            VersionPolicy::Specific(versions) => Written::Specific(versions),
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VersionPolicy, D::Error> {
        Ok(match Read::deserialize(deserializer)? {
            Read::All => VersionPolicy::All,
            Read::Latest(Whole(number)) => VersionPolicy::Latest(number),
            Read::Specific(versions) => {
                let versions = versions.into_iter().map(parse_version);
                VersionPolicy::Specific(versions.collect::<Result<_, _>>().map_err(serde::de::Error::custom)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_as_it_is_written() {
        for text in [
            r#"{"versions":"all"}"#,
            r#"{"versions":{"latest":2},"weights":{"1":90,"2":10}}"#,
            r#"{"versions":{"specific":["1","3"]},"shadow":{"version":"3","percent":5.0,"tolerance":0.0}}"#,
        ] {
            let traffic = Traffic::parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(traffic.to_json()).unwrap(), text);
        }
        let lenient = br#"{"versions":{"specific":[1,"3"]},"shadow":{"version":3.0},"weights":{"1":2.0}}"#;
        let Traffic { versions, shadow, .. } = Traffic::parse(lenient).unwrap();
        let specific = ["1", "3"].map(|version| version.parse().unwrap());
        assert_eq!(versions, VersionPolicy::Specific(specific.into()));
        assert_eq!(shadow.unwrap().percent, 100.0);
        assert_eq!(Traffic::parse(b"{}").unwrap(), Traffic::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("[]", "invalid type"),
            (r#"{"weight":{}}"#, "unknown field `weight`"),
            (r#"{"weights":{"1":0}}"#, "0 is not a whole number from 1"),
            (r#"{"weights":{"one":1}}"#, "'one' is not a version"),
            (r#"{"weights":{"1":2000000}}"#, "weights: use whole numbers"),
            (r#"{"versions":{"latest":1.5}}"#, "1.5 is not a whole number from 1"),
            (r#"{"versions":{"specific":[0]}}"#, "'0' is not a version"),
            (r#"{"shadow":{"version":1,"percent":0}}"#, "shadow.percent"),
            (r#"{"shadow":{"version":1,"tolerance":-1}}"#, "shadow.tolerance"),
        ] {
            let error = Traffic::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
