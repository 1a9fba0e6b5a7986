//! Where the bytes of a file go until it appears.

use std::path::PathBuf;

use bytes::Bytes;
use object_store::{ObjectStoreExt, WriteMultipart};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::{DataError, Place};

/// Below this an upload is one request. Also the pieces of one that is more.
const PIECE: usize = 8 << 20;

/// Pieces that are on their way at once.
const AT_ONCE: usize = 2;

pub(super) struct Sink {
    place: Place,
    kind: Kind,
    bytes: u64,
}

enum Kind {
    Local(Staged),
    /// What has come, and the upload where it is more than a piece.
    Bucket(Vec<u8>, Option<WriteMultipart>),
}

/// A file that is put together, and goes where nobody lets it appear.
struct Staged {
    file: File,
    path: PathBuf,
    target: PathBuf,
    appeared: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.appeared {
            // Where that fails it lies in a folder that nobody reads.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn failed(place: &Place) -> impl Fn(std::io::Error) -> DataError {
    let url = place.shown.to_string();
    move |source| DataError::Object {
        doing: "write",
        url: url.clone(),
        source: object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(source) },
    }
}

impl Sink {
    pub(super) async fn open(place: Place, staging: &Place) -> Result<Self, DataError> {
        let kind = match (&place.local, &staging.local) {
            (Some(target), Some(folder)) => {
                fs::create_dir_all(folder).await.map_err(failed(&place))?;
                let name = target.file_name().unwrap_or_default().to_string_lossy();
                let path = folder.join(format!("{name}.{:016x}", fastrand::u64(..)));
                let file = File::create_new(&path).await.map_err(failed(&place))?;
                Kind::Local(Staged { file, path, target: target.clone(), appeared: false })
            }
            _ => Kind::Bucket(Vec::new(), None),
        };
        Ok(Self { place, kind, bytes: 0 })
    }

    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> Result<(), DataError> {
        self.bytes += bytes.len() as u64;
        match &mut self.kind {
            Kind::Local(staged) => staged.file.write_all(&bytes).await.map_err(failed(&self.place)),
            Kind::Bucket(gathered, upload) => {
                gathered.extend_from_slice(&bytes);
                if gathered.len() < PIECE {
                    return Ok(());
                }
                let told = |error| DataError::object("write", &*self.place.shown)(error);
                let upload = match upload {
                    Some(upload) => upload,
                    none => {
                        let begun = self.place.store.put_multipart(&self.place.path).await.map_err(told)?;
                        none.insert(WriteMultipart::new_with_chunk_size(begun, PIECE))
                    }
                };
                upload.wait_for_capacity(AT_ONCE).await.map_err(told)?;
                upload.put(Bytes::from(std::mem::take(gathered)));
                Ok(())
            }
        }
    }

    /// Lets the file appear; its bytes.
    pub(super) async fn finish(self) -> Result<u64, DataError> {
        let Self { place, kind, bytes } = self;
        match kind {
            Kind::Local(mut staged) => {
                let appear = async {
                    staged.file.flush().await?;
                    staged.file.sync_all().await?;
                    let folder = staged.target.parent().map(PathBuf::from).unwrap_or_default();
                    fs::create_dir_all(&folder).await?;
                    fs::rename(&staged.path, &staged.target).await?;
                    staged.appeared = true;
                    File::open(&folder).await?.sync_all().await
                };
                appear.await.map_err(failed(&place))?;
            }
            Kind::Bucket(gathered, None) => {
                let put = place.store.put(&place.path, gathered.into()).await;
                put.map_err(DataError::object("write", &*place.shown))?;
            }
            Kind::Bucket(gathered, Some(mut upload)) => {
                upload.put(Bytes::from(gathered));
                upload.finish().await.map_err(DataError::object("write", &*place.shown))?;
            }
        }
        Ok(bytes)
    }

    pub(super) async fn abort(self) {
        if let Kind::Bucket(_, Some(upload)) = self.kind {
            // What cannot be taken back is no object yet.
            let _ = upload.abort().await;
        }
    }
}
