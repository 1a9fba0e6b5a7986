use std::sync::Arc;

use arrow::array::{BinaryArray, FixedSizeListArray, Float32Array, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, UnionFields, UnionMode};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;

fn rows(lists: bool) -> RecordBatch {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let mut fields = vec![Field::new("id", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), None, Some(3)])),
        Arc::new(StringArray::from(vec![Some("a,\"b\""), Some("ä\n"), None])),
    ];
    if lists {
        fields.push(Field::new("list", DataType::FixedSizeList(Arc::clone(&item), 2), false));
        let values = Arc::new(Float32Array::from(vec![1.0, 2.5, -3.0, 4.0, 5.0, 0.1]));
        columns.push(Arc::new(FixedSizeListArray::try_new(item, 2, values, None).unwrap()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

use arrow::array::ArrayRef;

fn options(format: Format, batch: &RecordBatch, staging: &Place) -> WriterOptions {
    WriterOptions { format, schema: batch.schema(), staging: staging.clone() }
}

async fn written(format: Format, batch: &RecordBatch, place: &Place) -> Vec<u8> {
    let mut writer = Writer::create(place.clone(), options(format, batch, place)).await.unwrap();
    writer.write(batch).await.unwrap();
    writer.write(&batch.slice(1, 2)).await.unwrap();
    assert_eq!(place.get().await.unwrap(), None, "it is not there yet");
    let written = writer.finish().await.unwrap();
    let bytes = place.get().await.unwrap().unwrap();
    assert_eq!(written, Written { rows: 5, bytes: bytes.len() as u64 });
    bytes.to_vec()
}

fn memory() -> Place {
    Place { store: Arc::new(InMemory::new()), path: "out/a".into(), shown: "out/a".into(), local: None }
}

#[tokio::test]
async fn every_format_is_read_as_it_was_written() {
    let batch = rows(true);
    let expected = arrow::compute::concat_batches(&batch.schema(), [&batch, &batch.slice(1, 2)]).unwrap();
    let bytes = written(Format::Parquet, &batch, &memory()).await;
    let mut read =
        parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(bytes::Bytes::from(bytes), 100)
            .unwrap();
    assert_eq!(read.next().unwrap().unwrap(), expected);
    let bytes = written(Format::Arrow, &batch, &memory()).await;
    let read = arrow::ipc::reader::FileReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
    let read: Vec<_> = read.map(Result::unwrap).collect();
    assert_eq!(arrow::compute::concat_batches(&batch.schema(), &read).unwrap(), expected);
    let text = String::from_utf8(written(Format::Jsonl, &batch, &memory()).await).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], r#"{"id":1,"text":"a,\"b\"","list":[1.0,2.5]}"#);
    assert_eq!(lines[2], r#"{"id":3,"text":null,"list":[5.0,0.1]}"#);
    let text = String::from_utf8(written(Format::Csv, &rows(false), &memory()).await).unwrap();
    assert!(text.starts_with("id,text\n1,\"a,\"\"b\"\"\"\n,\"ä\n\"\n3,\n"), "{text}");
}

#[tokio::test]
async fn a_file_of_this_machine_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let root = Place::local(folder.path()).unwrap();
    let (place, staging, batch) = (root.child("a.csv"), root.child("_staging"), rows(false));
    let mut writer = Writer::create(place.clone(), options(Format::Csv, &batch, &staging)).await.unwrap();
    writer.write(&batch).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("_staging")).unwrap().count(), 1);
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path().join("_staging")).unwrap().count(), 0);
    assert_eq!(place.get().await.unwrap(), None);
    for _ in 0..2 {
        let writer = Writer::create(place.clone(), options(Format::Csv, &batch, &staging)).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(place.get().await.unwrap().unwrap(), "id,text\n");
    }
}

#[tokio::test]
async fn a_large_file_is_uploaded_in_pieces() {
    let place = memory();
    let schema = Arc::new(Schema::new(vec![Field::new("bytes", DataType::Binary, false)]));
    let mut random = fastrand::Rng::with_seed(1);
    let value: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(3 << 20).collect();
    let batch = RecordBatch::try_new(schema, vec![Arc::new(BinaryArray::from_iter_values([value]))]).unwrap();
    let mut writer = Writer::create(place.clone(), options(Format::Arrow, &batch, &place)).await.unwrap();
    for _ in 0..8 {
        writer.write(&batch).await.unwrap();
    }
    assert_eq!(place.get().await.unwrap(), None);
    let written = writer.finish().await.unwrap();
    assert!(written.bytes > 24 << 20);
    assert_eq!(place.store.head(&place.path).await.unwrap().size, written.bytes);
}

#[tokio::test]
async fn what_a_format_cannot_hold_is_refused() {
    let bytes = Arc::new(Schema::new(vec![Field::new("b", DataType::Binary, false)]));
    for (format, schema) in
        [(Format::Csv, rows(true).schema()), (Format::Csv, Arc::clone(&bytes)), (Format::Jsonl, bytes)]
    {
        let error = Writer::check(format, &schema).unwrap_err().to_string();
        assert!(error.contains("cannot hold") && error.contains("parquet"), "{error}");
    }
    let of = |data_type| Arc::new(Schema::new(vec![Field::new("b", data_type, true)]));
    let list = |data_type| DataType::List(Arc::new(Field::new_list_field(data_type, true)));
    let fields = UnionFields::from_fields([Field::new("n", DataType::Int8, true)]);
    let union = || DataType::Union(fields.clone(), UnionMode::Dense);
    let keyed = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Binary));
    for (format, data_type) in [
        (Format::Jsonl, list(keyed)),
        (Format::Jsonl, union()),
        (Format::Parquet, union()),
        (Format::Parquet, list(union())),
        (Format::Parquet, DataType::Interval(IntervalUnit::MonthDayNano)),
        (Format::Parquet, DataType::Struct(Fields::empty())),
    ] {
        let error = Writer::check(format, &of(data_type)).unwrap_err().to_string();
        assert!(error.contains("cannot hold") && error.contains("arrow"), "{error}");
    }
    // Whatever Arrow has, its own format holds.
    assert!(Writer::check(Format::Arrow, &of(list(union()))).is_ok());
    let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float32, false)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::new(Float32Array::from(vec![f32::NAN]))]).unwrap();
    let place = memory();
    let mut writer = Writer::create(place.clone(), options(Format::Jsonl, &batch, &place)).await.unwrap();
    let error = writer.write(&batch).await.unwrap_err().to_string();
    assert!(error.contains("'x'") && error.contains("no number"), "{error}");
}
