//! Subjects that NATS JetStream keeps.
//!
//! Contract: acknowledged when the server has stored it. Each answer has its message's id, so that the server drops one that is sent again
//! within its window for duplicates.

use std::sync::Arc;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use futures_util::future::{BoxFuture, try_join_all};

use super::{Acked, Outgoing, Sink};
use crate::StreamError;
use crate::message::Record;
use crate::source::nats::connect;
use crate::spec::{NatsSink, SourceKind, StreamSpec};

struct Nats {
    context: Context,
    answers: String,
    dead: Option<String>,
    /// What the ids of this stream's answers begin with.
    name: String,
    max_bytes: usize,
}

pub(crate) async fn open(nats: &NatsSink, spec: &StreamSpec) -> Result<Arc<dyn Sink>, StreamError> {
    let (servers, credentials) = match (&nats.servers, &spec.source.kind) {
        (Some(servers), _) => (servers, &nats.credentials),
        (None, SourceKind::Nats(source)) => (&source.servers, &source.credentials),
        (None, _) => return Err(StreamError::config("sink.nats.servers", "it is missing: name a server")),
    };
    let client = connect(servers.as_slice(), credentials.as_deref(), &spec.name, "sink.nats").await?;
    let max_bytes = client.server_info().max_payload;
    Ok(Arc::new(Nats {
        context: async_nats::jetstream::new(client),
        answers: nats.subject.clone(),
        dead: nats.dead_letter.clone(),
        name: spec.name.clone(),
        max_bytes,
    }))
}

impl Nats {
    fn message(&self, partition: &crate::message::Partition, record: &Record) -> PublishMessage {
        let mut headers = HeaderMap::new();
        for header in &record.headers {
            // Those of the server's are the message's that was read.
            if header.name.starts_with("Nats-") {
                continue;
            }
            let value = header.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            // What HTTP's rules do not let through a header cannot hold.
            if let (Ok(name), Ok(value)) =
                (header.name.parse::<async_nats::HeaderName>(), value.parse::<async_nats::HeaderValue>())
            {
                headers.append(name, value);
            }
        }
        let kind = if record.dead { "dead" } else { "answer" };
        let id = format!("{}:{partition}:{}:{kind}", self.name, record.id);
        PublishMessage::build()
            .headers(headers)
            .message_id(id)
            .payload(record.payload.clone().unwrap_or_default())
    }
}

impl Sink for Nats {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Acked, StreamError>> {
        Box::pin(async move {
            let wrong = |error: async_nats::jetstream::context::PublishError| {
                StreamError::Sink(format!("NATS: {error}"))
            };
            let mut acks = Vec::with_capacity(outgoing.records.len());
            for record in &outgoing.records {
                let subject = match (&self.dead, record.dead) {
                    (Some(dead), true) => dead,
                    _ => &self.answers,
                };
                let message = self.message(&outgoing.partition, record);
                let ack = self.context.send_publish(subject.clone(), message).await.map_err(wrong)?;
                // Each on its own: the client lets so many be on their way, and they are until somebody has looked.
                acks.push(tokio::spawn(ack.into_future()));
            }
            let acked: Acked = Box::pin(async move {
                for ack in
                    try_join_all(acks).await.map_err(|error| StreamError::Internal(error.to_string()))?
                {
                    ack.map_err(wrong)?;
                }
                Ok(Vec::new())
            });
            Ok(acked)
        })
    }

    fn max_bytes(&self) -> Option<usize> {
        Some(self.max_bytes)
    }
}
