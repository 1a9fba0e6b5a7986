//! Receiving a package.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use vespid_package::{ArchiveLimits, PackageError, Staged, Store, Verified};
use vespid_types::{BoxError, Error, ModelName, Version};

use crate::body::drain;
use crate::patience::{PAUSE, did_not_go_on};

/// Receives an archive and checks that it is a package of this model and version.
///
/// # Errors
/// What is wrong with it; nothing is kept of it then.
pub(super) async fn package(
    store: &Arc<Store>,
    mut body: Body,
    limits: ArchiveLimits,
    name: &ModelName,
    version: Version,
) -> Result<Verified, Error> {
    let received = archive(store, &mut body, limits).await;
    let staged = match received {
        Ok(staged) => staged,
        Err(error) => {
            // The client may still be sending.
            drain(body).await;
            return Err(error);
        }
    };
    let name = name.clone();
    blocking(move || {
        let package = staged.verify(limits)?;
        package.expect(&name, version)?;
        Ok(package)
    })
    .await
}

async fn archive(
    store: &Arc<Store>,
    body: &mut Body,
    ArchiveLimits { size: limit, .. }: ArchiveLimits,
) -> Result<Staged, Error> {
    let mut left = limit.as_u64();
    if body.size_hint().lower() > left {
        return Err(PackageError::TooLarge { limit }.into());
    }
    let store = Arc::clone(store);
    let staged = blocking(move || store.stage()).await?;
    let failed = |error| Error::internal("the package cannot be written to the store").with_source(error);
    let mut file = File::create(staged.archive()).await.map_err(|error| failed(BoxError::from(error)))?;
    loop {
        let frame = timeout(PAUSE, body.frame()).await.map_err(|_| did_not_go_on(PAUSE))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Error::invalid("the upload ended before the whole package had come; nothing was kept")
                .with_source(error)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        left = left.checked_sub(data.len() as u64).ok_or(PackageError::TooLarge { limit })?;
        file.write_all(&data).await.map_err(|error| failed(error.into()))?;
    }
    file.flush().await.map_err(|error| failed(error.into()))?;
    Ok(staged)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, Error> {
    let done = spawn_blocking(work).await;
    Ok(done.map_err(|error| Error::internal("a task failed").with_source(error))??)
}
