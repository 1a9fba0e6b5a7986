//! Folders that appear whole or not at all, and locks that keep two chores apart.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::ui;

/// A folder beside the finished things, on their file system, that is removed when it goes out of scope.
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The caller holds the set-up's lock: whatever lies at this place was left by a run that was killed.
    pub(crate) fn new(cx: &Context, name: &str) -> Result<Self> {
        let path = cx.cache().join("scratch").join(name);
        remove(&path)?;
        create(&path)?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        create(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to tell: the next run removes what is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Puts a finished folder in its place, in one step.
pub(crate) fn publish(finished: &Path, place: &Path) -> Result<()> {
    remove(place)?;
    if let Some(parent) = place.parent() {
        create(parent)?;
    }
    fs::rename(finished, place).with_context(|| format!("{} cannot be put in place", place.display()))
}

/// Creates a folder and those above it.
pub(crate) fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("{} cannot be created", path.display()))
}

/// Removes a folder and what is in it, if there is one.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a file into a folder, under its own name.
pub(crate) fn copy_into(file: &Path, folder: &Path) -> Result<()> {
    let name = file.file_name().with_context(|| format!("{} names no file", file.display()))?;
    fs::copy(file, folder.join(name))
        .with_context(|| format!("{} cannot be copied to {}", file.display(), folder.display()))?;
    Ok(())
}

/// Takes the lock of this name in a folder, and says so where another process holds it. It is released with the
/// value, and by the system when the process ends.
pub(crate) fn lock(folder: &Path, name: &str, busy: &str) -> Result<File> {
    create(folder)?;
    let path = folder.join(format!("{name}.lock"));
    let take = || -> io::Result<File> {
        let file = File::create(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                ui::say(&format!("  {busy}"));
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(file)
    };
    take().with_context(|| format!("{} cannot be locked", path.display()))
}
