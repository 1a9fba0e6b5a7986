//! Messages to bytes and back: prost, within bounds.
//!
//! Contract: a message of more than [`MAX_FIELDS`] fields is refused before it is read, so that what a request costs is
//! bounded by its bytes: two bytes on the wire may stand for an input, which takes hundreds in memory. Cost: a look at each
//! field's length; `bytes` fields are slices of the message, and an answer is written into one buffer of its size, the one
//! copy on the way out. Left out on purpose: bounds inside of an input, where a field takes some ten times its bytes at most.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, EncodeBuf};

/// More inputs, outputs and parameters than any model has.
const MAX_FIELDS: usize = 4096;

/// What the generated service reads and writes its messages with.
pub(crate) struct Codec<T, U>(PhantomData<fn(T) -> U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> tonic::codec::Codec for Codec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Encoder<T> {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Decoder<U> {
        Decoder(PhantomData)
    }
}

pub(crate) struct Encoder<T>(PhantomData<fn(T)>);

impl<T: Message> tonic::codec::Encoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Else the buffer would grow step by step, and be copied at each.
        out.reserve(message.encoded_len());
        message.encode(out).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

pub(crate) struct Decoder<U>(PhantomData<fn() -> U>);

impl<U: Message + Default> tonic::codec::Decoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        check_fields(message.chunk())?;
        U::decode(message).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Counts the fields of a message.
pub(super) fn check_fields(mut message: &[u8]) -> Result<(), Status> {
    let mut fields = 0;
    while !message.is_empty() {
        fields += 1;
        if fields > MAX_FIELDS {
            return Err(Status::invalid_argument(format!(
                "the message has more than {MAX_FIELDS} inputs, outputs, parameters and raw contents"
            )));
        }
        message = after_field(message).ok_or_else(|| {
            Status::invalid_argument(format!("the message cannot be read: its field {fields} is damaged"))
        })?;
    }
    Ok(())
}

/// What follows a message's first field, whose content is not looked at.
fn after_field(mut message: &[u8]) -> Option<&[u8]> {
    let varint = |message: &mut &[u8]| prost::decode_length_delimiter(message).ok();
    let length = match varint(&mut message)? & 7 {
        0 => varint(&mut message).map(|_| 0)?,
        1 => 8,
        2 => varint(&mut message)?,
        5 => 4,
        // Groups, which proto3 has not.
        _ => return None,
    };
    message.get(length..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::ModelInferRequest;
    use crate::grpc::proto::model_infer_request::InferInputTensor;

    fn inputs(count: usize) -> Vec<u8> {
        let inputs = vec![InferInputTensor::default(); count];
        ModelInferRequest { inputs, model_name: "m".into(), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn messages_of_too_many_fields_are_refused() {
        assert!(check_fields(&inputs(MAX_FIELDS - 1)).is_ok());
        let status = check_fields(&inputs(MAX_FIELDS)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("more than 4096 inputs"), "{}", status.message());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&b"\xff"[..], b"\x0a\xff", b"\x0a\x05ab", b"\x09abc", b"\x0b\x0c", &[0xff; 16]] {
            let status = check_fields(bytes).unwrap_err();
            assert!(status.message().contains("field 1 is damaged"), "{bytes:?}: {}", status.message());
        }
        for bytes in [&b""[..], b"\x08\x01\x0a\x02ab", b"\x09abcdefgh\x0dabcd"] {
            assert!(check_fields(bytes).is_ok(), "{bytes:?}");
        }
    }
}
