//! The Open Inference Protocol v2 over HTTP, and its binary tensor extension: bodies to values and back.
//!
//! Contract: [`decode`] and [`encode`] are pure and synchronous, know nothing of sockets, never panic whatever the body
//! holds, and every refusal names the field and the remedy. Tensors are well formed; whether they suit the model is
//! the signature check's business. Cost: binary tensors are slices of the body, never copied; JSON numbers go straight
//! into a tensor's bytes and back, and memory stays within a small multiple of the body whatever its shapes claim.
//! Left out on purpose: headers other than the JSON's length, compression, routes, and shared memory, which is refused.

pub(crate) mod batches;
pub(crate) mod cases;
pub mod classification;
pub(crate) mod config;
mod data;
mod decode;
mod element;
mod encode;
pub(crate) mod fault;
mod format;
pub mod generate;
mod json;
pub mod metadata;
pub mod openai;
pub mod options;
mod raw;
pub(crate) mod repository;
mod request;
mod rows;
pub mod settings;
pub mod statistics;
pub mod streams;
pub mod v1;
mod write;

pub(crate) use decode::check_repeats;
pub use decode::{decode, is_request};
pub use encode::{EncodedBody, encode, error_body};
pub use format::OutputFormat;
pub(crate) use json::{MAX_ENTRIES, MAX_RANK};

/// The header, on requests and responses, that holds the length of the JSON before the binary tensors.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
