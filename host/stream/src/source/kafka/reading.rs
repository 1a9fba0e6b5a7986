//! The messages of one partition, on their way out of librdkafka.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use tokio::sync::mpsc;

use super::super::{CHUNK_BYTES, CHUNK_MESSAGES, Chunk};
use super::context::Context;
use crate::message::{Header, Message};

/// A partition that is this process's.
pub(super) struct Reading {
    pub(super) queue: PartitionQueue<Context>,
    pub(super) output: mpsc::Sender<Chunk>,
    /// What came before the queue was the partition's own.
    pub(super) before: Vec<Message>,
    pub(super) started: bool,
    /// The offset of the last message.
    pub(super) last: i64,
}

impl Reading {
    /// Moves messages while there is room; whether there were some.
    pub(super) fn read(&mut self) -> Result<bool, KafkaError> {
        if !self.started {
            return Ok(false);
        }
        let Ok(room) = self.output.try_reserve() else { return Ok(false) };
        let mut chunk = Copying { messages: std::mem::take(&mut self.before), ..Copying::default() };
        let mut failed = None;
        while !chunk.is_full() {
            match self.queue.poll(Duration::ZERO) {
                Some(Ok(message)) => chunk.add(&message),
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        let messages = chunk.finish();
        for message in &messages {
            if message.offset <= self.last {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage));
            }
            self.last = message.offset;
        }
        let some = !messages.is_empty();
        if some {
            room.send(messages);
        }
        failed.map_or(Ok(some), Err)
    }
}

/// Messages that are copied into one buffer.
#[derive(Default)]
pub(super) struct Copying {
    bytes: BytesMut,
    messages: Vec<Message>,
    /// Of the messages that are in `bytes`: the lengths of key and payload.
    lengths: Vec<(Option<usize>, Option<usize>)>,
}

impl Copying {
    fn is_full(&self) -> bool {
        self.messages.len() >= CHUNK_MESSAGES || self.bytes.len() >= CHUNK_BYTES
    }

    pub(super) fn add(&mut self, message: &BorrowedMessage<'_>) {
        let mut copy = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                self.bytes.extend_from_slice(bytes);
                bytes.len()
            })
        };
        self.lengths.push((copy(message.key()), copy(message.payload())));
        let headers = message.headers().map(|headers| {
            let header = |header: rdkafka::message::Header<'_, &[u8]>| Header {
                name: header.key.into(),
                value: header.value.map(Bytes::copy_from_slice),
            };
            headers.iter().map(header).collect()
        });
        self.messages.push(Message {
            offset: message.offset(),
            id: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: None,
            payload: None,
            headers: headers.unwrap_or_default(),
        });
    }

    pub(super) fn finish(mut self) -> Vec<Message> {
        let mut bytes = self.bytes.freeze();
        // Those before came with their bytes.
        let first = self.messages.len() - self.lengths.len();
        for (message, (key, payload)) in self.messages.iter_mut().skip(first).zip(self.lengths) {
            message.key = key.map(|length| bytes.split_to(length));
            message.payload = payload.map(|length| bytes.split_to(length));
        }
        self.messages
    }
}
