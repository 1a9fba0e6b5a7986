//! What stands between the network and the serving core.
//!
//! Contract: wire formats live in this crate and nowhere else; beyond it there are only the values of `vespid-types`.

mod access;
pub mod cases;
mod describe;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod observe;
mod version;
pub mod wire;

pub use grpc::router as grpc_router;
pub use http::{Api, admin_router, router};
