//! End-to-end tests of the built server and its command line. `cargo xtask test` builds what they need and runs them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

mod access;
mod authoring;
mod backends;
mod batch;
mod bench;
mod buckets;
mod chosen;
mod classification;
mod clients;
mod composition;
mod concurrency;
mod connections;
mod crowds;
mod density;
mod docs;
mod embed;
mod generate;
mod grants;
mod grpc;
mod hostile;
mod image_classify;
mod iris;
mod limits;
mod load;
mod logs;
mod metrics;
mod mutation;
mod openai;
mod openvino;
mod operators;
mod overload;
mod packages;
mod preview1;
mod registries;
mod requests;
mod restarts;
mod shutdown;
mod stream;
mod terminal;
mod traces;
mod versions;
