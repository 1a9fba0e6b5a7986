//! Ranges of the bytes of one file, which has to be the file that was planned.
//!
//! A store's own client tries again only until a body begins: a body that breaks off is asked for as a whole again here, for about a
//! minute. A range that the file does not have is no matter for patience: it is refused at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::stamp::stamp;
use crate::{DataError, File, Place};

/// Pauses of 0.2 s to 10 s, some 50 s in all.
const RETRY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(10))
    .with_max_times(10);

/// A file whose bytes are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// A local file that cannot be read will not be the better for waiting.
    local: bool,
    pub(crate) shown: Arc<str>,
    pub(crate) size: u64,
    pub(crate) stamp: String,
}

impl Source {
    pub(crate) fn new(place: &Place, file: &File) -> Self {
        Self {
            store: Arc::clone(&place.store),
            path: place.path.clone(),
            local: place.local.is_some(),
            shown: Arc::clone(&place.shown),
            size: file.size,
            stamp: file.stamp.clone(),
        }
    }

    /// Asks the store whether it is still the file that was planned.
    ///
    /// # Errors
    /// [`DataError::Changed`], [`DataError::Object`].
    pub(crate) async fn confirm(&self) -> Result<(), DataError> {
        let ask = || self.store.head(&self.path);
        let meta = ask.retry(RETRY).when(|error| self.passing(error)).await;
        let meta = meta.map_err(DataError::object("read", &*self.shown))?;
        let found = stamp(&meta);
        if meta.size == self.size && found == self.stamp {
            return Ok(());
        }
        Err(DataError::Changed {
            file: self.shown.to_string(),
            planned: format!("{} bytes, {}", self.size, self.stamp),
            found: format!("{} bytes, {found}", meta.size),
        })
    }

    /// The bytes of each range.
    ///
    /// # Errors
    /// [`DataError::Broken`] for a range that the file does not have, [`DataError::Object`].
    pub(crate) async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, DataError> {
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > self.size) {
            let Range { start, end } = range;
            let size = self.size;
            let reason =
                format!("it points to bytes {start} to {end}, and has {size}: it is cut off or damaged");
            return Err(self.broken(reason));
        }
        let get = || self.store.get_ranges(&self.path, ranges);
        let bytes = get.retry(RETRY).when(|error| self.passing(error)).await;
        let bytes = bytes.map_err(DataError::object("read", &*self.shown))?;
        let whole = |(bytes, range): (&Bytes, &Range<u64>)| bytes.len() as u64 == range.end - range.start;
        if bytes.len() != ranges.len() || !bytes.iter().zip(ranges).all(whole) {
            return Err(self.broken("it ends before the size that its store gives".to_owned()));
        }
        Ok(bytes)
    }

    /// The bytes of a range.
    pub(crate) async fn range(&self, range: Range<u64>) -> Result<Bytes, DataError> {
        Ok(self.ranges(&[range]).await?.pop().unwrap_or_default())
    }

    /// The file is not what its format asks for.
    pub(crate) fn broken(&self, reason: String) -> DataError {
        DataError::Broken { file: self.shown.to_string(), row: None, column: None, reason }
    }

    /// Runs what decodes on a thread where it may take its time, and may panic: what a decoder does with damaged bytes is not
    /// promised, and one bad file must not end the process.
    pub(crate) async fn decode<T, F>(&self, decode: F) -> Result<T, DataError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, String> + Send + 'static,
    {
        match tokio::task::spawn_blocking(decode).await {
            Ok(decoded) => decoded.map_err(|reason| self.broken(reason)),
            Err(error) => {
                Err(self.broken(format!("its decoder failed, as it does on damaged files: {error}")))
            }
        }
    }

    /// Whether an error may pass: `Generic` is what a connection that breaks comes as.
    fn passing(&self, error: &object_store::Error) -> bool {
        !self.local && matches!(error, object_store::Error::Generic { .. })
    }
}
