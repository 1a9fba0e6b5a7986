//! Controllers that make of custom resources what a cluster runs.
//!
//! Contract: [`Operator::run`] takes what a namespace has of `vespid.dev/v1alpha1` and sees to it that the Deployments, Services,
//! Jobs and so on are there which that asks for, and that each resource's status says what is so, and why. Everything that is made
//! belongs to its resource by an owner reference, in the same namespace: it goes with it, so that there are no finalizers. What
//! the operator wrote last it owns (server-side apply); what others wrote stays theirs. Cost: one watch for each kind, and no
//! request for an object that is as it should be. One of several operators leads, by a Lease; the others stand by. Left out on
//! purpose: the packages themselves, which the gateway and the pods deal in; this crate never sees one.

mod admin;
mod apply;
mod batch;
mod context;
mod controller;
mod error;
mod leader;
mod metadata;
mod metrics;
mod model;
mod network;
mod operator;
mod options;
mod package;
mod pods;
mod pool;
mod pools;
mod quantity;
mod stream;
#[cfg(test)]
mod testing;
mod triggers;
mod watched;

pub use batch::job_yaml;
pub use error::OperatorError;
pub use operator::Operator;
pub use options::{OperatorOptions, Peers};
pub use package::{Package, choose};
pub use stream::stream_yaml;
