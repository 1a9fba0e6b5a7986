//! The way into a cluster: routes requests by model and version to the pods that have them.
//!
//! Contract: what a client asks of one `vespid serve` it asks of a gateway in the same words, and gets the same answers, of whichever
//! pod; what a gateway does not do is refused, and the refusal says what to do in its place. Routes come from the watched resources;
//! while the API server is away they stay as they were. A request is read as far as is needed to find its model, and streamed
//! otherwise. Cost: a look at an immutable table, and two more times through the network. Left out so far:
//! TLS, which a Gateway or Ingress ends. Wire formats live in the host's ingress; here are the few
//! fields by which calls are led, and errors.

mod admin;
mod answer;
mod authorize;
mod balance;
mod body;
mod clock;
mod cluster;
mod dispatch;
mod eject;
mod error;
mod follow;
mod gateway;
mod grpc;
mod headers;
mod http;
mod index;
mod memory;
mod metrics;
mod objects;
mod patience;
mod pods;
mod replay;
mod table;
mod upload;
mod upstream;
mod versions;
mod wake;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use balance::Bound;
pub use gateway::{Gateway, Options};
pub use pods::RetryBudget;
pub use wake::HoldOptions;
