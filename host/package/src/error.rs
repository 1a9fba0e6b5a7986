//! Why a package was refused or the store failed.

use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use vespid_types::{Error, ErrorCode, ModelName, Version};

use crate::NotAllowed;

/// A failure of a package or of the store.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The body is not a tar archive, or a damaged one.
    #[error("the package is not a readable tar archive: {reason}")]
    Archive {
        /// What is wrong.
        reason: String,
    },
    /// An entry that a package may not hold.
    #[error("the package's entry '{entry}' is refused: {reason}")]
    Entry {
        /// The entry's path.
        entry: String,
        /// Why.
        reason: String,
    },
    /// The package is larger than allowed.
    #[error("the package is larger than the limit of {limit}")]
    TooLarge {
        /// The limit.
        limit: ByteSize,
    },
    /// The package holds no manifest.
    #[error("the package holds no model.toml at its top")]
    NoManifest,
    /// The manifest is not valid.
    #[error("model.toml: {reason}")]
    Manifest {
        /// What is wrong, with the field's name.
        reason: String,
    },
    /// What a load says in place of the manifest does not suit the package.
    #[error("config: {reason}")]
    Override {
        /// What, and why.
        reason: String,
    },
    /// The files that came are no package.
    #[error("the files are no package: {reason}")]
    Files {
        /// What is wrong.
        reason: String,
    },
    /// The manifest names a file that is not there.
    #[error("model.toml: {field} names '{file}', which the package does not hold")]
    MissingFile {
        /// The field.
        field: String,
        /// The file.
        file: String,
    },
    /// The manifest is of another model or version than the one asked for.
    #[error(
        "the package is '{name}' version {version}; the request names '{expected_name}' version {expected_version}"
    )]
    OtherModel {
        /// The manifest's name.
        name: ModelName,
        /// The manifest's version.
        version: Version,
        /// The request's name.
        expected_name: ModelName,
        /// The request's version.
        expected_version: Version,
    },
    /// The store holds this version already.
    #[error("model '{name}' version {version} exists already: delete it first, or upload another version")]
    Exists {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
    },
    /// The store does not hold this version.
    #[error("the store holds no model '{name}' version {version}")]
    NotFound {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
    },
    /// Another process uses the store.
    #[error("the store {} is in use by another server", .store.display())]
    Locked {
        /// The store's folder.
        store: PathBuf,
    },
    /// The file of `--grants` is not valid.
    #[error("--grants {}: {reason}", .file.display())]
    Permissions {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the key's name.
        reason: String,
    },
    /// The manifest asks for what the server does not allow.
    #[error(
        "model '{name}' version {version} asks under [grants] for what this server does not allow: {}; write what it is to have into a rule [[allow]] with to = [\"{name}\"] of {}",
        list(.missing),
        if *.configured { "the file of --grants" } else { "a file, and start the server with --grants FILE" }
    )]
    NotAllowed {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// Each thing.
        missing: Vec<NotAllowed>,
        /// Whether the server has a file of `--grants`.
        configured: bool,
    },
    /// The file system failed.
    #[error("{action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn list(missing: &[NotAllowed]) -> String {
    let line = |NotAllowed { key, value, remedy }: &NotAllowed| {
        format!("grants.{key} \"{value}\" (allowed by {remedy})")
    };
    missing.iter().map(line).collect::<Vec<_>>().join(", ")
}

impl PackageError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Archive { .. }
            | Self::Entry { .. }
            | Self::NoManifest
            | Self::Manifest { .. }
            | Self::Override { .. }
            | Self::Files { .. }
            | Self::MissingFile { .. }
            | Self::Permissions { .. }
            | Self::OtherModel { .. } => ErrorCode::InvalidArgument,
            Self::NotAllowed { .. } => ErrorCode::PermissionDenied,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Exists { .. } => ErrorCode::AlreadyExists,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Locked { .. } => ErrorCode::Unavailable,
            Self::Io { .. } => ErrorCode::Internal,
        }
    }
}

impl From<PackageError> for Error {
    fn from(error: PackageError) -> Self {
        let message = match &error {
            // The path is the server's own affair: the caller is told what failed, the log where.
            PackageError::Io { action, source, .. } => format!("the store failed: {action}: {source}"),
            other => other.to_string(),
        };
        Self::new(error.code(), message).with_source(error)
    }
}
