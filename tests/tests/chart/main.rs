//! The chart: what helm makes of it with many values, held against Kubernetes's schemas and our own rules; what it refuses; and
//! that it installs.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

mod dashboard;
mod deploy;
mod examples;
mod install;
mod network;
mod pods;
mod rendered;
mod rights;
mod values;
