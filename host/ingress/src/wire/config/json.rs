//! The configuration as JSON, by protobuf's own mapping.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use serde_path_to_error::Track;
use vespid_types::Error;

use crate::grpc::proto::{DESCRIPTORS, ModelConfig};
use crate::wire::fault::Clipped;

static DESCRIPTOR: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(DESCRIPTORS).ok()?;
    pool.get_message_by_name("inference.ModelConfig")
});

fn descriptor() -> Result<MessageDescriptor, Error> {
    let descriptor = DESCRIPTOR.clone();
    descriptor.ok_or_else(|| Error::internal("the description of a model's configuration cannot be read"))
}

/// The JSON that Triton's clients read: names as in the message, numbers as numbers, and fields that are not set besides.
///
/// # Errors
/// `INTERNAL`, which a test rules out.
pub(crate) fn to_json(config: &ModelConfig) -> Result<Value, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::internal(format!("the model's configuration cannot be written: {error}"))
    };
    let mut message = DynamicMessage::new(descriptor()?);
    message.transcode_from(config).map_err(|error| failed(&error))?;
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true)
        .skip_default_fields(false);
    message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|error| failed(&error))
}

/// Reads a configuration. Numbers may be strings, and names may be in either case that protobuf has.
///
/// # Errors
/// What is not that of a configuration, with the path of the field.
pub(super) fn from_json(json: &Value) -> Result<ModelConfig, Error> {
    let mut track = Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(json, &mut track);
    let message = DynamicMessage::deserialize(descriptor()?, deserializer).map_err(|error| {
        let (path, text) = (track.path(), error.to_string());
        let text = Clipped(&text, 300);
        if path.iter().len() == 0 {
            return Error::invalid(format!("config: {text}"));
        }
        let path = path.to_string();
        Error::invalid(format!("config: {}: {text}", Clipped(&path, 120)))
    })?;
    message.transcode_to().map_err(|error| Error::internal(format!("config: {error}")))
}
