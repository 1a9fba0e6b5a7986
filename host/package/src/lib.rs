//! Packages: `model.toml`, archives, and the folder that keeps them.
//!
//! Contract: a package is a folder or tar with `model.toml`, the plugin's component and the graph files. It becomes
//! usable step by step, each a type: [`Staged`] (a place to receive an archive) -> [`Verified`] (unpacked, its manifest
//! valid, its files there) -> [`Stored`] (in the store under its name and version, all of it or nothing). Cost: blocking
//! file I/O throughout; callers move it off the async threads. Left out on purpose: compiling and loading (`serving`),
//! object stores and OCI so far.

mod archive;
mod error;
mod manifest;
mod path;
mod store;

pub use archive::ArchiveLimits;
pub use error::PackageError;
pub use manifest::{Batching, GraphManifest, Instances, Limits, MANIFEST_FILE, Manifest, Sequences};
pub use path::PackagePath;
pub use store::{Staged, Store, Stored, Verified};
