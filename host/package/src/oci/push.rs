//! Pushing a package: the blobs that the registry lacks, and then the record as the manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use oci_client::RegistryOperation;
use vespid_types::Digest;

use super::error::RegistryError;
use super::keys::SigningKey;
use super::reference::Reference;
use super::session::Session;
use super::{Progress, Registry, signature};
use crate::Record;
use crate::record::IMAGE_MANIFEST;

/// Blobs that are under way at once.
pub(super) const AT_ONCE: usize = 4;

/// A package that is ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The folder with its files.
    pub dir: &'a Path,
    /// Its record.
    pub record: &'a Record,
    /// What the record's config holds.
    pub config: &'a Bytes,
}

/// A package that a registry holds now.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// Where it is, with its tag and its digest.
    pub reference: Reference,
    /// How many of its blobs were sent, and how many the registry had.
    pub sent: usize,
    /// See `sent`.
    pub there: usize,
}

impl Registry {
    /// Pushes a package under the reference's tag, or under `tag` where it names none. The manifest comes last: until then
    /// nobody sees anything. With a key the package is signed after that.
    ///
    /// # Errors
    /// What the registry says. Where the reference names a digest, the package must have it.
    pub async fn push(
        &self,
        reference: &Reference,
        tag: &str,
        package: Outgoing<'_>,
        key: Option<&SigningKey>,
        progress: &Arc<dyn Progress>,
    ) -> Result<Pushed, RegistryError> {
        let digest = package.record.digest();
        if reference.digest().is_some_and(|wanted| wanted != digest) {
            return Err(RegistryError::OtherDigest { reference: reference.clone(), digest });
        }
        let reference = match reference.tag() {
            Some(_) => reference.clone(),
            None => reference.tagged(tag)?,
        };
        let session = Session::open(self.options(), &reference, RegistryOperation::Push).await?;
        session.may_push().await?;
        let blobs = blobs(package);
        let total = blobs.len();
        progress.total(blobs.values().map(|(size, _)| size).sum());
        let sending = futures_util::stream::iter(blobs)
            .map(|(digest, (size, content))| send(&session, digest, size, content, progress));
        let sent: Vec<bool> = sending.buffer_unordered(AT_ONCE).try_collect().await?;
        let tag = reference.tag().unwrap_or(tag);
        session.put_manifest(tag, package.record.bytes(), IMAGE_MANIFEST).await?;
        if let Some(key) = key {
            signature::sign(&session, key, digest).await?;
        }
        let sent = sent.into_iter().filter(|sent| *sent).count();
        Ok(Pushed { reference: reference.pinned(digest), sent, there: total - sent })
    }
}

/// What a blob holds, and where it is.
enum Content<'a> {
    Bytes(&'a Bytes),
    File(std::path::PathBuf),
}

/// Every blob once, with its size.
fn blobs(package: Outgoing<'_>) -> BTreeMap<Digest, (u64, Content<'_>)> {
    let Outgoing { dir, record, config } = package;
    let files = record.files().iter();
    let mut blobs: BTreeMap<_, _> =
        files.map(|(path, blob)| (blob.digest, (blob.size, Content::File(dir.join(path))))).collect();
    blobs.insert(record.config().digest, (record.config().size, Content::Bytes(config)));
    blobs
}

/// Sends a blob unless the registry has it; says whether it did.
async fn send(
    session: &Session,
    digest: Digest,
    size: u64,
    content: Content<'_>,
    progress: &Arc<dyn Progress>,
) -> Result<bool, RegistryError> {
    if session.has(digest).await? {
        progress.moved(size);
        return Ok(false);
    }
    match content {
        Content::Bytes(bytes) => {
            session.put_bytes(digest, bytes).await?;
            progress.moved(size);
        }
        Content::File(path) => session.put_file(digest, size, &path, progress).await?,
    }
    Ok(true)
}
