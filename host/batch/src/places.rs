//! Where a job's files are: paths and URLs, with the keys that the environment has.

use vespid_dataset::{Pattern, Place};
use vespid_package::StoreLocation;

use crate::BatchError;

/// The place that a path or URL names.
///
/// # Errors
/// [`BatchError::Place`] where it is neither, [`BatchError::Data`] where the path cannot be one of a store.
pub fn place(text: &str) -> Result<Place, BatchError> {
    match text.parse()? {
        StoreLocation::Folder(folder) => Ok(Place::local(folder)?),
        StoreLocation::Bucket(url) => {
            let (store, path) = StoreLocation::bucket(&url)?;
            Ok(Place { store, path, shown: text.into(), local: None })
        }
    }
}

/// The files that a path, URL or glob names.
///
/// # Errors
/// As [`place`].
pub(crate) fn pattern(text: &str) -> Result<Pattern, BatchError> {
    Ok(Pattern::new(place(text)?)?)
}
