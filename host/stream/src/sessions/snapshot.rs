//! The state of a partition's keys, as it is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::StreamError;

/// The state of the keys of a partition.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    /// All messages before this one are in it.
    pub(crate) offset: i64,
    pub(crate) keys: Vec<SavedKey>,
}

/// The state of one key.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedKey {
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub(crate) key: Vec<u8>,
    /// The timestamp of its last message, in milliseconds.
    pub(crate) last: Option<i64>,
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub(crate) state: Vec<u8>,
}

fn write<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

impl Snapshot {
    pub(super) fn read(file: &str, text: &[u8]) -> Result<Self, StreamError> {
        let wrong = |error: serde_json::Error| StreamError::File {
            file: file.to_owned(),
            reason: format!("it is no snapshot of sessions: {error}; take it away to begin without"),
        };
        serde_json::from_slice(text).map_err(wrong)
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, StreamError> {
        serde_json::to_vec(self).map_err(|error| StreamError::Internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let key = SavedKey { key: vec![0, 255], last: Some(5), state: vec![1, 2, 3] };
        let snapshot = Snapshot { offset: 7, keys: vec![key] };
        assert_eq!(Snapshot::read("f", &snapshot.write().unwrap()).unwrap(), snapshot);
        let error = Snapshot::read("f", b"{}").unwrap_err().to_string();
        assert!(error.starts_with("f: it is no snapshot"), "{error}");
    }
}
