//! The commands, one module each: its options, and what it does with them.

pub(crate) mod authz;
pub(crate) mod batch;
pub(crate) mod build;
pub(crate) mod crds;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod gateway;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod models;
pub(crate) mod new;
pub(crate) mod operator;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod test;
pub(crate) mod traffic;
