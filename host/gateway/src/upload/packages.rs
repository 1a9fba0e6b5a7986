//! What was uploaded, for the pods that load it.
//!
//! Contract: `GET /packages/{model}/{version}?digest=sha256:...` answers the package as a tar, in the order of its files' names; 404
//! where the store has no such version, 409 where it has another package under it. A transfer that fails is broken off, so that
//! nobody takes a part for the whole; whoever fetches checks the digest. Cost: the package is on this machine's disk from then on,
//! in the store's cache, and read from there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use vespid_package::{PackageError, Stored};
use vespid_types::{Digest, Error, ErrorCode, ModelName, Version};

use crate::error::Failure;
use crate::gateway::Shared;

/// How much is read at once, and how many of these wait for the network.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/packages/{model}/{version}", get(package)).with_state(shared)
}

async fn package(
    State(shared): State<Arc<Shared>>,
    Path((model, version)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let stored = find(&shared, &model, &version, query.as_deref().unwrap_or_default()).await;
    match stored {
        Ok(stored) => ([(header::CONTENT_TYPE, "application/x-tar")], tar(stored)).into_response(),
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
fn tar(stored: Stored) -> Body {
    let (pieces, written) = mpsc::channel(PIECES);
    spawn_blocking(move || {
        let failed = pieces.clone();
        if let Err(error) = write(&stored, BufWriter::with_capacity(PIECE, Pieces(pieces))) {
            // Whoever fetched it may have left.
            let _ = failed.blocking_send(Err(error));
        }
    });
    Body::from_stream(stream::unfold(written, async |mut written| Some((written.recv().await?, written))))
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

/// Writes into a channel.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(left)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
