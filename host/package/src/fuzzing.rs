//! What takes an upload in and is private otherwise: for `tests/fuzz` alone, and no interface.

use tempfile::TempDir;

use crate::Staged;

/// A place for an archive, which no store keeps.
#[must_use]
pub fn staged(dir: TempDir) -> Staged {
    Staged::new(dir)
}
