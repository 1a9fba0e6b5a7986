//! Real parts of Kubernetes on this machine, each test with its own.
//!
//! [`Cluster`] is etcd, an API server and the controllers of Kubernetes 1.20. It has no node: [`Kubelet`] runs what the
//! controllers create as processes of this machine. [`Extensions`] is the part of Kubernetes 1.36's API server that holds
//! custom resources, which knows what 1.20 does not: rules in CEL, fields that may not change, lists that go on as watches.
//!
//! A cluster takes some 600 MB of memory and is ready after 3 seconds of processor time. What it starts listens on an address of
//! loopback that nobody else has, and is killed with the value that stands for it, or with the thread that started it.

mod address;
mod api;
mod cluster;
mod extensions;
mod kubelet;
mod process;

pub use api::Api;
pub use cluster::Cluster;
pub use extensions::Extensions;
pub use kubelet::Kubelet;
