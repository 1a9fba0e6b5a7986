//! Files of the repository that are part of this binary, put there by `build.rs`: what plugins are built against, and what
//! new projects are made of.

use std::fs;
use std::path::Path;

use crate::failure::{Failure, Hint};

/// Files by their paths, with their texts.
pub(crate) type Files = &'static [(&'static str, &'static str)];

/// `wit/`: the contract with plugins.
pub(crate) const WIT: Files = include!(concat!(env!("OUT_DIR"), "/wit.rs"));
/// `plugins/sdk`: the SDK for Rust.
pub(crate) const RUST_SDK: Files = include!(concat!(env!("OUT_DIR"), "/rust-sdk.rs"));
/// `plugins/python/vespid`: the SDK for Python.
pub(crate) const PYTHON_SDK: Files = include!(concat!(env!("OUT_DIR"), "/python-sdk.rs"));
/// `plugins/js/vespid`: the SDK for JavaScript.
pub(crate) const JS_SDK: Files = include!(concat!(env!("OUT_DIR"), "/js-sdk.rs"));
/// `templates/LANGUAGE`: new projects.
pub(crate) const RUST_TEMPLATE: Files = include!(concat!(env!("OUT_DIR"), "/rust-template.rs"));
pub(crate) const PYTHON_TEMPLATE: Files = include!(concat!(env!("OUT_DIR"), "/python-template.rs"));
pub(crate) const JS_TEMPLATE: Files = include!(concat!(env!("OUT_DIR"), "/js-template.rs"));

/// Writes the files into a folder.
pub(crate) fn write(files: Files, into: &Path) -> Result<(), Failure> {
    files.iter().try_for_each(|(name, text)| write_file(&into.join(name), text))
}

/// Writes a file, and the folders that it is in.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).hint(
        format!("{} cannot be written", path.display()),
        "check that the folder can be written to and has space left",
    )
}
