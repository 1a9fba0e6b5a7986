//! The words of the serving core: ids, tensors, signatures, requests, responses and errors.
//!
//! Contract: plain values, checked when they are made, so that the crates above need not check them again. A clone
//! of a [`Tensor`] or a [`ModelName`] shares its data. Left out on purpose: I/O, async, wire formats (those live in
//! `ingress`) and anything that knows of a backend or of WebAssembly.

mod datatype;
mod digest;
mod element;
mod error;
mod graph;
pub mod header;
mod id;
mod meter;
mod number;
mod outside;
mod parameter;
mod request;
mod signature;
mod tensor;
mod timeline;

pub use datatype::{Datatype, UnknownDatatype};
pub use digest::{Digest, InvalidDigest};
pub use element::{Element, Values};
pub use error::{BoxError, Error, ErrorCode, Result, clipped};
pub use graph::{BackendName, Device, Encoding, InvalidDevice, Provider};
pub use id::{InvalidId, ModelName, Version};
pub use meter::{copied_bytes, note_copy};
pub use number::whole;
pub use outside::{HttpHost, HttpScheme, InvalidHttpHost, Secret};
pub use parameter::{Parameter, Parameters};
pub use request::{Deadline, Mode, ModelRef, NamedTensor, Priority, Request, Response, Sequence, SequenceId};
pub use signature::{Extent, Signature, SignatureError, TensorSpec};
pub use tensor::{Elements, MAX_RANK, Shape, Tensor, TensorError, encode_elements};
pub use timeline::{End, GraphRun, Record, Sink, Spent, Stage, Stay, Tag, Timeline};
