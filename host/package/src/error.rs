//! Why a package was refused or the store failed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytesize::ByteSize;
use vespid_types::{Digest, Error, ErrorCode, ModelName, Version};

use crate::oci::RegistryError;
use crate::{AllowedBy, NotAllowed};

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
    /// The record is not one of a package.
    #[error("the record is not a package's: {reason}")]
    Record {
        /// What is wrong, with the field's name.
        reason: String,
    },
    /// The plugin's file is no WebAssembly.
    #[error("model.plugin: '{file}' is not WebAssembly: {reason}")]
    Plugin {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// What a load says in place of the manifest does not suit the package.
    #[error("config: {reason}")]
    Override {
        /// What, and why.
        reason: String,
    },
    /// A model's traffic document is not valid.
    #[error("traffic: {reason}")]
    Traffic {
        /// What is wrong, with the field's name.
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
    /// The package is another one than the one that was named by its digest.
    #[error("{from} is the package {found}, and {expected} is asked for")]
    OtherDigest {
        /// Where it came from.
        from: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The trust policy does not admit what bears no signature.
    #[error(
        "{from} bears no signature, and the trust policy admits nothing without: push the package to a registry, sign it, and name it as package.oci"
    )]
    Unsigned {
        /// Where it would come from.
        from: String,
    },
    /// A server does not give a package.
    #[error("{url} cannot be fetched: {reason}")]
    Download {
        /// Where it is asked for, without what may be a secret.
        url: String,
        /// Why not.
        reason: String,
        /// Whether it may be there later.
        passes: bool,
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
    /// What the store has in a version's place is another version.
    #[error(
        "the store has it in the place of '{place}', and its model.toml is of '{name}' version {version}"
    )]
    Misplaced {
        /// Where it is.
        place: String,
        /// The manifest's name.
        name: ModelName,
        /// The manifest's version.
        version: Version,
    },
    /// A blob is not what its record says.
    #[error("'{file}' ({digest}) {reason}")]
    Blob {
        /// The file of the package.
        file: String,
        /// What it should hold.
        digest: Digest,
        /// What is wrong.
        reason: String,
    },
    /// A folder with a package changed while it was read.
    #[error("it is being written to: '{file}' changed while it was read")]
    Changing {
        /// The file that was seen to change.
        file: String,
    },
    /// Another process uses the folder.
    #[error("{} is in use by another server: each needs a store, or a --cache, of its own", .folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// What was said to be a store is none.
    #[error("'{location}' is not a place for packages: {reason}")]
    Location {
        /// What was said.
        location: String,
        /// Why not.
        reason: String,
    },
    /// The store, which is not on this machine, did not do what it was asked.
    #[error("the store does not {action} {object}: {}", .source.gist())]
    Objects {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        source: Said,
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
        "model '{name}' version {version} asks under [grants] for what this server does not allow: {}; write what it is to have into {}",
        list(.missing),
        place(*.by, .name)
    )]
    NotAllowed {
        /// The model.
        name: ModelName,
        /// The version.
        version: Version,
        /// Each thing.
        missing: Vec<NotAllowed>,
        /// Where it would be allowed.
        by: AllowedBy,
    },
    /// What a model is said to be allowed is not valid.
    #[error("spec.grants of Model '{name}': {reason}")]
    Grants {
        /// The model.
        name: ModelName,
        /// What is wrong, with the field's name.
        reason: String,
    },
    /// A secret that a model is allowed cannot be read.
    #[error(
        "spec.grants.secrets '{secret}' of Model '{model}': {reason}: it must be a key of a Secret that the pool names under `secrets`"
    )]
    Secret {
        /// The model.
        model: ModelName,
        /// What the package calls it.
        secret: String,
        /// What is wrong.
        reason: String,
    },
    /// A registry failed, or what came from it is refused.
    #[error(transparent)]
    Registry(#[from] RegistryError),
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

fn place(by: AllowedBy, name: &ModelName) -> String {
    let rule = format!("a rule [[allow]] with to = [\"{name}\"] of");
    match by {
        AllowedBy::Nothing => format!("{rule} a file, and start the server with --grants FILE"),
        AllowedBy::File => format!("{rule} the file of --grants"),
        AllowedBy::Resource => format!("spec.grants of Model '{name}'"),
    }
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

    pub(crate) fn objects(
        action: &'static str,
        object: &(impl ToString + ?Sized),
    ) -> impl FnOnce(object_store::Error) -> Self {
        let object = object.to_string();
        move |source| Self::Objects { action, object, source: Said(Box::new(source)) }
    }

    /// Whether this says that what was to be made is there already.
    pub(crate) fn is_conflict(&self) -> bool {
        let Self::Objects { source, .. } = self else { return false };
        matches!(*source.0, object_store::Error::AlreadyExists { .. })
    }

    /// The code that a caller sees.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Archive { .. }
            | Self::Entry { .. }
            | Self::NoManifest
            | Self::Manifest { .. }
            | Self::Record { .. }
            | Self::Plugin { .. }
            | Self::Override { .. }
            | Self::Traffic { .. }
            | Self::Files { .. }
            | Self::MissingFile { .. }
            | Self::Permissions { .. }
            | Self::OtherModel { .. }
            | Self::OtherDigest { .. }
            | Self::Grants { .. }
            | Self::Location { .. } => ErrorCode::InvalidArgument,
            Self::NotAllowed { .. } | Self::Unsigned { .. } => ErrorCode::PermissionDenied,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Exists { .. } => ErrorCode::AlreadyExists,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Registry(error) => error.code(),
            Self::Locked { .. }
            | Self::Objects { .. }
            | Self::Changing { .. }
            | Self::Secret { .. }
            | Self::Download { passes: true, .. } => ErrorCode::Unavailable,
            Self::Download { passes: false, .. } => ErrorCode::NotFound,
            Self::Io { .. } | Self::Blob { .. } | Self::Misplaced { .. } => ErrorCode::Internal,
        }
    }
}

/// What an object store said. Its own sources each say the same again, and are not told.
#[derive(Debug)]
pub struct Said(Box<object_store::Error>);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Said {}

impl Said {
    /// The gist of it, in a line.
    fn gist(&self) -> String {
        use object_store::Error as E;
        let bottom = self.bottom();
        // For a listing the store does not tell these apart by themselves.
        let status = |status: &str| bottom.contains(&format!("status code: {status}"));
        let gist = match &*self.0 {
            E::NotFound { .. } => "it is not there",
            E::AlreadyExists { .. } => "it is there already",
            E::Unauthenticated { .. } => "the keys are refused",
            E::PermissionDenied { .. } => "access is denied",
            _ if status("401") => "the keys are refused",
            _ if status("403") => "access is denied",
            _ if status("404") => "it is not there",
            _ => "",
        };
        match (gist, answer(&bottom)) {
            ("", Some(answer)) => answer,
            ("", None) => bottom.lines().next().unwrap_or_default().chars().take(300).collect(),
            (gist, Some(answer)) => format!("{gist} ({answer})"),
            (gist, None) => gist.to_owned(),
        }
    }

    /// What is at the bottom of it: around that are the request, and how often it was tried.
    fn bottom(&self) -> String {
        let mut error: &dyn std::error::Error = &*self.0;
        while let Some(source) = error.source() {
            error = source;
        }
        error.to_string()
    }
}

/// What S3 and those like it answer, which is XML.
fn answer(text: &str) -> Option<String> {
    let tagged = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0.chars().take(300).collect::<String>())
    };
    let code = tagged("Code")?;
    Some(tagged("Message").map_or(code.clone(), |message| format!("{code}: {message}")))
}

impl From<PackageError> for Error {
    fn from(error: PackageError) -> Self {
        let message = match &error {
            // The path is the server's own affair: the caller is told what failed, the log where.
            PackageError::Io { action, source, .. } => format!("the store failed: {action}: {source}"),
            PackageError::Registry(RegistryError::Credentials { host, .. }) => {
                format!("the server has no credentials for {host}: its log says why")
            }
            other => other.to_string(),
        };
        Self::new(error.code(), message).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_is_told_in_a_line() {
        let generic = |text: &str| object_store::Error::Generic { store: "S3", source: text.into() };
        let denied =
            "status code: 403 Forbidden: <?xml?>\n<Error><Code>Denied</Code><Message>No.</Message></Error>";
        for (error, expected) in [
            (generic("Connection refused\nand more"), "Connection refused"),
            (generic(denied), "access is denied (Denied: No.)"),
            (generic("status code: 401 Unauthorized: "), "the keys are refused"),
            (generic("status code: 500 : <Code>Busy</Code>"), "Busy"),
            (object_store::Error::NotFound { path: "a".to_owned(), source: "x".into() }, "it is not there"),
        ] {
            let error = PackageError::objects("list", "models")(error);
            assert_eq!(error.to_string(), format!("the store does not list models: {expected}"));
        }
    }
}
