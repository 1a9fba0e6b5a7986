use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use futures_util::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::Origin;
use crate::read::testing::{damaged, found};

/// `n` counts from 0 and `s` is its text.
fn numbers(rows: i64) -> RecordBatch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let s: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|n| n.to_string())));
    RecordBatch::try_from_iter([("n", n), ("s", s)]).unwrap()
}

/// Text as it is, viewed, and by dictionary, in the order of its rows; every seventh is null.
fn texts(rows: i64) -> RecordBatch {
    let texts = || (0..rows).map(|n| (n % 7 != 0).then(|| format!("row number {n:04}")));
    let plain: ArrayRef = Arc::new(texts().collect::<StringArray>());
    let view: ArrayRef = Arc::new(texts().collect::<StringViewArray>());
    let keyed: ArrayRef =
        Arc::new(texts().collect::<Vec<_>>().iter().map(Option::as_deref).collect::<Keyed>());
    RecordBatch::try_from_iter([("plain", plain), ("view", view), ("keyed", keyed)]).unwrap()
}

type Keyed = DictionaryArray<Int32Type>;

/// Row groups of 100.
fn write(path: &Path, batch: &RecordBatch) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let mut writer =
        ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

async fn all(place: &Place, file: &File, filter: Option<&str>) -> Result<Vec<(u64, String)>, DataError> {
    let filter = filter.map(|text| Filter::parse(text).unwrap());
    let schema = schema(place, file).await?;
    let mut found = Vec::new();
    for part in parts(place, file, 0, &schema, filter.as_ref()).await? {
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
    write(&path, &numbers(250));
    let (place, file) = found(&path).await;
    let number = |n: u64| (n + 1, n.to_string());
    assert_eq!(all(&place, &file, None).await.unwrap(), (0..250).map(number).collect::<Vec<_>>());
    let some = all(&place, &file, Some("n >= 120 AND s LIKE '%5'")).await.unwrap();
    assert_eq!(some, (125..250).step_by(10).map(number).collect::<Vec<_>>());
    let schema = schema(&place, &file).await.unwrap();
    let filter = Filter::parse("n >= 200").unwrap();
    let left = parts(&place, &file, 3, &schema, Some(&filter)).await.unwrap();
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
    write(&path, &numbers(10));
    let (place, file) = found(&path).await;
    let schema = schema(&place, &file).await.unwrap();
    for (field, kind) in [("n", "OtherType"), ("x", "NoColumn")] {
        let expected = Schema::new(vec![Field::new(field, DataType::Boolean, true)]);
        let error = parts(&place, &file, 0, &expected, None).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{error}");
    }
    let other = folder.path().join("b.parquet");
    let text = numbers(10).project(&[1]).unwrap().columns().to_vec();
    write(
        &other,
        &RecordBatch::try_new(Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)])), text)
            .unwrap(),
    );
    let (other, second) = found(&other).await;
    let error = parts(&other, &second, 1, &schema, None).await.unwrap_err().to_string();
    assert!(error.contains("b.parquet: column 'n' is Utf8; in the files before it is Int64"), "{error}");
    let part = parts(&place, &file, 0, &schema, None).await.unwrap().remove(0);
    write(&path, &numbers(11));
    let error = parts(&place, &file, 0, &schema, None).await.unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
    let wanted = Wanted { columns: schema.fields().to_vec(), filter: None, batch_rows: 1, batch_bytes: 1 };
    let error = read(place, file, part, wanted).try_next().await.unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
}

#[tokio::test]
async fn text_keeps_its_type_and_rules_row_groups_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let written = texts(350);
    write(&path, &written);
    let (place, file) = found(&path).await;
    let schema = schema(&place, &file).await.unwrap();
    assert_eq!(schema.fields(), written.schema().fields());
    let filtered = async |condition: Option<&str>| {
        let filter = condition.map(|condition| Filter::parse(condition).unwrap());
        let parts = parts(&place, &file, 0, &schema, filter.as_ref()).await.unwrap();
        let mut batches = Vec::new();
        for part in &parts {
            let columns = schema.fields().to_vec();
            let wanted = Wanted { columns, filter: filter.clone(), batch_rows: 64, batch_bytes: 1 << 20 };
            let rows = read(place.clone(), file.clone(), part.clone(), wanted);
            batches.extend(rows.map_ok(|rows| rows.batch).try_collect::<Vec<_>>().await.unwrap());
        }
        (parts.len(), concat_batches(&schema, &batches).unwrap())
    };
    assert_eq!(filtered(None).await, (4, written.clone()));
    for column in ["plain", "view", "keyed"] {
        let (groups, rows) = filtered(Some(&format!("{column} > 'row number 0342'"))).await;
        assert_eq!((column, groups, rows), (column, 1, written.slice(344, 6)));
        let (groups, rows) = filtered(Some(&format!("{column} = 'row number 0108'"))).await;
        assert_eq!((column, groups, rows), (column, 1, written.slice(108, 1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write(&path, &numbers(150));
    let whole = fs::read(&path).unwrap();
    let mut broken = 0;
    for step in 0..600 {
        let path = folder.path().join(format!("{step}.parquet"));
        fs::write(&path, damaged(&whole, step)).unwrap();
        let (place, file) = found(&path).await;
        match all(&place, &file, None).await {
            Ok(_) => {}
            Err(DataError::Broken { .. }) => broken += 1,
            Err(other) => panic!("{step}: {other}"),
        }
    }
    assert!(broken > 250, "{broken}");
}
