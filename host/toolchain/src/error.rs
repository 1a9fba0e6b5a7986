use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::{GuestTarget, Tool};

/// Why guests cannot be built here, and what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// There is no folder to keep things in.
    #[error(
        "no home folder is known: set HOME, or VESPID_CACHE to a folder for what Vespid builds and fetches"
    )]
    NoHome,
    /// The cache folder is not an absolute path.
    #[error("{variable} is `{}`, a relative path: set it to an absolute one", path.display())]
    RelativeCache {
        /// The variable that holds the path.
        variable: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The compiler did not start.
    #[error("`{program}` does not start: install Rust with rustup, or set RUSTC to the compiler")]
    NoRustc {
        /// What was run.
        program: String,
        /// Why it did not start.
        source: io::Error,
    },
    /// The compiler started and gave no usable answer.
    #[error("`{command}` gave no usable answer: {detail}")]
    Rustc {
        /// What was run.
        command: String,
        /// What is wrong with the answer.
        detail: String,
    },
    /// The compiler has no standard library for the target.
    #[error(
        "rustc {release} has no standard library for {target}: run `rustup target add {target}`, \
         or `cargo xtask setup` in a checkout of Vespid"
    )]
    NoGuestStd {
        /// The target.
        target: GuestTarget,
        /// The compiler's release.
        release: String,
    },
    /// Cargo cannot be given a path with white space in its flags.
    #[error(
        "cargo cannot take the sysroot's path `{}`, for it holds white space: \
         set VESPID_CACHE to a folder without, and run `cargo xtask setup` again",
        path.display()
    )]
    Whitespace {
        /// The path.
        path: PathBuf,
    },
    /// What the tool for a language runs on is not there.
    #[error("{found}: {remedy}")]
    NoInterpreter {
        /// What was looked for, and found.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The tool for a language is not in the cache.
    #[error(
        "{tool} is not installed: the first `vespid build` of a plugin in {} does it, through the network",
        tool.language()
    )]
    NoTool {
        /// The tool.
        tool: Tool,
    },
    /// The tool for a language cannot be installed.
    #[error("{tool} cannot be installed: {detail}\n{remedy}")]
    NotInstalled {
        /// The tool.
        tool: Tool,
        /// What went wrong.
        detail: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The cache cannot be written to.
    #[error(
        "{} cannot be written: check its rights and the space left, or set VESPID_CACHE to another folder",
        path.display()
    )]
    CacheFolder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
