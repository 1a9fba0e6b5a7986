//! Plugins: components and commands, compiled, limited and called through wasmtime.
//!
//! Contract: [`Code`] is compiled for an [`Engine`], [`Plugin`] is code that is bound to its graphs, limits and grants, and
//! [`Plugin::call`] answers one request in an instance of its own. A guest that loops, recurses, allocates or traps costs
//! its own call alone, and comes back as a typed [`EngineError`]. Cost: a call takes a slot of the pooling allocator, a
//! copy-on-write memory image and a fiber, unless the manifest has instances kept; tensors cross by handle. Left out on
//! purpose: packages, versions and admission (`serving`).

mod bindings;
mod code_cache;
mod command;
mod component;
mod convert;
mod engine;
mod error;
mod grants;
mod host;
mod log;
mod meter;
mod outbound;
mod plugin;
mod pool;
mod snapshot;

pub use component::{Held, Responses};
pub use engine::{Engine, EngineOptions};
pub use error::{EngineError, Refusal};
pub use grants::{Assets, Grants};
pub use meter::PluginUsage;
pub use plugin::{Answer, Call, Callers, Code, Peers, Plugin, PluginContext};
pub use pool::PoolOptions;
