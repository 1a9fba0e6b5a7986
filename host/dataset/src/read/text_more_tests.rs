//! Text files, further: refused rows at any cut, packed files, files that change or are none, types that are said.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::arrow::array::Array;
use ::arrow::datatypes::{DataType, Field, FieldRef};
use ::arrow::util::display::array_value_to_string;
use futures_util::StreamExt;

use super::Wanted;
use crate::{DataError, Dataset, DatasetOptions, Filter, Format, Pattern, Place};

/// The rows, each with its number and its values as text; and those refused: number, column and why.
type Read = (Vec<(u64, Vec<String>)>, Vec<(u64, Option<String>, String)>);

/// Rows that are read; the number and column of each that is refused; how many rows there are.
type Expected<'a> = (&'a [(u64, &'a [&'a str])], &'a [(u64, Option<&'a str>)], u64);

const CSV: &[u8] =
    b"\xef\xbb\xbfn,s\r\n1,a\r\n\r\n2,b,c\r\nx,\"d\r\nd\"\r\n4,\xff\r\n,\"\"\r\n6,\"f,\"\"f\"\"\nf\"";
const JSON: &[u8] = b"\xef\xbb\xbf{\"n\":1,\"s\":\"a\"}\r\n{\"n\":2\n \t\r\n{\"n\":3,\"s\":\"c\"}{\"n\":3,\"s\":\"c\"}\n\
    {\"n\":\"x\",\"s\":\"d\"}\n{\"n\":5,\"s\":5}\n[6]\n{\"n\":null,\"more\":{\"x\":[1]}}\n{\"s\":\"h\",\"n\":8}";

fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

async fn open(path: &Path, types: &[(&str, DataType)]) -> Result<Dataset, DataError> {
    let types = types.iter().map(|(name, data_type)| ((*name).to_owned(), data_type.clone())).collect();
    let options = DatasetOptions { types, ..DatasetOptions::default() };
    Dataset::open(vec![Pattern::new(Place::local(path)?)?], &options).await
}

async fn read(
    dataset: &Dataset,
    names: &[&str],
    filter: Option<&str>,
    part_bytes: u64,
) -> Result<Read, DataError> {
    let field = |name: &&str| Arc::new(dataset.schema().field_with_name(name).unwrap().clone());
    let columns: Vec<FieldRef> = names.iter().map(field).collect();
    let filter = filter.map(|filter| Filter::parse(filter).unwrap());
    let batch_rows = if part_bytes.is_multiple_of(2) { 2 } else { 1000 };
    let (mut rows, mut refused): Read = (Vec::new(), Vec::new());
    for part in dataset.parts(filter.as_ref(), part_bytes).await? {
        let (columns, filter) = (columns.clone(), filter.clone());
        let mut stream = dataset.read(&part, Wanted { columns, filter, batch_rows, batch_bytes: 1 << 20 });
        while let Some(some) = stream.next().await {
            let some = some?;
            for index in 0..some.batch.num_rows() {
                let value = |column: &Arc<dyn Array>| array_value_to_string(column.as_ref(), index).unwrap();
                rows.push((some.origin.at(index).1, some.batch.columns().iter().map(value).collect()));
            }
            refused.extend(some.refused.into_iter().map(|one| (one.row, one.column, one.message)));
        }
    }
    refused.sort();
    Ok((rows, refused))
}

fn rows(expected: &[(u64, &[&str])]) -> Vec<(u64, Vec<String>)> {
    let row = |values: &[&str]| -> Vec<String> { values.iter().map(|value| (*value).to_owned()).collect() };
    expected.iter().map(|(number, values)| (*number, row(values))).collect()
}

fn types() -> [(&'static str, DataType); 2] {
    [("n", DataType::Int64), ("s", DataType::Utf8)]
}

#[tokio::test]
async fn refused_rows_keep_their_numbers_wherever_parts_end_and_in_packed_files() {
    let folder = tempfile::tempdir().unwrap();
    let of_csv: Expected<'_> = (
        &[(1, &["1", "a"]), (5, &["", ""]), (6, &["6", "f,\"f\"\nf"])],
        &[(2, None), (3, Some("n")), (4, Some("s"))],
        6,
    );
    let of_json: Expected<'_> = (
        &[(1, &["1", "a"]), (7, &["", ""]), (8, &["8", "h"])],
        &[(2, None), (3, None), (4, Some("n")), (5, Some("s")), (6, None)],
        8,
    );
    for (name, content, (expected, places, count)) in [("a.csv", CSV, of_csv), ("a.jsonl", JSON, of_json)] {
        let dataset = open(&write(folder.path(), name, content), &types()).await.unwrap();
        let whole = read(&dataset, &["n", "s"], None, u64::MAX).await.unwrap();
        assert_eq!(whole.0, rows(expected), "{name}");
        let told: Vec<_> = whole.1.iter().map(|(row, column, _)| (*row, column.as_deref())).collect();
        assert_eq!(told, places, "{name}: {:?}", whole.1);
        for part_bytes in 1..content.len() as u64 {
            let cut = read(&dataset, &["n", "s"], None, part_bytes).await.unwrap();
            assert_eq!(cut, whole, "{name} in parts of {part_bytes}");
            let parts = dataset.parts(None, part_bytes).await.unwrap();
            assert_eq!(parts.iter().map(|part| part.rows.unwrap()).sum::<u64>(), count, "{name}");
        }
        // Two streams behind each other are one file.
        let gzip = |half: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(half).unwrap();
            gzip.finish().unwrap()
        };
        let zstd = |half: &[u8]| zstd::stream::encode_all(half, 1).unwrap();
        let (one, two) = content.split_at(content.len() / 2);
        for (ending, packed) in [("gz", [gzip(one), gzip(two)]), ("zst", [zstd(one), zstd(two)])] {
            let (name, packed) = (format!("{name}.{ending}"), packed.concat());
            let dataset = open(&write(folder.path(), &name, &packed), &types()).await.unwrap();
            assert_eq!(read(&dataset, &["n", "s"], None, 3).await.unwrap(), whole, "{name}");
            let cut = write(folder.path(), &format!("cut.{name}"), &packed[..packed.len() - 9]);
            let failed = match open(&cut, &types()).await {
                Ok(dataset) => read(&dataset, &["n"], None, 3).await.unwrap_err(),
                Err(error) => error,
            };
            assert!(matches!(failed, DataError::Broken { .. }), "{name}: {failed}");
        }
    }
}

#[tokio::test]
async fn a_file_that_changed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("a.csv", CSV.to_vec()), ("a.jsonl", JSON.to_vec())] {
        let zipped = zstd::stream::encode_all(&content[..], 1).unwrap();
        for (name, content) in [(name.to_owned(), content), (format!("{name}.zst"), zipped)] {
            let path = write(folder.path(), &name, &content);
            let dataset = open(&path, &types()).await.unwrap();
            let part = dataset.parts(None, u64::MAX).await.unwrap().remove(0);
            let columns = dataset.schema().fields().to_vec();
            let wanted = Wanted { columns, filter: None, batch_rows: 10, batch_bytes: 1 << 20 };
            write(folder.path(), &name, [&content[..], &content[..]].concat());
            let changed = dataset.read(&part, wanted.clone()).next().await.unwrap().unwrap_err();
            assert!(matches!(changed, DataError::Changed { .. }), "{name}: {changed}");
            fs::remove_file(&path).unwrap();
            let gone = dataset.read(&part, wanted).next().await.unwrap().unwrap_err();
            assert!(matches!(gone, DataError::Object { .. }), "{name}: {gone}");
        }
    }
}

#[tokio::test]
async fn what_is_no_dataset_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broken: [(&str, &[u8], &str); 6] = [
        ("twice.csv", b"a,b,a\n1,2,3\n", "column 3 is a second 'a'"),
        ("empty.csv", b"\n\n", "it is empty"),
        ("unnamed.csv", b"a,,c\n", "column 2 has no name"),
        ("latin.csv", b"caf\xe9,b\n", "no UTF-8"),
        ("empty.jsonl", b"", "no JSON objects"),
        ("lines.jsonl", b"[1]\n2\n", "no JSON objects"),
    ];
    for (name, content, expected) in broken {
        let error = open(&write(folder.path(), name, content), &[]).await.unwrap_err();
        assert!(matches!(error, DataError::Broken { .. }), "{name}: {error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    write(folder.path(), "fewer/1.csv", "a,b\n");
    write(folder.path(), "fewer/2.csv", "a\n1\n");
    let error =
        open(&folder.path().join("fewer"), &[]).await.unwrap().parts(None, 1 << 20).await.unwrap_err();
    assert!(matches!(&error, DataError::NoColumn { column, .. } if column == "b"), "{error}");

    fs::create_dir(folder.path().join("nothing")).unwrap();
    write(folder.path(), "other/a.txt", "a\n1\n");
    write(folder.path(), "other/_a.csv", "a\n1\n");
    write(folder.path(), "other/.a.csv", "a\n1\n");
    write(folder.path(), "other/_a/a.csv", "a\n1\n");
    for name in ["nothing", "missing", "missing.csv", "other", "other/?.csv", "*/b.csv"] {
        let error = open(&folder.path().join(name), &[]).await.unwrap_err();
        assert!(matches!(error, DataError::Nothing { .. }), "{name}: {error}");
    }
    for (name, found) in [("other/_a.csv", 1), ("other/?a.csv", 0), ("other/[_]a/*", 0), ("**/2.csv", 1)] {
        let files = open(&folder.path().join(name), &[]).await.map_or(0, |dataset| dataset.files().len());
        assert_eq!(files, found, "{name}");
    }
    let pattern = Pattern::new(Place::local(folder.path().join("other")).unwrap()).unwrap();
    let options = DatasetOptions { format: Some(Format::Csv), ..DatasetOptions::default() };
    // A format that is said is that of each file, and a file that two patterns find is one.
    let dataset = Dataset::open(vec![pattern.clone(), pattern], &options).await.unwrap();
    assert_eq!(dataset.files().len(), 1);
    assert_eq!(read(&dataset, &["a"], None, 1).await.unwrap().0, rows(&[(1, &["1"])]));
}

#[tokio::test]
async fn folders_names_have_types_and_are_compared_with_columns() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in/year=2025/a.csv", "n\n1\n2\n");
    write(folder.path(), "in/year=2026/a.csv", "n\n3\n9,9\n4\n");
    let dataset = open(&folder.path().join("in"), &[("year", DataType::Int32)]).await.unwrap();
    assert_eq!(*dataset.schema().field(1), Field::new("year", DataType::Int32, true));
    let all: [(u64, &[&str]); 4] =
        [(1, &["1", "2025"]), (2, &["2", "2025"]), (1, &["3", "2026"]), (3, &["4", "2026"])];
    let conditions: [(Option<&str>, usize, &[usize]); 6] = [
        (None, 2, &[0, 1, 2, 3]),
        (Some("year > 2025"), 1, &[2, 3]),
        (Some("year > 2025 OR n = '1'"), 2, &[0, 2, 3]),
        (Some("year = 2026 AND (year = 2025 OR n > 3)"), 1, &[3]),
        (Some("NOT year = 2026 AND n <> '1'"), 1, &[1]),
        (Some("year IS NULL"), 0, &[]),
    ];
    for (condition, parts, kept) in conditions {
        let filter = condition.map(|condition| Filter::parse(condition).unwrap());
        assert_eq!(dataset.parts(filter.as_ref(), 1 << 20).await.unwrap().len(), parts, "{condition:?}");
        let (got, refused) = read(&dataset, &["n", "year"], condition, 1 << 20).await.unwrap();
        let expected: Vec<_> = kept.iter().map(|index| all[*index]).collect();
        assert_eq!(got, rows(&expected), "{condition:?}");
        assert!(refused.iter().all(|(row, ..)| *row == 2), "{refused:?}");
        let (years, _) = read(&dataset, &["year"], condition, 2).await.unwrap();
        let expected: Vec<_> = got.iter().map(|(row, values)| (*row, vec![values[1].clone()])).collect();
        assert_eq!(years, expected, "{condition:?}");
    }
    write(folder.path(), "odd/year=x/a.csv", "n\n1\n");
    let dataset = open(&folder.path().join("odd"), &[("year", DataType::Int32)]).await.unwrap();
    let error = read(&dataset, &["year"], None, 1 << 20).await.unwrap_err();
    assert!(matches!(&error, DataError::Broken { column: Some(name), .. } if name == "year"), "{error}");
    write(folder.path(), "both/n=1/a.csv", "n\n1\n");
    let error = open(&folder.path().join("both"), &[]).await.unwrap_err();
    assert!(matches!(error, DataError::Setting { field: "input.url", .. }), "{error}");
}

#[tokio::test]
async fn what_files_hold_is_read_where_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("b/c", "three"), ("a.bin", "hi"), ("_a", "no"), (".b/c", "no")] {
        write(folder.path(), name, content);
    }
    let options = DatasetOptions { format: Some(Format::Files), ..DatasetOptions::default() };
    let pattern = Pattern::new(Place::local(folder.path()).unwrap()).unwrap();
    let dataset = Dataset::open(vec![pattern], &options).await.unwrap();
    let all = rows(&[(1, &["6869", "a.bin", "2"]), (1, &["7468726565", "b/c", "5"])]);
    for part_bytes in [0, 5, 100] {
        assert_eq!(read(&dataset, &["content", "path", "size"], None, part_bytes).await.unwrap().0, all);
    }
    let error = read(&dataset, &["path"], Some("content IS NULL"), 1).await.unwrap_err();
    assert!(matches!(error, DataError::Setting { field: "where", .. }), "{error}");
    fs::remove_file(folder.path().join("a.bin")).unwrap();
    let (got, refused) = read(&dataset, &["path"], Some("size < 3"), 1).await.unwrap();
    assert_eq!((got, refused.len()), (rows(&[(1, &["a.bin"])]), 0), "nothing of it is read");
}

// From here on: what the contracts say, and the code, as it was read and not run, does not do.

#[tokio::test]
async fn json_is_filtered_by_columns_that_are_not_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", "{\"n\":1,\"s\":\"a\"}\n{\"n\":2,\"s\":\"b\"}\n");
    let dataset = open(&path, &[]).await.unwrap();
    let read = read(&dataset, &["s"], Some("n > 1"), 1 << 20).await.unwrap();
    assert_eq!(read, (rows(&[(2, &["b"])]), Vec::new()));
}

#[tokio::test]
async fn a_type_that_is_said_stands_against_what_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", "{\"n\":1}\n{\"n\":{\"x\":1}}\n{\"n\":3}\n");
    let dataset = open(&path, &[("n", DataType::Int64)]).await.unwrap();
    let (got, refused) = read(&dataset, &["n"], None, 1 << 20).await.unwrap();
    assert_eq!((got, refused.len()), (rows(&[(1, &["1"]), (3, &["3"])]), 1));
}

#[tokio::test]
async fn columns_of_json_have_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1}\n");
    let first = open(&path, &[]).await.unwrap();
    for _ in 0..5 {
        assert_eq!(open(&path, &[]).await.unwrap().schema(), first.schema());
    }
}

#[tokio::test]
async fn lines_that_are_no_objects_do_not_make_one_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "a.jsonl", "{\"s\":\"a\"}{\"s\":\"b\"}\n{\"s\":\"}\n{\"}\n");
    let dataset = open(&path, &[("s", DataType::Utf8)]).await.unwrap();
    let (got, refused) = read(&dataset, &["s"], None, 1 << 20).await.unwrap();
    assert_eq!((got.len(), refused.len()), (0, 3), "{got:?}");
}

#[tokio::test]
async fn a_row_that_begins_with_a_mark_keeps_it_in_any_part() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = open(&write(folder.path(), "a.csv", "a\n1\n\u{feff}2\n"), &[]).await.unwrap();
    let whole = read(&dataset, &["a"], None, 1 << 20).await.unwrap();
    assert_eq!(read(&dataset, &["a"], None, 1).await.unwrap(), whole);
}
