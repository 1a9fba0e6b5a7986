mod damage;

use std::fs;
use std::path::Path;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Int64Array, ListArray, StringArray,
    StringViewArray,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Float32Type, Int32Type};
use arrow::ipc::reader::read_footer_length;
use arrow::ipc::writer::{DictionaryHandling, FileWriter, IpcWriteOptions};
use arrow::ipc::{CompressionType, root_as_footer};
use futures_util::TryStreamExt;

use super::*;
use crate::Origin;
use crate::read::testing::found;

/// Rows `first` to `end`, with a column of each kind that is stored in its own way; every fifth value is null.
fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
    let some = |n: i64| (n % 5 != 0).then_some(n);
    let texts = || rows.clone().map(|n| some(n).map(|n| format!("the text of row {n}")));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone()));
    let nullable: ArrayRef = Arc::new(rows.clone().map(some).collect::<Int64Array>());
    let text: ArrayRef = Arc::new(texts().collect::<StringArray>());
    let view: ArrayRef = Arc::new(texts().collect::<StringViewArray>());
    // The same values whatever the rows: a file has one dictionary.
    let keys = rows.clone().map(|n| some(n).map(|n| n as i32 % 3)).collect();
    let kinds = StringArray::from(vec!["red", "green", "blue"]);
    let kind: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(kinds)));
    let numbers = |n: i64| some(n).map(|n| (0..n % 4).map(|n| Some(n as f32)).collect::<Vec<_>>());
    let list: ArrayRef =
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows.clone().map(numbers)));
    let three = |n: i64| some(n).map(|n| vec![Some(n as f32); 3]);
    let fixed: ArrayRef =
        Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows.clone().map(three), 3));
    RecordBatch::try_from_iter_with_nullable([
        ("n", n, false),
        ("nullable", nullable, true),
        ("text", text, true),
        ("view", view, true),
        ("kind", kind, true),
        ("list", list, true),
        ("fixed", fixed, true),
    ])
    .unwrap()
}

/// Batches of `each` rows.
fn write(path: &Path, rows: i64, each: i64, compression: Option<CompressionType>) {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let schema = batch(0..1).schema();
    let mut writer =
        FileWriter::try_new_with_options(fs::File::create(path).unwrap(), &schema, options).unwrap();
    for first in (0..rows).step_by(each as usize) {
        writer.write(&batch(first..rows.min(first + each))).unwrap();
    }
    writer.finish().unwrap();
}

/// What is read of the named columns, with the row numbers.
async fn all(
    place: &Place,
    file: &File,
    columns: &[&str],
    filter: Option<&str>,
    part_bytes: u64,
) -> Result<(Vec<u64>, RecordBatch), DataError> {
    let filter = filter.map(|text| Filter::parse(text).unwrap());
    let schema = schema(place, file).await?;
    let columns: Vec<_> = columns
        .iter()
        .map(|name| schema.field_with_name(name).cloned().map(Arc::new))
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    let (mut numbers, mut batches) = (Vec::new(), Vec::new());
    for part in parts(place, file, 0, &schema, filter.as_ref(), part_bytes).await? {
        let wanted =
            Wanted { columns: columns.clone(), filter: filter.clone(), batch_rows: 30, batch_bytes: 1 << 20 };
        let found: Vec<Rows> = read(place.clone(), file.clone(), part, wanted).try_collect().await?;
        for rows in found {
            assert!(rows.batch.num_rows() <= 30);
            let Origin::File { rows: found, .. } = rows.origin else { panic!("not of a file") };
            assert_eq!(found.len(), rows.batch.num_rows());
            numbers.extend(found);
            batches.push(rows.batch);
        }
    }
    Ok((numbers, concat_batches(&Arc::new(Schema::new(columns)), &batches).unwrap()))
}

#[tokio::test]
async fn rows_come_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let names = ["fixed", "kind", "view", "text", "list", "nullable", "n"];
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        write(&path, 250, 70, compression);
        let (place, file) = found(&path).await;
        let whole = batch(0..250);
        let order: Vec<_> = names.iter().map(|name| whole.schema().index_of(name).unwrap()).collect();
        let expected = whole.project(&order).unwrap();
        for part_bytes in [1, 20_000, 1 << 30] {
            let (numbers, found) = all(&place, &file, &names, None, part_bytes).await.unwrap();
            assert_eq!(numbers, (1..=250).collect::<Vec<_>>());
            assert_eq!(found, expected);
        }
        let condition = "n >= 120 AND kind = 'red' OR view = 'the text of row 7'";
        let (numbers, found) = all(&place, &file, &names, Some(condition), 1).await.unwrap();
        let left = (0..250).filter(|n| (*n >= 120 && n % 5 != 0 && n % 3 == 0) || *n == 7);
        let left: Int64Array = left.collect();
        assert_eq!(numbers, left.values().iter().map(|n| *n as u64 + 1).collect::<Vec<_>>());
        assert_eq!(found, take_record_batch(&expected, &left).unwrap());
        // The filter's columns need not be among those that are wanted, and those need not be any.
        let (numbers, found) = all(&place, &file, &[], Some("n IN (3, 99)"), 1).await.unwrap();
        assert_eq!((numbers, found.num_columns()), (vec![4, 100], 0));
    }
}

#[tokio::test]
async fn parts_are_batches_of_about_so_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    write(&path, 70, 10, None);
    let (place, file) = found(&path).await;
    let schema = schema(&place, &file).await.unwrap();
    let slices = async |part_bytes| {
        let parts = parts(&place, &file, 4, &schema, None, part_bytes).await.unwrap();
        assert!(parts.iter().all(|part| part.file == 4 && part.bytes > 0));
        let slice = |part: Part| match part.slice {
            Slice::Batches { start, end, first_row } => (start, end, first_row, part.rows.unwrap()),
            other => panic!("{other:?}"),
        };
        (parts.first().unwrap().bytes, parts.into_iter().map(slice).collect::<Vec<_>>())
    };
    let (bytes, each) = slices(1).await;
    assert_eq!(each, (0..7).map(|at| (at, at + 1, 10 * at as u64 + 1, 10)).collect::<Vec<_>>());
    let (_, pairs) = slices(bytes * 5 / 2).await;
    assert_eq!(pairs, [(0, 2, 1, 20), (2, 4, 21, 20), (4, 6, 41, 20), (6, 7, 61, 10)]);
    assert_eq!(slices(u64::MAX).await.1, [(0, 7, 1, 70)]);
}

#[tokio::test]
async fn pieces_have_about_so_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    write(&path, 1_000, 1_000, None);
    let (place, file) = found(&path).await;
    let schema = schema(&place, &file).await.unwrap();
    let part = parts(&place, &file, 0, &schema, None, 1).await.unwrap().remove(0);
    for (name, rows) in [("n", 100), ("view", 20)] {
        let columns = vec![Arc::new(schema.field_with_name(name).unwrap().clone())];
        let wanted = Wanted { columns, filter: None, batch_rows: 1_000, batch_bytes: 813 };
        let found: Vec<Rows> =
            read(place.clone(), file.clone(), part.clone(), wanted).try_collect().await.unwrap();
        let most = found.iter().map(|rows| rows.batch.num_rows()).max().unwrap();
        assert!((rows..=rows * 2).contains(&most), "{name}: {most}");
    }
}

#[tokio::test]
async fn another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    write(&path, 10, 10, None);
    let (place, file) = found(&path).await;
    let schema = schema(&place, &file).await.unwrap();
    for (field, kind) in [("n", "OtherType"), ("x", "NoColumn")] {
        let expected = Schema::new(vec![Field::new(field, DataType::Boolean, true)]);
        let error = parts(&place, &file, 0, &expected, None, 1).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{error}");
    }
    let part = parts(&place, &file, 0, &schema, None, 1).await.unwrap().remove(0);
    let wanted = || Wanted { columns: Vec::new(), filter: None, batch_rows: 1, batch_bytes: 1 };
    let other = Part { slice: Slice::Batches { start: 1, end: 2, first_row: 1 }, ..part.clone() };
    for other in [other, Part { slice: Slice::Whole, ..part.clone() }] {
        let error = read(place.clone(), file.clone(), other, wanted()).try_next().await.unwrap_err();
        assert!(matches!(error, DataError::Broken { .. }), "{error}");
    }
    write(&path, 11, 11, None);
    let error = read(place, file, part, wanted()).try_next().await.unwrap_err();
    assert!(matches!(error, DataError::Changed { .. }), "{error}");
}

/// Arrow's C++ library says version 5 in the footer of any file.
#[tokio::test]
async fn messages_may_be_of_another_version_than_the_footer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let options = IpcWriteOptions::try_new(8, true, MetadataVersion::V4).unwrap();
    let mut writer = FileWriter::try_new_with_options(Vec::new(), &batch(0..1).schema(), options).unwrap();
    writer.write(&batch(0..50)).unwrap();
    writer.finish().unwrap();
    let bytes = writer.into_inner().unwrap();
    let end = bytes.len() - 10;
    let length = read_footer_length(*bytes.last_chunk().unwrap()).unwrap();
    let version =
        |bytes: &[u8]| root_as_footer(&bytes[end - length..end]).ok().map(|footer| footer.version());
    assert_eq!(version(&bytes), Some(MetadataVersion::V4));
    let patched = (end - length..end).find_map(|at| {
        let mut bytes = bytes.clone();
        bytes[at] = MetadataVersion::V5.0 as u8;
        (version(&bytes) == Some(MetadataVersion::V5)).then_some(bytes)
    });
    fs::write(&path, patched.unwrap()).unwrap();
    let (place, file) = found(&path).await;
    let (numbers, rows) = all(&place, &file, &["kind", "list", "n"], None, 1).await.unwrap();
    assert_eq!((numbers.len(), rows), (50, batch(0..50).project(&[4, 5, 0]).unwrap()));
}

#[tokio::test]
async fn dictionaries_may_grow_but_not_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let words = ["red", "green", "blue", "white"];
    let batch = |known: usize| {
        let keys = (0..known as i32).collect();
        let values = StringArray::from(words[..known].to_vec());
        let kind: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)));
        RecordBatch::try_from_iter([("kind", kind)]).unwrap()
    };
    let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
    let file = fs::File::create(&path).unwrap();
    let mut writer = FileWriter::try_new_with_options(file, &batch(1).schema(), options).unwrap();
    for known in [1, 3, 4] {
        writer.write(&batch(known)).unwrap();
    }
    writer.finish().unwrap();
    let (place, file) = found(&path).await;
    let (_, rows) = all(&place, &file, &["kind"], None, 1).await.unwrap();
    let kinds = rows.column(0).as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap();
    let expected = [&words[..1], &words[..3], &words].concat();
    assert_eq!(kinds.into_iter().flatten().collect::<Vec<_>>(), expected);

    let source = Source::new(&place, &file);
    let dictionaries = footer::of(&source).await.unwrap().dictionaries;
    assert_eq!(dictionaries.len(), 3);
    let first = dictionaries.first().unwrap();
    let bytes = source.range(footer::range(first)).await.unwrap();
    let mut known = message::Dictionaries::default();
    known.check(first, &bytes).unwrap();
    let error = known.check(first, &bytes).unwrap_err();
    assert!(error.contains("two dictionaries"), "{error}");
}
