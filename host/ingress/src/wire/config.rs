//! Triton's model configuration: what a version's is, and what a load asks for in it.
//!
//! Contract: a configuration is one message, [`ModelConfig`], of which JSON is made and read by reflection, so that REST
//! and gRPC cannot differ. What [`describe`] writes may be given back as it is, and changes nothing. A field that this
//! server has no equal of is refused by its name where it is set. Cost: plain values, for paths that are seldom walked.
//! Left out on purpose: what belongs to Triton's own backends, such as ensembles and warm-up.

mod agreement;
mod describe;
mod json;
mod overrides;

pub(crate) use describe::describe;
pub(crate) use json::to_json;
pub(super) use overrides::read;

#[cfg(test)]
mod tests;
