//! What is done again where a store was away.
//!
//! A store's own client asks again for some seconds. A job has more time: what it does is done again as a whole, with growing pauses,
//! for some minutes.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use vespid_dataset::DataError;

use crate::BatchError;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(300);

/// Pauses that grow from one to another, for so long in all.
#[must_use]
pub fn growing(first: Duration, longest: Duration, all: Duration) -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(all))
}

/// Does `work`, and does it again where what it failed at may pass.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, BatchError>>>(
    work: impl FnMut() -> F,
) -> Result<T, BatchError> {
    let pauses = growing(FIRST_PAUSE, LONGEST_PAUSE, PATIENCE);
    let told = |error: &BatchError, pause: Duration| {
        tracing::warn!("{error}; again in {:.1} s", pause.as_secs_f64());
    };
    work.retry(pauses).when(may_pass).notify(told).await
}

/// Whether it is a store's, and not of this machine, whose disk is full or gone for longer.
fn may_pass(error: &BatchError) -> bool {
    match error {
        BatchError::Data(DataError::Object {
            source: object_store::Error::Generic { store, .. }, ..
        }) => *store != "LocalFileSystem",
        BatchError::Lost { .. } => true,
        _ => false,
    }
}
