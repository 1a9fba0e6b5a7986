//! How those who write packages and those who remove them stay out of each other's way, in one process or in several.
//!
//! Whoever writes a package puts a notice into `writing/` that names its blobs, waits until nobody removes, and only then
//! looks which blobs are there already; the notice goes when the record has been put. Whoever removes blobs puts a notice
//! into `removing/`, and only then reads first the notices of those who write, then the records; what one of them names
//! stays. So either the one who removes has seen the other's notice, or the other waits for his. A notice whose author
//! died counts for a while only; ages are differences between times that the store gave, for clocks differ.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode};
use vespid_types::Digest;

use super::Store;
use crate::{PackageError, Record};

const WRITING: &str = "writing";
const REMOVING: &str = "removing";

/// Longer than an upload takes.
const WRITING_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How long others wait for one who removes.
const REMOVING_LIMIT: Duration = Duration::from_secs(120);

/// When one who removes leaves the rest for another time: well before others stop waiting for it.
const REMOVING_TIME: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(100);

/// Notices that are read at once.
const AT_ONCE: usize = 16;

/// What is going on, for others to see.
#[derive(Debug)]
pub(super) struct Notice {
    object: ObjectMeta,
}

/// Leave to remove blobs.
#[derive(Debug)]
pub(super) struct Removal {
    notice: Notice,
    began: Instant,
    /// What others are writing.
    pub(super) written: BTreeSet<Digest>,
}

impl Removal {
    /// Whether it has taken so long that others may not wait any more.
    pub(super) fn is_over(&self) -> bool {
        self.began.elapsed() > REMOVING_TIME
    }
}

impl Store {
    /// Says that a package is being written, and waits until nobody removes.
    pub(super) async fn begin_writing(&self, record: &Record) -> Result<Notice, PackageError> {
        let digests: Vec<Digest> = record.blobs().iter().map(|(_, blob)| blob.digest).collect();
        let digests = serde_json::to_vec(&digests).unwrap_or_default();
        let notice = self.give_notice(WRITING, digests.into()).await?;
        let began = Instant::now();
        while began.elapsed() < REMOVING_LIMIT {
            let removals = self.notices(REMOVING).await?;
            if removals.iter().all(|removal| age(removal, &notice.object) > REMOVING_LIMIT) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(notice)
    }

    /// Says that blobs are being removed, and reads what must not be. Records are to be read after this.
    pub(super) async fn begin_removing(&self) -> Result<Removal, PackageError> {
        let began = Instant::now();
        let notice = self.give_notice(REMOVING, Bytes::new()).await?;
        match self.being_written(&notice.object).await {
            Ok(written) => Ok(Removal { notice, began, written }),
            Err(error) => {
                self.withdraw(notice).await;
                Err(error)
            }
        }
    }

    async fn being_written(&self, now: &ObjectMeta) -> Result<BTreeSet<Digest>, PackageError> {
        for old in self.notices(REMOVING).await? {
            if age(&old, now) > REMOVING_LIMIT {
                self.delete(&old.location).await?;
            }
        }
        let (old, current): (Vec<_>, Vec<_>) =
            self.notices(WRITING).await?.into_iter().partition(|notice| age(notice, now) > WRITING_LIMIT);
        for notice in old {
            self.delete(&notice.location).await?;
        }
        let read = futures_util::stream::iter(current).map(|notice| self.read_notice(notice.location));
        let read: Vec<Vec<Digest>> = read.buffered(AT_ONCE).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// The blobs that a notice names; none where it is gone, for then the record is there.
    async fn read_notice(&self, path: Path) -> Result<Vec<Digest>, PackageError> {
        let read = match self.objects.get(&path).await {
            Ok(notice) => notice.bytes().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| PackageError::Record {
                reason: format!("'{path}', which says what is being written, is damaged: {error}"),
            }),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(PackageError::objects("read", &path)(error)),
        }
    }

    async fn give_notice(&self, kind: &str, content: Bytes) -> Result<Notice, PackageError> {
        let path = Path::from(format!("{kind}/{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
        self.put(&path, content, PutMode::Create).await?;
        let object = self.objects.head(&path).await.map_err(PackageError::objects("read", &path))?;
        Ok(Notice { object })
    }

    async fn notices(&self, kind: &str) -> Result<Vec<ObjectMeta>, PackageError> {
        let notices = self.objects.list(Some(&Path::from(kind))).try_collect().await;
        notices.map_err(PackageError::objects("list", kind))
    }

    /// Takes a notice back. Where that fails, it is in the way for a while, and does no harm.
    pub(super) async fn withdraw(&self, notice: Notice) {
        if let Err(error) = self.delete(&notice.object.location).await {
            tracing::warn!("a notice is left in the store: {error}");
        }
    }

    pub(super) async fn end_removing(&self, removal: Removal) {
        self.withdraw(removal.notice).await;
    }
}

/// How much older one object is than the other.
fn age(object: &ObjectMeta, now: &ObjectMeta) -> Duration {
    (now.last_modified - object.last_modified).to_std().unwrap_or_default()
}
