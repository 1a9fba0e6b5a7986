//! Where files lie: a path in a store.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

/// A file or folder in a store.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The path in it.
    pub path: Path,
    /// The URL or local path, as the user would write it.
    pub shown: Arc<str>,
    /// The folder or file, where the store is the local file system.
    pub local: Option<PathBuf>,
}

impl Place {
    /// A file or folder below this one; `name` may have slashes.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        let path = name.split('/').fold(self.path.clone(), |path, segment| path.join(segment));
        let shown = format!("{}/{name}", self.shown.trim_end_matches('/')).into();
        let local = self.local.as_ref().map(|folder| folder.join(name));
        Self { store: Arc::clone(&self.store), path, shown, local }
    }
}

/// Files to look for: a file, a folder (all that is below it), or a glob (`*`, `?`, `[...]`, and `**` for any folders).
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The store; its `path` is the longest folder before anything of a glob, or the file or folder itself.
    pub place: Place,
    /// The whole glob as a path in the store; none where it is none.
    pub glob: Option<String>,
}

impl Place {
    pub fn local(_: impl AsRef<std::path::Path>) -> Result<Self, crate::DataError> {
        todo!()
    }
    pub async fn put_new(&self, _: bytes::Bytes) -> Result<bool, crate::DataError> {
        todo!()
    }
    pub async fn put(&self, _: bytes::Bytes) -> Result<(), crate::DataError> {
        todo!()
    }
    pub async fn get(&self) -> Result<Option<bytes::Bytes>, crate::DataError> {
        todo!()
    }
    pub async fn delete(&self) -> Result<(), crate::DataError> {
        todo!()
    }
    pub async fn list(&self) -> Result<Vec<(String, u64)>, crate::DataError> {
        todo!()
    }
}
impl Pattern {
    pub fn new(_: Place) -> Result<Self, crate::DataError> {
        todo!()
    }
}
