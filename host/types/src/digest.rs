//! Digests of content: what a package, a component or a graph is, whatever it is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A SHA-256 digest, written as OCI writes it: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// A digest that is not well formed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a digest: use sha256: and 64 digits from 0 to 9 and a to f")]
pub struct InvalidDigest(String);

const ALGORITHM: &str = "sha256:";

impl Digest {
    /// The digest of these bytes as a hash function gives it.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The 64 hexadecimal digits alone, which are fit for a path.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidDigest(text.chars().take(128).collect());
        let digits = text.strip_prefix(ALGORITHM).ok_or_else(invalid)?;
        // OCI allows small letters alone: two spellings of one digest would be two blobs.
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut sha256 = [0; 32];
        hex::decode_to_slice(digits, &mut sha256).map_err(|_| invalid())?;
        Ok(Self(sha256))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digest_has_one_spelling() {
        let text = format!("sha256:{}", "0a".repeat(32));
        let digest: Digest = text.parse().unwrap();
        assert_eq!((digest, digest.to_string()), (Digest::new([10; 32]), text.clone()));
        for bad in ["", "sha256:", "sha256:0a", "sha512:00", &text.to_uppercase(), &text.replace("0a", "0A")]
        {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
