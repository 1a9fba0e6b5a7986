//! Any files, a row each.

use std::sync::Arc;

use ::arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use ::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::source::Source;
use super::{RowStream, Wanted, rows};
use crate::{DataError, File, Origin, Part, Place, Refused, Rows, Slice};

/// Files of one part, at most.
const FILES: usize = 1024;

/// Files that are read at once.
const AT_ONCE: usize = 8;

const CONTENT: &str = "content";

/// A file, its place, and its path as a row has it.
type Named = (Place, String, File);

/// What is known of any file.
pub(crate) fn schema() -> SchemaRef {
    let modified = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("size", DataType::Int64, false),
        Field::new("modified", modified, false),
        Field::new(CONTENT, DataType::Binary, false),
    ]))
}

/// Runs of files of about so many bytes.
pub(crate) fn parts(files: &[File], part_bytes: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        match parts.last_mut() {
            Some(Part { slice: Slice::Files { count }, rows, bytes, .. })
                if *count < FILES && bytes.saturating_add(file.size) <= part_bytes =>
            {
                *count += 1;
                *rows = Some(*count as u64);
                *bytes += file.size;
            }
            _ => parts.push(Part {
                file: index,
                slice: Slice::Files { count: 1 },
                rows: Some(1),
                bytes: file.size,
            }),
        }
    }
    parts
}

/// Reads files, some at a time, in order. One that cannot be read is a row that is refused.
pub(crate) fn read(files: Vec<Named>, wanted: Wanted) -> RowStream {
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        if let Err(error) = all(files, &wanted, &send).await {
            // Where nobody listens any more there is nobody to tell.
            let _ = send.send(Err(error)).await;
        }
    });
    rows::received(receive)
}

async fn all(
    files: Vec<Named>,
    wanted: &Wanted,
    send: &mpsc::Sender<Result<Rows, DataError>>,
) -> Result<(), DataError> {
    let files = chosen(files, wanted)?;
    let with_content = wanted.columns.iter().any(|field| field.name() == CONTENT);
    let read = |named: Named| async move {
        let content = if with_content { content(&named).await } else { Ok(Some(bytes::Bytes::new())) };
        (named, content)
    };
    let mut read = stream::iter(files).map(read).buffered(AT_ONCE);
    let mut gathered = Gathered::default();
    while let Some((named, content)) = read.next().await {
        match content {
            Ok(Some(content)) => gathered.add(named, content),
            Ok(None) => {}
            Err(DataError::Object { source, .. }) if is_of_one(&named.0, &source) => {
                gathered.refuse(&named, &source);
            }
            Err(error) => return Err(error),
        }
        if gathered.rows.len() >= wanted.batch_rows || gathered.bytes >= wanted.batch_bytes {
            let rows = std::mem::take(&mut gathered).rows(wanted);
            if send.send(rows).await.is_err() {
                return Ok(());
            }
        }
    }
    if !gathered.rows.is_empty() || !gathered.refused.is_empty() {
        let _ = send.send(gathered.rows(wanted)).await;
    }
    Ok(())
}

/// Those that the filter lets through, which does not look into them.
fn chosen(files: Vec<Named>, wanted: &Wanted) -> Result<Vec<Named>, DataError> {
    let Some(filter) = &wanted.filter else { return Ok(files) };
    if filter.columns().iter().any(|column| column == CONTENT) {
        let reason = "what files hold cannot be compared: use path, size and modified".to_owned();
        return Err(DataError::Setting { field: "where", reason });
    }
    let contents = vec![bytes::Bytes::new(); files.len()];
    let batch = batch(&files, &contents, schema())?;
    let mask = filter.evaluate(&batch)?;
    Ok(files
        .into_iter()
        .zip(mask.iter())
        .filter(|(_, keep)| *keep == Some(true))
        .map(|(file, _)| file)
        .collect())
}

async fn content((place, _, file): &Named) -> Result<Option<bytes::Bytes>, DataError> {
    let source = Source::new(place, file);
    source.confirm().await?;
    if file.size == 0 {
        return Ok(Some(bytes::Bytes::new()));
    }
    source.range(0..file.size).await.map(Some)
}

/// Whether it is the matter of one file, and not of the store.
fn is_of_one(place: &Place, error: &object_store::Error) -> bool {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    place.local.is_some()
        || matches!(error, NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. })
}

#[derive(Default)]
struct Gathered {
    rows: Vec<Named>,
    contents: Vec<bytes::Bytes>,
    bytes: usize,
    refused: Vec<Refused>,
}

impl Gathered {
    fn add(&mut self, named: Named, content: bytes::Bytes) {
        self.bytes += content.len();
        self.rows.push(named);
        self.contents.push(content);
    }

    fn refuse(&mut self, named: &Named, error: &object_store::Error) {
        let (file, column) = (Arc::clone(&named.0.shown), Some(CONTENT.to_owned()));
        self.refused.push(Refused { file, row: 1, column, message: error.to_string() });
    }

    fn rows(self, wanted: &Wanted) -> Result<Rows, DataError> {
        let schema = Arc::new(Schema::new(wanted.columns.clone()));
        let batch = batch(&self.rows, &self.contents, schema)?;
        let origin = Origin::Files(self.rows.into_iter().map(|(place, ..)| place.shown).collect());
        Ok(Rows { batch, origin, refused: self.refused })
    }
}

fn batch(files: &[Named], contents: &[bytes::Bytes], schema: SchemaRef) -> Result<RecordBatch, DataError> {
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "path" => Arc::new(StringArray::from_iter_values(files.iter().map(|(_, name, _)| name))),
            "size" => {
                Arc::new(files.iter().map(|(.., file)| i64::try_from(file.size).ok()).collect::<Int64Array>())
            }
            "modified" => {
                let times =
                    TimestampMicrosecondArray::from_iter_values(files.iter().map(|(.., file)| file.modified));
                Arc::new(times.with_timezone("UTC"))
            }
            _ => Arc::new(BinaryArray::from_iter_values(contents)),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(files.len()));
    let wrong =
        |error: ::arrow::error::ArrowError| DataError::Setting { field: "input", reason: error.to_string() };
    RecordBatch::try_new_with_options(schema, columns, &options).map_err(wrong)
}
