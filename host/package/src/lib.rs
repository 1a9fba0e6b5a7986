//! Packages: `model.toml`, archives, and the folder that keeps them.
//!
//! Contract: a package is a folder or tar with `model.toml`, the plugin's component and the graph files. It becomes
//! usable step by step, each a type: [`Staged`] (a place to receive an archive, or its files) -> [`Verified`] (unpacked, its
//! manifest valid, its files there) -> [`Stored`] (in the store under its name and version, all of it or nothing). What a
//! load says in place of the manifest are [`Overrides`]; what a server lets its models reach are [`Permissions`]. Cost: blocking file I/O throughout; callers move it off the async
//! threads. Left out on purpose: compiling and loading (`serving`), object stores and OCI so far.

mod archive;
mod error;
mod files;
mod grants;
mod manifest;
mod overrides;
mod path;
mod permissions;
mod store;

pub use archive::ArchiveLimits;
pub use error::PackageError;
pub use files::PackageFiles;
pub use grants::{Grants, folder_files};
pub use manifest::{Batching, GraphManifest, Instances, Limits, MANIFEST_FILE, Manifest, Sequences};
pub use overrides::{InstanceGroup, Overrides, SequenceOverride, VersionPolicy, Waiting};
pub use path::PackagePath;
pub use permissions::{Granted, NotAllowed, Permissions};
pub use store::{Staged, Store, Stored, Verified};
