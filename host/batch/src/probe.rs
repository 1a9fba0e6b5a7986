//! How many rows a call is given, where the job does not say: what serves the model best, tried on the first rows.
//!
//! Contract: from a batch of the graph's upwards, four times as many rows as long as they come quicker by a tenth; the outcome stands in the
//! plan, so that a job that goes on makes the same calls. Nothing is written, and nothing of it is an error: where rows cannot be
//! read or fail, fewer are taken. Cost: some calls, a quarter of a second in all or one call a size where that is more.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use futures_util::StreamExt;
use vespid_dataset::{Dataset, Filter, Part, Wanted};

use crate::answer::Answerer;
use crate::mapping::Mapping;

/// As many as are tried, at most.
const MOST: u32 = 4096;

/// Of as many bytes, about, at most: a call with its inputs has to fit the memory that the model has.
const MOST_BYTES: usize = 4 << 20;

/// By how much more have to be the quicker.
const WORTH: f64 = 1.1;

/// How long one size is tried, and how long a call may take for more to be tried.
const TRIED: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_millis(100);

/// Some rows of the dataset; none where they cannot be had.
pub(crate) async fn sample(
    dataset: &Dataset,
    parts: &[Part],
    mapping: &Mapping,
    filter: Option<&Filter>,
) -> Option<RecordBatch> {
    let wanted = Wanted {
        columns: mapping.wanted.clone(),
        filter: filter.cloned(),
        batch_rows: MOST as usize,
        batch_bytes: MOST_BYTES,
    };
    let rows = dataset.read(parts.first()?, wanted).next().await?.ok()?;
    Some(rows.batch)
}

/// The rows of a call that come the quickest, `least` or more.
pub(crate) async fn rows_per_call(answerer: &Answerer, rows: &RecordBatch, least: u32) -> u32 {
    let (mut best, mut best_rate) = (least, 0.0);
    let sizes = std::iter::successors(Some(least), |size| size.checked_mul(4));
    for size in sizes.take_while(|size| *size <= MOST && *size as usize <= rows.num_rows()) {
        let rows = rows.slice(0, size as usize);
        let (mut calls, began) = (0_u32, Instant::now());
        // The first of a size is not the last word: instances and buffers grow.
        while calls < 2 || began.elapsed() < TRIED {
            if !answerer.succeeds(&rows).await {
                return best;
            }
            calls += 1;
            if began.elapsed() > LONG {
                break;
            }
        }
        let each = began.elapsed() / calls;
        let rate = f64::from(size) / each.as_secs_f64().max(f64::MIN_POSITIVE);
        if rate < best_rate * WORTH {
            break;
        }
        (best, best_rate) = (size, rate);
        if each > LONG / 4 {
            break;
        }
    }
    best
}
