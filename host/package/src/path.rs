//! Paths inside a package.

use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use serde::Deserialize;

/// A relative path of plain names, in the spelling of the archive: it cannot lead out of the package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct PackagePath(String);

/// A path that a package may not hold.
#[derive(Debug, thiserror::Error)]
#[error(
    "'{0}' is not a plain relative path: use names without '..', '.', a leading '/' or a backslash, and 255 bytes at most"
)]
pub struct InvalidPath(String);

impl PackagePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<Path> for PackagePath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl FromStr for PackagePath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        let clean = path.split('/').all(|part| !part.is_empty() && part != ".");
        if plain && clean && path.len() <= 255 && !path.contains(['\\', '\0']) {
            Ok(Self(path.to_owned()))
        } else {
            Err(InvalidPath(path.chars().take(255).collect()))
        }
    }
}

impl TryFrom<String> for PackagePath {
    type Error = InvalidPath;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        path.parse()
    }
}

impl fmt::Display for PackagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths() {
        for good in ["model.onnx", "graphs/a.onnx", "a..b"] {
            assert!(good.parse::<PackagePath>().is_ok(), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "./a", "a//b", "a/", "a\\b", "."] {
            assert!(bad.parse::<PackagePath>().is_err(), "{bad}");
        }
    }
}
