//! Fields of a message that go beside its answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;
use vespid_batch::{Keep, KeepWord};

use crate::failure::Failure;
use crate::message::Message;

/// Which of them.
pub(super) enum Kept {
    None,
    All,
    Fields(Vec<String>),
}

impl Kept {
    pub(super) fn new(keep: Option<&Keep>) -> Self {
        match keep {
            None | Some(Keep::Word(KeepWord::None)) => Self::None,
            Some(Keep::Word(KeepWord::All)) => Self::All,
            Some(Keep::Columns(fields)) => Self::Fields(fields.clone()),
        }
    }

    /// The answer, and before it what is kept of its message. An output goes before a field of its name.
    pub(super) fn beside(&self, answer: Bytes, message: Option<&Message>) -> Result<Bytes, Failure> {
        let wanted = |name: &str| match self {
            Self::None => false,
            Self::All => true,
            Self::Fields(fields) => fields.iter().any(|field| field == name),
        };
        let payload = match self {
            Self::None => None,
            _ => message.and_then(|message| message.payload.as_deref()),
        };
        let Some(payload) = payload else { return Ok(answer) };
        let failed = |error: serde_json::Error| Failure::encode(error.to_string());
        let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(payload).map_err(failed)?;
        let outputs: BTreeMap<String, &RawValue> = serde_json::from_slice(&answer).map_err(failed)?;
        fields.retain(|name, _| wanted(name));
        fields.extend(outputs);
        Ok(serde_json::to_vec(&fields).map_err(failed)?.into())
    }
}
