//! A sysroot of our own: where it lies, and what says that it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::rustc::holds_core;
use crate::{GuestTarget, Rustc};

/// Written last, so that a folder without it is not taken for a sysroot.
const STAMP: &str = "vespid-sysroot.stamp";

/// A folder that holds standard libraries built for one compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysroot {
    path: PathBuf,
}

impl Sysroot {
    /// The one for this compiler in the cache folder; it need not exist.
    #[must_use]
    pub fn at(cache: &Path, rustc: &Rustc) -> Self {
        Self::new(cache.join("sysroot").join(rustc.id()))
    }

    /// One in a folder of the caller's choice, such as the one it is being built in.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The folder that rustc takes as its `--sysroot`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where rustc looks for the libraries of `target`.
    #[must_use]
    pub fn libdir(&self, target: GuestTarget) -> PathBuf {
        self.path.join("lib").join("rustlib").join(target.triple()).join("lib")
    }

    /// Whether it was built for `rustc` and holds the libraries of `target`.
    #[must_use]
    pub fn is_built_for(&self, rustc: &Rustc, target: GuestTarget) -> bool {
        let Ok(stamp) = fs::read_to_string(self.path.join(STAMP)) else { return false };
        let mut lines = stamp.lines();
        lines.next() == Some(&headline(rustc))
            && lines.any(|line| line == target.triple())
            && holds_core(&self.libdir(target))
    }

    /// Declares it whole: built for `rustc`, for these targets.
    ///
    /// # Errors
    /// When the stamp cannot be written.
    pub fn stamp(&self, rustc: &Rustc, targets: &[GuestTarget]) -> io::Result<()> {
        let mut text = headline(rustc);
        for target in targets {
            text.push('\n');
            text.push_str(target.triple());
        }
        text.push('\n');
        fs::write(self.path.join(STAMP), text)
    }
}

fn headline(rustc: &Rustc) -> String {
    format!("vespid-sysroot 1 {}", rustc.id())
}
