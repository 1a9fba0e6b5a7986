use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::stamp::stamp;
use crate::{Compression, Origin};

/// `n` counts from 0 and `s` is its text, in row groups of 100.
fn write(path: &Path, rows: i64) {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|n| n.to_string())));
    let batch = RecordBatch::try_from_iter([("n", n), ("s", s)]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer =
        ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

async fn found(path: &Path) -> (Place, File) {
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
    let shown: Arc<str> = path.to_str().unwrap().into();
    let place = Place {
        store,
        path: object_store::path::Path::from_absolute_path(path).unwrap(),
        shown,
        local: Some(path.into()),
    };
    let meta = place.store.head(&place.path).await.unwrap();
    let compression = Compression::None;
    let file = File {
        input: 0,
        path: place.path.to_string(),
        size: meta.size,
        stamp: stamp(&meta),
        compression,
        partitions: Vec::new(),
    };
    (place, file)
}

async fn all(place: &Place, file: &File, filter: Option<&str>) -> Result<Vec<(u64, String)>, DataError> {
    let filter = filter.map(|text| Filter::parse(text).unwrap());
    let schema = schema(place, file).await?;
    let mut found = Vec::new();
    for part in parts(place, file, 0, &schema, filter.as_ref(), 1 << 20).await? {
        let columns = schema.fields().iter().rev().cloned().collect();
        let wanted = Wanted { columns, filter: filter.clone(), batch_rows: 30, batch_bytes: 1 << 20 };
        let batches: Vec<Rows> = read(place.clone(), file.clone(), part, wanted).try_collect().await?;
        for rows in batches {
            assert!(rows.batch.num_rows() <= 30);
            let Origin::File { rows: numbers, .. } = rows.origin else { panic!("not of a file") };
            let text =
                rows.batch.column(0).as_string_opt::<i32>().map(|text| {
                    text.iter().map(|text| text.unwrap_or_default().to_owned()).collect::<Vec<_>>()
                });
            found.extend(numbers.into_iter().zip(text.unwrap_or_default()));
        }
    }
    Ok(found)
}

#[tokio::test]
async fn rows_come_with_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, 250);
    let (place, file) = found(&path).await;
    let number = |n: u64| (n + 1, n.to_string());
    assert_eq!(all(&place, &file, None).await.unwrap(), (0..250).map(number).collect::<Vec<_>>());
    let some = all(&place, &file, Some("n >= 120 AND s LIKE '%5'")).await.unwrap();
    assert_eq!(some, (125..250).step_by(10).map(number).collect::<Vec<_>>());
    let schema = schema(&place, &file).await.unwrap();
    let filter = Filter::parse("n >= 200").unwrap();
    let left = parts(&place, &file, 3, &schema, Some(&filter), 1).await.unwrap();
    let slice = Slice::RowGroup { index: 2, first_row: 201 };
    assert_eq!(
        left.iter().map(|part| (part.file, &part.slice, part.rows)).collect::<Vec<_>>(),
        [(3, &slice, Some(50))]
    );
}

#[tokio::test]
async fn another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, 10);
    let (place, file) = found(&path).await;
    let schema = schema(&place, &file).await.unwrap();
    for (field, kind) in [("n", "OtherType"), ("x", "NoColumn")] {
        let expected = Schema::new(vec![Field::new(field, DataType::Boolean, true)]);
        let error = parts(&place, &file, 0, &expected, None, 1).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{error}");
    }
    write(&path, 11);
    let error = parts(&place, &file, 0, &schema, None, 1).await.unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, 150);
    let whole = fs::read(&path).unwrap();
    let mut broken = 0;
    for step in 0..600 {
        let at = step * whole.len() / 600;
        let mut bytes = whole.clone();
        match step % 3 {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 0xff,
            _ => bytes[at] = bytes[at].wrapping_add(1),
        }
        let path = folder.path().join(format!("{step}.parquet"));
        fs::write(&path, bytes).unwrap();
        let (place, file) = found(&path).await;
        match all(&place, &file, None).await {
            Ok(_) => {}
            Err(DataError::Broken { .. }) => broken += 1,
            Err(other) => panic!("{step}: {other}"),
        }
    }
    assert!(broken > 250, "{broken}");
}
