//! Vespid in a cluster: an API server of Kubernetes with its controllers, and pods that are processes of this machine.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "for tests"
)]

#[path = "../e2e/stream/broker.rs"]
#[allow(dead_code, reason = "the tests of streams use more of it")]
mod broker;
mod lifecycle;
mod names;
mod resources;
mod routing;
mod servers;
mod workloads;
mod world;
