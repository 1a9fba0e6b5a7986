//! `[grants]` of `model.toml`: what a plugin asks to reach outside of its sandbox.
//!
//! Contract: a manifest only asks; [`crate::Permissions`] is what allows. Names are checked here, so that one that no
//! configuration could allow is refused when the package is built.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use vespid_types::{HttpHost, ModelName};

use crate::{PackageError, PackagePath};

/// Entries of each list.
const MAX_ENTRIES: usize = 64;
const MAX_NAME: usize = 128;

/// `[grants]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Other models of the server that the plugin calls.
    pub models: BTreeSet<ModelName>,
    /// Hosts that it asks over HTTP.
    pub http: BTreeSet<HttpHost>,
    /// Values that it reads from its environment, by name.
    pub env: BTreeSet<String>,
    /// Secrets that it reads, by name.
    pub secrets: BTreeSet<String>,
    /// A folder of the package that it reads, as `/assets`.
    pub folder: Option<PackagePath>,
}

impl Grants {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each thing that is asked for: its key under `[grants]` and its value.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, String)> {
        let Self { models, http, env, secrets, folder } = self;
        let mut list: Vec<(&'static str, String)> = Vec::new();
        list.extend(models.iter().map(|model| ("models", model.to_string())));
        list.extend(http.iter().map(|host| ("http", host.to_string())));
        list.extend(env.iter().map(|name| ("env", name.clone())));
        list.extend(secrets.iter().map(|name| ("secrets", name.clone())));
        list.extend(folder.iter().map(|folder| ("folder", folder.to_string())));
        list
    }

    pub(crate) fn check(&self) -> Result<(), PackageError> {
        let lengths = [
            ("models", self.models.len()),
            ("http", self.http.len()),
            ("env", self.env.len()),
            ("secrets", self.secrets.len()),
        ];
        if let Some((key, length)) = lengths.into_iter().find(|(_, length)| *length > MAX_ENTRIES) {
            return Err(invalid(format!(
                "grants.{key} has {length} entries: at most {MAX_ENTRIES} are taken"
            )));
        }
        if let Some(name) = self.env.iter().find(|name| !is_variable(name)) {
            return Err(invalid(format!("grants.env '{name}': {VARIABLE}")));
        }
        if let Some(name) = self.secrets.iter().find(|name| !is_secret(name)) {
            return Err(invalid(format!("grants.secrets '{name}': {SECRET}")));
        }
        Ok(())
    }
}

fn invalid(reason: String) -> PackageError {
    PackageError::Manifest { reason }
}

pub(crate) const VARIABLE: &str = "use 1 to 128 letters, digits or '_', and do not begin with a digit";
pub(crate) const SECRET: &str =
    "use 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter or a digit";

/// Whether this can be the name of a variable of the environment.
pub(crate) fn is_variable(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether this can be the name of a secret: as that of a model.
pub(crate) fn is_secret(name: &str) -> bool {
    name.parse::<ModelName>().is_ok()
}

/// The files of a package's folder, at any depth, by their paths in the package and in their order.
///
/// # Errors
/// Where the folder is not there or holds no file, or where something below it is neither a file nor a folder, or has a name
/// that a package cannot hold. A link is neither: what it leads to may lie outside.
pub fn folder_files(package: &Path, folder: &PackagePath) -> Result<Vec<PackagePath>, PackageError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        let path = package.join(&folder);
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        if !is_folder {
            return Err(PackageError::MissingFile {
                field: "grants.folder".to_owned(),
                file: folder.to_string(),
            });
        }
        let failed = |error| PackageError::io("list", &path)(error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let refused = |reason: &str| PackageError::Entry {
                entry: format!("{folder}/{}", entry.file_name().display()),
                reason: reason.to_owned(),
            };
            let name = entry.file_name().into_string().map_err(|_| refused("its name is not UTF-8"))?;
            let inside: PackagePath = format!("{folder}/{name}")
                .parse()
                .map_err(|error: crate::path::InvalidPath| refused(&error.to_string()))?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(inside);
            } else if kind.is_file() {
                files.push(inside);
            } else {
                return Err(refused("grants.folder takes files and folders alone, and no links"));
            }
        }
    }
    if files.is_empty() {
        return Err(invalid(format!(
            "grants.folder '{folder}' holds no file: put one there, or leave it out"
        )));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_folder_are_found_at_any_depth() {
        let package = tempfile::tempdir().unwrap();
        let root = package.path();
        let assets: PackagePath = "assets".parse().unwrap();
        let error = |expected: &str| {
            let error = folder_files(root, &assets).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        error("grants.folder names 'assets', which the package does not hold");
        fs::create_dir_all(root.join("assets/deep/er")).unwrap();
        error("holds no file");
        for file in ["assets/b.txt", "assets/deep/er/a.bin", "other.txt"] {
            fs::write(root.join(file), "").unwrap();
        }
        let files: Vec<_> = folder_files(root, &assets).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(files, ["assets/b.txt", "assets/deep/er/a.bin"]);
        std::os::unix::fs::symlink("/etc/passwd", root.join("assets/deep/link")).unwrap();
        error("'assets/deep/link' is refused: grants.folder takes files and folders alone");
    }
}
