//! What stands between the network and the serving core.
//!
//! Contract: wire formats live in this crate and nowhere else; beyond it there are only the values of `vespid-types`.

mod http;
pub mod wire;

pub use http::{Api, admin_router, router, status};
