//! What comes from a source and what goes to a sink.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Messages in an order of their own, each with a number that is greater than those before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Partition {
    /// The topic, stream or file.
    pub(crate) topic: Arc<str>,
    pub(crate) index: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// One message. Its bytes are shared with those that were read with it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Greater than those before it.
    pub(crate) offset: i64,
    /// What it is told by: a redelivered message has the same.
    pub(crate) id: i64,
    /// Milliseconds since 1970, where the broker knows.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Bytes>,
    /// None for a tombstone.
    pub(crate) payload: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

impl Message {
    /// What it takes up, about.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.payload.as_ref().map_or(0, Bytes::len) + self.overhead()
    }

    /// What goes along with an answer to it, about.
    pub(crate) fn overhead(&self) -> usize {
        /// The headers that are added.
        const ADDED: usize = 512;
        let headers = self.headers.iter().map(Header::size).sum::<usize>();
        ADDED + self.key.as_ref().map_or(0, Bytes::len) + headers
    }
}

/// A header of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: Arc<str>,
    pub(crate) value: Option<Bytes>,
}

impl Header {
    pub(crate) fn size(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len) + 8
    }

    pub(crate) fn new(name: &str, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// What goes to the sink for one message.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Whether it goes where failed messages go.
    pub(crate) dead: bool,
    /// Of the message that it is for.
    pub(crate) offset: i64,
    pub(crate) id: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Bytes>,
    pub(crate) payload: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}
