//! The gRPC front, asked by a client that is generated from the same files.

mod calls;
pub(crate) mod client;
mod describe;
mod infer;
mod observe;
mod repository;
mod shutdown;
pub(crate) mod stream;
