//! Packages: `model.toml`, archives, and where packages are kept.
//!
//! Contract: a package is a folder or tar with `model.toml`, the plugin's component and the graph files. It becomes
//! usable step by step, each a type: [`Staged`] (a place to receive an archive, or its files) -> [`Verified`] (unpacked, its
//! manifest valid, its files there) -> [`Stored`] (in the store under its name and version, all of it or nothing, and in
//! the cache of this machine). Its [`Record`] says which files it has, and its digest is the package's. What a load says in
//! place of the manifest are [`Overrides`]; what a server lets its models reach are [`Permissions`]; how traffic is led to a
//! model's versions is [`Traffic`]. Cost: what is asked of a [`Store`] is asked asynchronously; the rest blocks on files, and
//! callers move it off the async threads. Registries are in [`oci`]. Left out on purpose: compiling and loading (`serving`).

mod archive;
mod cache;
mod download;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod grants;
mod manifest;
pub mod oci;
mod overrides;
mod package;
mod path;
mod permissions;
mod record;
mod shared;
mod staged;
mod store;
mod traffic;

pub use archive::{ArchiveLimits, unpack};
pub use cache::{Cache, Finished, Writer};
pub use download::download;
pub use error::{PackageError, Said};
pub use files::PackageFiles;
pub use grants::{Grants, folder_files};
pub use manifest::{Batching, GraphManifest, Instances, Limits, MANIFEST_FILE, Manifest, Sequences, Warmup};
pub use overrides::{InstanceGroup, Overrides, SequenceOverride, VersionPolicy, Waiting};
pub use package::Package;
pub use path::PackagePath;
pub use permissions::{AllowedBy, Granted, ModelGrants, NotAllowed, Permissions};
pub use record::{Blob, MAX_FILES, MAX_RECORD, MediaType, Record, digest_of};
pub use shared::SharedCache;
pub use staged::{Staged, Verified};
pub use store::{Listed, Stamp, Store, StoreLocation, StoreOptions, Stored};
pub use traffic::{Shadow, Traffic};
