//! What was uploaded, for the pods that load it.
//!
//! Contract: `GET /packages/{model}/{version}?digest=sha256:...` answers the package as a tar, in the order of its files' names; 404
//! where the store has no such version, 409 where it has another package under it, 503 where as many are on their way as may. A
//! transfer that fails, or whose receiver takes nothing for a while, is broken off, so that nobody takes a part for the whole;
//! whoever fetches checks the digest. Cost: the package is on this machine's disk from then on, in the store's cache, and read from
//! there by a thread.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::spawn_blocking;
use vespid_package::{PackageError, Stored};
use vespid_types::{Digest, Error, ErrorCode, ModelName, Version};

use crate::error::Failure;
use crate::gateway::Shared;

/// How much is read at once, and how many of these wait for the network.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

/// How many packages may be on their way at once: each has a thread.
pub(super) const DOWNLOADS: usize = 32;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/packages/{model}/{version}", get(package)).with_state(shared)
}

async fn package(
    State(shared): State<Arc<Shared>>,
    Path((model, version)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let place = Arc::clone(&shared.uploads.downloads).try_acquire_owned().map_err(|_| {
        Error::refused(format!("as many packages are on their way as may be ({DOWNLOADS}): try again"))
    });
    let found = async {
        let place = place?;
        let query = query.as_deref().unwrap_or_default();
        Ok::<_, Error>((find(&shared, &model, &version, query).await?, place))
    };
    match found.await {
        Ok((stored, place)) => {
            let tar = tar(stored, place, shared.options.pause);
            ([(header::CONTENT_TYPE, "application/x-tar")], tar).into_response()
        }
        Err(error) => {
            tracing::warn!(%model, %version, "a package was not given: {error}");
            Failure::from(error).respond(false)
        }
    }
}

async fn find(shared: &Shared, model: &str, version: &str, query: &str) -> Result<Stored, Error> {
    let invalid = |error: &dyn std::fmt::Display| Error::invalid(error.to_string());
    let name: ModelName = model.parse().map_err(|error| invalid(&error))?;
    let version: Version = version.parse().map_err(|error| invalid(&error))?;
    let mut digests = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "digest");
    let digest = digests.next().map(|(_, digest)| digest.parse::<Digest>()).transpose();
    let digest = digest.map_err(|error| Error::invalid(format!("digest: {error}")))?;
    let Some(store) = &shared.uploads.store else {
        return Err(PackageError::NotFound { name, version }.into());
    };
    let stored = store.fetch(&name, version).await?;
    match digest.filter(|digest| *digest != stored.digest) {
        None => Ok(stored),
        Some(digest) => {
            let message =
                format!("model '{name}' version {version} is {} here, and not {digest}", stored.digest);
            Err(Error::new(ErrorCode::AlreadyExists, message))
        }
    }
}

/// The package as a tar, read while it is sent.
pub(super) fn tar(stored: Stored, place: OwnedSemaphorePermit, pause: Duration) -> Body {
    let (pieces, written) = mpsc::channel(PIECES);
    spawn_blocking(move || {
        let _place = place;
        let pieces = Pieces { pieces, runtime: Handle::current(), pause };
        let written = write(&stored, BufWriter::with_capacity(PIECE, pieces.clone()));
        // An empty piece says that it is whole: what only ends was broken off.
        if let Err(error) = written.and_then(|()| pieces.send(Bytes::new())) {
            tracing::debug!("a package was not sent whole: {error}");
        }
    });
    Body::from_stream(stream::unfold(Some(written), async |written| {
        let mut written = written?;
        match written.recv().await {
            Some(piece) if piece.is_empty() => None,
            Some(piece) => Some((Ok(piece), Some(written))),
            None => Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None)),
        }
    }))
}

fn write(stored: &Stored, into: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(into);
    for path in stored.digests.keys() {
        let file = File::open(stored.dir.join(path))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        archive.append_data(&mut header, path.as_str(), file)?;
    }
    archive.into_inner()?.flush()
}

/// Writes into a channel, from a thread that may wait.
#[derive(Clone)]
struct Pieces {
    pieces: mpsc::Sender<Bytes>,
    runtime: Handle,
    pause: Duration,
}

impl Pieces {
    fn send(&self, piece: Bytes) -> io::Result<()> {
        let sent = self.runtime.block_on(self.pieces.send_timeout(piece, self.pause));
        sent.map_err(|error| match error {
            SendTimeoutError::Timeout(_) => io::ErrorKind::TimedOut.into(),
            SendTimeoutError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Bytes::copy_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
