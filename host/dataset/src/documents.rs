//! Small objects that are read and written as a whole.
//!
//! Contract: a reader sees an object whole or not at all. A bucket gives that by itself; on disk the store writes to `NAME#1` beside it first
//! and links or renames, so that a process that is killed leaves nothing half-written under the name - and at most such a
//! leftover, in folders that nobody reads as data.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::{ObjectStoreExt, PutMode, PutOptions};

use crate::{DataError, Place};

impl Place {
    /// Makes the object, where there is none: whether it was made.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn put_new(&self, bytes: Bytes) -> Result<bool, DataError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(DataError::object("write", &*self.shown)(error)),
        }
    }

    /// Makes the object, or another in its place.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn put(&self, bytes: Bytes) -> Result<(), DataError> {
        let put = self.store.put(&self.path, bytes.into()).await;
        put.map(drop).map_err(DataError::object("write", &*self.shown))
    }

    /// What the object holds; none where there is none.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn get(&self) -> Result<Option<Bytes>, DataError> {
        let read = async { self.store.get(&self.path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(DataError::object("read", &*self.shown)(error)),
        }
    }

    /// Takes the object away, where there is one.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn delete(&self) -> Result<(), DataError> {
        match self.store.delete(&self.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(DataError::object("delete", &*self.shown)(error)),
        }
    }

    /// All objects below this folder: the path of each from here, and its bytes. None where there is no such folder.
    ///
    /// # Errors
    /// [`DataError::Object`].
    pub async fn list(&self) -> Result<Vec<(String, u64)>, DataError> {
        let prefix = (!self.path.as_ref().is_empty()).then_some(&self.path);
        let metas: Vec<_> = match self.store.list(prefix).try_collect().await {
            Ok(metas) => metas,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(DataError::object("list", &*self.shown)(error)),
        };
        let below = |meta: object_store::ObjectMeta| Some((self.below(&meta.location)?, meta.size));
        Ok(metas.into_iter().filter_map(below).collect())
    }

    /// The path of an object from here.
    pub(crate) fn below(&self, location: &object_store::path::Path) -> Option<String> {
        let folder = self.path.as_ref();
        let rest = location.as_ref().strip_prefix(folder)?;
        match folder.is_empty() {
            true => Some(rest.to_owned()),
            false => rest.strip_prefix('/').map(str::to_owned),
        }
    }

    /// An object of the same store, found below here.
    pub(crate) fn found(&self, location: object_store::path::Path) -> Self {
        let name = self.below(&location).unwrap_or_default();
        let shown: Arc<str> = match (name.as_str(), self.shown.trim_end_matches('/')) {
            ("", _) => Arc::clone(&self.shown),
            (name, "") if self.shown.is_empty() => name.into(),
            (name, folder) => format!("{folder}/{name}").into(),
        };
        let local = self.local.as_ref().map(|folder| folder.join(&name));
        Self { store: Arc::clone(&self.store), path: location, shown, local }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn objects_are_made_once_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let local = Place::local(folder.path()).unwrap();
        let memory = Place {
            store: Arc::new(object_store::memory::InMemory::new()),
            path: "a".into(),
            shown: "a".into(),
            local: None,
        };
        for place in [local, memory] {
            let object = place.child("b/c.json");
            assert_eq!(object.get().await.unwrap(), None);
            assert_eq!(place.list().await.unwrap(), []);
            assert!(object.put_new("one".into()).await.unwrap());
            assert!(!object.put_new("two".into()).await.unwrap());
            assert_eq!(object.get().await.unwrap().unwrap(), "one");
            object.put("three".into()).await.unwrap();
            assert_eq!(place.list().await.unwrap(), [("b/c.json".to_owned(), 5)]);
            object.delete().await.unwrap();
            object.delete().await.unwrap();
            assert_eq!(object.get().await.unwrap(), None);
        }
    }
}
