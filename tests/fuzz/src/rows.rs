//! Files as rows, and conditions over them.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};
use vespid_dataset::{
    DataError, Dataset, DatasetOptions, Filter, Origin, Part, Pattern, Place, Wanted, objects, to_objects,
};

use crate::check::{caught_panics_are_fine, is_clients};

/// Rows at a time, and bytes of a part: few, so that there is more than one.
const BATCH: usize = 7;
const PART: u64 = 48;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

/// A file of comma-separated values.
pub fn csv(data: &[u8]) {
    text(data, "a.csv");
}

/// A file of JSON objects.
pub fn jsonl(data: &[u8]) {
    text(data, "a.jsonl");
}

/// A file of text makes the same rows, whether it is read as a whole or in parts.
fn text(data: &[u8], name: &str) {
    let read = RUNTIME.block_on(async {
        let dataset = open(data, name).await?;
        let whole = read(&dataset, u64::MAX).await;
        let parts = read(&dataset, PART).await;
        match (&whole, &parts) {
            (Ok(whole), Ok(parts)) => assert_eq!(whole, parts),
            _ => assert!(whole.is_err() && parts.is_err(), "{whole:?} and {parts:?}"),
        }
        whole
    });
    match read {
        Ok(read) => {
            for batch in &read.batches {
                said_and_read(batch);
            }
        }
        Err(error) => refused(&error),
    }
}

/// Rows that are written as JSON objects are the same when they are read.
fn said_and_read(batch: &RecordBatch) {
    let Ok(said) = to_objects(batch) else { return };
    assert_eq!(said.len(), batch.num_rows());
    let read = objects(&batch.schema(), said.iter().map(|object| &object[..]))
        .expect("a schema that was read before");
    assert_eq!((read.refused, read.batch.num_rows()), (Vec::new(), batch.num_rows()));
    assert_eq!(&read.batch, batch);
}

/// A file of Parquet.
pub fn parquet(data: &[u8]) {
    columns(data, "a.parquet");
}

/// A file of Arrow's IPC format.
pub fn ipc(data: &[u8]) {
    columns(data, "a.arrow");
}

fn columns(data: &[u8], name: &str) {
    caught_panics_are_fine();
    let read = RUNTIME.block_on(async { read(&open(data, name).await?, PART).await });
    if let Err(error) = read {
        refused(&error);
    }
}

fn refused(error: &DataError) {
    is_clients(error.code());
    assert!(!error.to_string().is_empty());
}

async fn open(data: &[u8], name: &str) -> Result<Dataset, DataError> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    store.put(&name.into(), data.to_vec().into()).await.expect("an object");
    let place = Place { store, path: name.into(), shown: unique(name), local: None };
    Dataset::open(vec![Pattern::new(place)?], &DatasetOptions::default()).await
}

/// Footers are kept by the names of their files.
fn unique(name: &str) -> Arc<str> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("memory:///{}/{name}", NUMBER.fetch_add(1, Ordering::Relaxed)).into()
}

/// The rows of a file.
#[derive(Debug, PartialEq)]
struct Read {
    /// One for each row, whatever the batches were.
    batches: Vec<RecordBatch>,
    numbers: Vec<u64>,
    refused: Vec<(u64, Option<String>)>,
}

async fn read(dataset: &Dataset, part_bytes: u64) -> Result<Read, DataError> {
    let mut all = Read { batches: Vec::new(), numbers: Vec::new(), refused: Vec::new() };
    for part in dataset.parts(None, part_bytes).await? {
        let before = all.numbers.len() + all.refused.len();
        read_part(dataset, &part, &mut all).await?;
        let got = (all.numbers.len() + all.refused.len() - before) as u64;
        assert!(part.rows.is_none_or(|rows| rows == got), "{got} rows of {part:?}");
    }
    assert!(all.numbers.is_sorted_by(|one, other| one < other), "{:?}", all.numbers);
    let refused: HashSet<u64> = all.refused.iter().map(|(row, _)| *row).collect();
    assert!(all.numbers.iter().all(|number| !refused.contains(number)));
    Ok(all)
}

async fn read_part(dataset: &Dataset, part: &Part, all: &mut Read) -> Result<(), DataError> {
    let columns = dataset.schema().fields().to_vec();
    let wanted = Wanted { columns, filter: None, batch_rows: BATCH, batch_bytes: 1 << 16 };
    let mut rows = dataset.read(part, wanted);
    while let Some(some) = rows.try_next().await? {
        let count = some.batch.num_rows();
        assert!(count + some.refused.len() <= BATCH);
        let Origin::File { rows, .. } = some.origin else { panic!("rows of no file") };
        assert_eq!(rows.len(), count);
        all.numbers.extend(rows);
        all.batches.extend((0..count).map(|row| some.batch.slice(row, 1)));
        all.refused.extend(some.refused.into_iter().map(|refused| (refused.row, refused.column)));
    }
    Ok(())
}

/// A condition of a job: `where`.
pub fn condition(data: &[u8]) {
    static ROWS: LazyLock<RecordBatch> = LazyLock::new(|| {
        let rows =
            "{\"a\":1,\"b\":\"x\",\"c\":true,\"d\":0.5}\n{\"a\":-2,\"b\":null,\"c\":false,\"d\":null}\n";
        let read = RUNTIME.block_on(async { read(&open(rows.as_bytes(), "a.jsonl").await?, u64::MAX).await });
        read.expect("rows").batches.remove(1)
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let checked = Filter::parse(text).and_then(|filter| filter.check(&ROWS.schema()).map(|()| filter));
    match checked {
        // What passes the check can be asked of rows.
        Ok(filter) => assert_eq!(filter.evaluate(&ROWS).expect("a mask").len(), 1),
        Err(error) => refused(&error),
    }
}
