//! Footers: read once for the parts of a file that a process reads one after another.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ::parquet::DecodeResult;
use ::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use ::parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataPushDecoder};

use crate::DataError;
use crate::read::source::Source;

/// Files whose footers are kept: those that are being read, of a dataset that may have any number.
const KEPT: usize = 16;

type Key = (String, u64, String);

/// The last ones used, the latest in front.
static CACHE: Mutex<VecDeque<(Key, ArrowReaderMetadata)>> = Mutex::new(VecDeque::new());

/// The footer of a file that is still the one that was planned.
pub(super) async fn of(source: &Source) -> Result<ArrowReaderMetadata, DataError> {
    source.confirm().await?;
    let key = (source.shown.to_string(), source.size, source.stamp.clone());
    {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cache.iter().position(|(other, _)| *other == key).and_then(|at| cache.remove(at))
        {
            let footer = found.1.clone();
            cache.push_front(found);
            return Ok(footer);
        }
    }
    let footer = load(source).await?;
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    cache.push_front((key, footer.clone()));
    cache.truncate(KEPT);
    Ok(footer)
}

async fn load(source: &Source) -> Result<ArrowReaderMetadata, DataError> {
    let decoder = ParquetMetaDataPushDecoder::try_new(source.size);
    let decoder = decoder.map_err(|error| source.broken(format!("it is not Parquet: {error}")))?;
    let mut decoder = decoder.with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = loop {
        let decode = move || {
            let result =
                decoder.try_decode().map_err(|error| format!("it is not Parquet, or cut off: {error}"))?;
            Ok((decoder, result))
        };
        let (next, result) = source.decode(decode).await?;
        decoder = next;
        match result {
            DecodeResult::Data(metadata) => break metadata,
            DecodeResult::Finished => return Err(source.broken("it has no footer".to_owned())),
            DecodeResult::NeedsData(ranges) => {
                let bytes = source.ranges(&ranges).await?;
                decoder.push_ranges(ranges, bytes).map_err(|error| source.broken(error.to_string()))?;
            }
        }
    };
    let size = source.size;
    source
        .decode(move || {
            // What would be added up below is checked here, once.
            let mut rows = 0_i64;
            for group in metadata.row_groups() {
                let count = group.num_rows();
                let sum = rows.checked_add(count).filter(|_| count >= 0);
                rows = sum.ok_or_else(|| format!("a row group says that it has {count} rows"))?;
                if u64::try_from(group.compressed_size()).is_ok_and(|bytes| bytes > size)
                    || group.compressed_size() < 0
                {
                    return Err(format!("a row group says that it has {} bytes", group.compressed_size()));
                }
            }
            let options = ArrowReaderOptions::new();
            ArrowReaderMetadata::try_new(metadata.into(), options)
                .map_err(|error| format!("its schema is wrong: {error}"))
        })
        .await
}
