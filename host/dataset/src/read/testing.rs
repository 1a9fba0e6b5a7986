//! What the tests of columnar formats share.

use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::stamp::stamp;
use crate::{Compression, File, Place};

/// A local file as it is now.
pub(super) async fn found(path: &Path) -> (Place, File) {
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let shown: Arc<str> = path.to_str().unwrap().into();
    let place = Place {
        store,
        path: object_store::path::Path::from_absolute_path(path).unwrap(),
        shown,
        local: Some(path.into()),
    };
    let meta = place.store.head(&place.path).await.unwrap();
    let compression = Compression::None;
    let file = File {
        input: 0,
        path: place.path.to_string(),
        size: meta.size,
        modified: 0,
        stamp: stamp(&meta),
        compression,
        partitions: Vec::new(),
    };
    (place, file)
}

/// A file that is damaged in one of 600 ways: cut off, or one byte wrong.
pub(super) fn damaged(whole: &[u8], step: usize) -> Vec<u8> {
    let at = step * whole.len() / 600;
    let mut bytes = whole.to_vec();
    match step % 3 {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 0xff,
        _ => bytes[at] = bytes[at].wrapping_add(1),
    }
    bytes
}
