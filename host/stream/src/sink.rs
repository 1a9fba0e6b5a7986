//! Where answers go.
//!
//! Contract: what is sent in turn keeps its order, and is acknowledged when it is where a crash cannot take it away. A send waits
//! where much is on its way.

mod file;
mod kafka;
mod nats;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::StreamError;
use crate::message::{Partition, Record};
use crate::source::Source;
use crate::spec::{SinkKind, StreamSpec};

/// Ends when what was sent is acknowledged: it holds the records that the sink refused for good, by their offsets, and why.
pub(crate) type Acked = BoxFuture<'static, Result<Vec<(i64, String)>, StreamError>>;

/// What goes together.
pub(crate) struct Outgoing {
    /// Where the messages came from.
    pub(crate) partition: Partition,
    pub(crate) records: Vec<Record>,
    /// All before it is done with when this is acknowledged.
    pub(crate) position: i64,
}

/// Takes answers.
pub(crate) trait Sink: Send + Sync {
    /// Takes records. When it returns, they are before all that is sent later.
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Acked, StreamError>>;

    /// Whether it commits the source's offsets with what it takes.
    fn commits(&self) -> bool {
        false
    }

    /// Bytes of a record that it takes, at most, where that is known.
    fn max_bytes(&self) -> Option<usize> {
        None
    }

    /// Says that somebody waits for acknowledgements.
    fn hurry(&self) {}
}

/// Opens the sink of a stream.
///
/// # Errors
/// [`StreamError::Config`] with the setting that is wrong, [`StreamError::Sink`] where it cannot be reached.
pub(crate) async fn open(spec: &StreamSpec, source: &Arc<dyn Source>) -> Result<Arc<dyn Sink>, StreamError> {
    match &spec.sink.kind {
        SinkKind::Kafka(kafka) => kafka::open(kafka, spec, source).await,
        SinkKind::Nats(nats) => nats::open(nats, spec).await,
        SinkKind::File(file) => file::open(file).await,
    }
}
