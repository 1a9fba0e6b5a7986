//! What the end-to-end tests share: a running server, a client, and packages to hand it.
//!
//! The tests run the built binary, of which `cargo xtask test` says where it is. A failure here is a failed test, so that
//! everything panics with what went wrong.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

pub mod archive;
pub mod attacks;
pub mod built;
pub mod chart;
pub mod cli;
pub mod http;
pub mod kubernetes;
pub mod load;
pub mod measure;
pub mod neighbour;
pub mod oidc;
pub mod oip;
pub mod onnx;
pub mod random;
pub mod registry;
pub mod s3;
pub mod server;
pub mod wait;
