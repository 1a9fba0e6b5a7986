//! Names and versions of models: checked once, cheap to clone, safe as a path segment.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name or version that is not well formed. The text says what is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidId {
    /// Not a model name.
    #[error(
        "'{0}' is not a model name: use 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter or a digit"
    )]
    ModelName(String),
    /// Not a version.
    #[error("'{0}' is not a version: use a whole number from 1 to 9223372036854775807 without leading zeros")]
    Version(String),
}

/// The name of a model: 1 to 128 ASCII letters, digits, `.`, `_` or `-`, the first a letter or a digit. It is thereby
/// also safe as a segment of a path or a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = InvalidId;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let well_formed = name.len() <= 128
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if well_formed {
            Ok(Self(name.into()))
        } else {
            Err(InvalidId::ModelName(name.chars().take(128).collect()))
        }
    }
}

impl TryFrom<String> for ModelName {
    type Error = InvalidId;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.as_str().to_owned()
    }
}

impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a model. The Open Inference Protocol writes versions as numeric strings; the greatest is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(u64);

impl Version {
    /// The number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for Version {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidId::Version(text.chars().take(32).collect());
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        match text.parse::<u64>() {
            Ok(number) if canonical && number <= i64::MAX as u64 => Ok(Self(number)),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_path_segments() {
        for good in ["iris", "file-type", "a", "Model_2.5", &"a".repeat(128)] {
            assert!(good.parse::<ModelName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", ".hidden", "a b", "ä", "a\0", &"a".repeat(129)] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_are_canonical_numbers() {
        for good in ["1", "20240101", "9223372036854775807"] {
            assert_eq!(good.parse::<Version>().unwrap().to_string(), good);
        }
        for bad in ["", "0", "01", "+1", "-1", "1.0", "v1", "9223372036854775808", "../1"] {
            assert!(bad.parse::<Version>().is_err(), "{bad}");
        }
    }
}
