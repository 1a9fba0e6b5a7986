//! One number of several texts.
//!
//! Contract: other texts have another fingerprint, as far as SHA-256 goes: each text goes in with its length, so that none can
//! pass for two. It takes the place of the texts as a key of a cache, where an attacker may choose them. Allocates nothing.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Fingerprint = [u8; 32];

/// The fingerprint of one text.
pub(crate) fn of(text: &[u8]) -> Fingerprint {
    Sha256::digest(text).into()
}

/// Takes texts, and makes a fingerprint of them.
pub(crate) struct Fingerprinter(Sha256);

impl Fingerprinter {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => {
                self.0.update([1]);
                self.text(text)
            }
            None => {
                self.0.update([0]);
                self
            }
        }
    }

    /// How many texts follow.
    pub(crate) fn length(&mut self, length: usize) -> &mut Self {
        self.0.update((length as u64).to_le_bytes());
        self
    }

    pub(crate) fn finish(self) -> Fingerprint {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn together(texts: &[&str]) -> Fingerprint {
        let mut fingerprinter = Fingerprinter::new();
        for text in texts {
            fingerprinter.text(text);
        }
        fingerprinter.finish()
    }

    #[test]
    fn where_a_text_ends_counts() {
        assert_ne!(together(&["ab", "c"]), together(&["a", "bc"]));
        assert_ne!(together(&["ab"]), together(&["ab", ""]));
        let [mut none, mut empty] = [Fingerprinter::new(), Fingerprinter::new()];
        none.optional(None);
        empty.optional(Some(""));
        assert_ne!(none.finish(), empty.finish());
    }
}
