//! The weights of a model's versions, as they are written on the command line.

use std::collections::BTreeMap;
use std::str::FromStr;

use vespid_resources::ModelVersion;
use vespid_types::Version;

use crate::failure::Failure;

/// A version's share of the requests that name none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// The version that is deployed, where none is named.
    version: Option<Version>,
    weight: u32,
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (version, weight) = match text.split_once('=') {
            Some((version, weight)) => (Some(version.parse().map_err(|error| format!("{error}"))?), weight),
            None => (None, text),
        };
        match weight.parse() {
            Ok(weight @ 0..=1_000_000) => Ok(Self { version, weight }),
            _ => {
                Err(format!("'{weight}' is not a weight: use a whole number up to 1000000, as in 10 or 2=10"))
            }
        }
    }
}

/// What is asked for, by version.
pub(super) fn by_version(weights: &[Weight], deployed: Version) -> BTreeMap<i64, u32> {
    weights.iter().map(|Weight { version, weight }| (number(version.unwrap_or(deployed)), *weight)).collect()
}

/// A version as resources have it.
pub(super) fn number(version: Version) -> i64 {
    i64::try_from(version.number()).unwrap_or(i64::MAX)
}

/// Refuses weights that would take all requests from a version without anybody having said so.
pub(super) fn check(versions: &[ModelVersion]) -> Result<(), Failure> {
    if versions.iter().all(|version| version.weight.is_none_or(|weight| weight == 0)) {
        return Ok(());
    }
    let Some(silent) = versions.iter().find(|version| version.weight.is_none()) else { return Ok(()) };
    let version = silent.version;
    Err(Failure::usage(format!("version {version} has no weight, and would be asked by its number alone"))
        .hint(format!("say that of each version, as in --weight {version}=90,2=10; 0 is for one that is asked by number alone")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(version: i64, weight: Option<u32>) -> ModelVersion {
        ModelVersion { version, package: Default::default(), weight }
    }

    #[test]
    fn weights_are_read() {
        let weights: Vec<Weight> = ["1=90", "10"].iter().map(|text| text.parse().unwrap()).collect();
        let deployed: Version = "3".parse().unwrap();
        assert_eq!(by_version(&weights, deployed), BTreeMap::from([(1, 90), (3, 10)]));
        for wrong in ["", "x=1", "1=", "1=-1", "1000001", "1=2=3"] {
            assert!(wrong.parse::<Weight>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_version_loses_its_requests_silently() {
        assert!(check(&[version(1, None), version(2, None)]).is_ok());
        assert!(check(&[version(1, Some(90)), version(2, Some(0))]).is_ok());
        assert!(check(&[version(1, None), version(2, Some(10))]).is_err());
    }
}
