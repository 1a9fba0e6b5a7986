//! Text files, folders of files, and how datasets are found: on files of this machine.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use ::arrow::datatypes::{DataType, Field, FieldRef};
use ::arrow::util::display::array_value_to_string;
use futures_util::StreamExt;

use super::*;
use crate::{Dataset, DatasetOptions, Format, Pattern, Place, Refused};

/// Rows of a dataset, each with its number and its values as text, and those that were refused.
type Read = (Vec<(u64, Vec<String>)>, Vec<Refused>);

async fn open(path: &Path, options: &DatasetOptions) -> Result<Dataset, DataError> {
    Dataset::open(vec![Pattern::new(Place::local(path)?)?], options).await
}

async fn read(
    dataset: &Dataset,
    columns: &[FieldRef],
    filter: Option<&str>,
    part_bytes: u64,
) -> Result<Read, DataError> {
    let filter = filter.map(|filter| Filter::parse(filter).unwrap());
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for part in dataset.parts(filter.as_ref(), part_bytes).await? {
        let wanted =
            Wanted { columns: columns.to_vec(), filter: filter.clone(), batch_rows: 2, batch_bytes: 1 << 20 };
        let mut read = dataset.read(&part, wanted);
        while let Some(some) = read.next().await {
            let some = some?;
            for index in 0..some.batch.num_rows() {
                let value = |column| array_value_to_string(column, index).unwrap();
                rows.push((some.origin.at(index).1, some.batch.columns().iter().map(|c| value(c)).collect()));
            }
            refused.extend(some.refused);
        }
    }
    Ok((rows, refused))
}

fn columns(columns: &[(&str, DataType)]) -> Vec<FieldRef> {
    let field = |(name, data_type): &(&str, DataType)| Arc::new(Field::new(*name, data_type.clone(), true));
    columns.iter().map(field).collect()
}

fn text(names: &[&str]) -> Vec<FieldRef> {
    columns(&names.iter().map(|name| (*name, DataType::Utf8)).collect::<Vec<_>>())
}

fn values(rows: &[(u64, Vec<String>)]) -> Vec<(u64, Vec<&str>)> {
    rows.iter().map(|(number, values)| (*number, values.iter().map(String::as_str).collect())).collect()
}

#[tokio::test]
async fn text_is_cut_at_whole_rows_wherever_parts_end() {
    let csv = "\u{feff}a,b\r\n1,\"x\ny\"\r\n\r\n2,\"q\"\"q, \"\n3,\n4,last";
    let json = "\u{feff}{\"a\": \"1\", \"b\": \"x\\ny\"}\r\n\n{\"a\": \"2\", \"b\": \"q\\\"q, \"}\n{\"b\": \"\", \"a\": \"3\"}\n  \n{\"a\": \"4\", \"b\": \"last\"}";
    let expected = [(1, ["1", "x\ny"]), (2, ["2", "q\"q, "]), (3, ["3", ""]), (4, ["4", "last"])];
    let expected: Vec<_> = expected.iter().map(|(number, row)| (*number, row.to_vec())).collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("a.csv", csv), ("a.jsonl", json)] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let dataset = open(&path, &DatasetOptions::default()).await.unwrap();
        for part_bytes in 1..=content.len() as u64 {
            let (rows, refused) = read(&dataset, &text(&["a", "b"]), None, part_bytes).await.unwrap();
            assert_eq!(values(&rows), expected, "{name} in parts of {part_bytes}");
            assert!(refused.is_empty(), "{refused:?}");
        }
        let (rows, _) = read(&dataset, &text(&["b"]), Some("a > 2"), 8).await.unwrap();
        assert_eq!(values(&rows), [(3, vec![""]), (4, vec!["last"])], "{name}");
    }
    let packed = folder.path().join("packed");
    fs::create_dir(&packed).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(csv.as_bytes()).unwrap();
    fs::write(packed.join("a.csv.gz"), gzip.finish().unwrap()).unwrap();
    fs::write(packed.join("b.csv.zst"), zstd::encode_all(csv.as_bytes(), 1).unwrap()).unwrap();
    let dataset = open(&packed, &DatasetOptions::default()).await.unwrap();
    let (rows, _) = read(&dataset, &text(&["a", "b"]), None, 1).await.unwrap();
    assert_eq!(values(&rows), [expected.clone(), expected].concat());
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fs::write(&path, b"n,t\n1,a\n2\nx,c\n4,\xff\n,e\n6,f\n").unwrap();
    let wanted = columns(&[("n", DataType::Int32), ("t", DataType::Utf8)]);
    let dataset = open(&path, &DatasetOptions::default()).await.unwrap();
    let (rows, refused) = read(&dataset, &wanted, None, 1 << 20).await.unwrap();
    assert_eq!(values(&rows), [(1, vec!["1", "a"]), (5, vec!["", "e"]), (6, vec!["6", "f"])]);
    let told = |refused: &[Refused]| -> Vec<(u64, Option<String>, String)> {
        let mut told: Vec<_> =
            refused.iter().map(|one| (one.row, one.column.clone(), one.message.clone())).collect();
        told.sort();
        told
    };
    let csv = told(&refused);
    assert_eq!(
        csv.iter().map(|(row, column, _)| (*row, column.as_deref())).collect::<Vec<_>>(),
        [(2, None), (3, Some("n")), (4, Some("t")),]
    );
    assert!(
        csv[0].2.contains("1 fields where the header has 2") && csv[1].2.contains("'x' is no Int32"),
        "{csv:?}"
    );

    let path = folder.path().join("a.jsonl");
    let lines = "{\"n\": 1}\n{\"n\": \n{\"n\": 3} {\"n\": 4}\n{\"n\": \"x\"}\n[5]\n{\"n\": null, \"more\": []}\n{\"n\": 1.5}\n";
    fs::write(&path, lines).unwrap();
    let dataset = open(&path, &DatasetOptions::default()).await.unwrap();
    let (rows, refused) = read(&dataset, &columns(&[("n", DataType::Int64)]), None, 1 << 20).await.unwrap();
    assert_eq!(values(&rows), [(1, vec!["1"]), (6, vec![""])]);
    let json = told(&refused);
    assert_eq!(
        json.iter().map(|(row, column, _)| (*row, column.as_deref())).collect::<Vec<_>>(),
        [(2, None), (3, None), (4, Some("n")), (5, None), (7, Some("n")),]
    );

    let path = folder.path().join("b.jsonl");
    fs::write(&path, "{\"l\": [1, 2]}\n{\"l\": [1]}\n{\"l\": [3, 4.5]}\n").unwrap();
    let list = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float64, true)), 2);
    let dataset = open(&path, &DatasetOptions::default()).await.unwrap();
    let (rows, refused) = read(&dataset, &columns(&[("l", list)]), None, 1 << 20).await.unwrap();
    assert_eq!(rows.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(refused.iter().map(|one| one.row).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn files_are_found_by_patterns_and_folders_names_are_columns() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (year, place) in [(2025, "a%20b"), (2026, "c"), (2026, "__HIVE_DEFAULT_PARTITION__")] {
        write(&format!("in/year={year}/place={place}/x.csv"), &format!("n\n{year}\n1\n"));
    }
    write("in/_hidden/x.csv", "other\n");
    write("in/.hidden.csv", "other\n");
    write("in/note.txt", "no data");
    let options = DatasetOptions::default();
    let dataset = open(&folder.path().join("in"), &options).await.unwrap();
    assert_eq!(dataset.partitions(), ["year", "place"]);
    let wanted = text(&["n", "year", "place"]);
    let (rows, _) = read(&dataset, &wanted, None, 1 << 20).await.unwrap();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0].1, ["2025", "2025", "a b"]);
    let (rows, _) =
        read(&dataset, &wanted, Some("year = 2026 AND place IS NULL AND n > 1"), 1 << 20).await.unwrap();
    assert_eq!(values(&rows), [(1, vec!["2026", "2026", ""])]);
    // Of columns of both kinds; and none of the file's own.
    let (rows, _) =
        read(&dataset, &text(&["place"]), Some("n = year AND year < 2026"), 1 << 20).await.unwrap();
    assert_eq!(values(&rows), [(1, vec!["a b"])]);
    let parts = dataset.parts(Some(&Filter::parse("year = '2025'").unwrap()), 1 << 20).await.unwrap();
    assert_eq!(parts.len(), 1);

    let found = async |pattern: &str| {
        let found = open(&folder.path().join(pattern), &DatasetOptions::default()).await;
        found.map(|dataset| dataset.files().len()).map_err(|error| error.to_string())
    };
    let twice = ["in", "in/../in/year=2025", "in/*/*/x.csv"].map(|name| folder.path().join(name));
    let twice = twice.map(|path| Pattern::new(Place::local(path).unwrap()).unwrap());
    // The folder that a pattern begins with gives no columns, so these are of the first alone.
    let error = Dataset::open(twice.to_vec(), &options).await.unwrap_err().to_string();
    assert!(error.contains("name the columns"), "{error}");
    let twice = ["in/**/*.csv", "in/*/*/x.csv", "./in"].map(|name| folder.path().join(name));
    let twice = twice.map(|path| Pattern::new(Place::local(path).unwrap()).unwrap());
    assert_eq!(Dataset::open(twice.to_vec(), &options).await.unwrap().files().len(), 3);
    assert_eq!(found("in/**/*.csv").await, Ok(3));
    assert_eq!(found("in/*/*/x.csv").await, Ok(3));
    assert_eq!(
        found("in/*.csv").await.unwrap_err(),
        format!("{}: there are no files", folder.path().join("in/*.csv").display())
    );
    assert_eq!(found("in/_hidden/*.csv").await, Ok(1));
    assert!(found("in/note.txt").await.unwrap_err().contains("tells no format"));
    write("in/year=2026/place=c/y.jsonl", "{}\n");
    assert!(found("in").await.unwrap_err().contains("files of one format"));
    write("uneven/a=1/x.csv", "n\n");
    write("uneven/x.csv", "n\n");
    assert!(found("uneven").await.unwrap_err().contains("name the columns"));
    write("twice.csv", "n,n\n");
    assert!(found("twice.csv").await.unwrap_err().contains("second 'n'"));
}

#[tokio::test]
async fn each_file_of_a_folder_is_a_row() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("b")).unwrap();
    for (name, content) in [("a b#c.txt", "one"), ("b/c", "three"), ("b/d", "")] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let options = DatasetOptions { format: Some(Format::Files), ..DatasetOptions::default() };
    let dataset = open(folder.path(), &options).await.unwrap();
    let wanted =
        columns(&[("path", DataType::Utf8), ("size", DataType::Int64), ("content", DataType::Binary)]);
    let (rows, _) = read(&dataset, &wanted, None, 1 << 20).await.unwrap();
    let all: Vec<_> = rows.iter().map(|(_, values)| (values[0].as_str(), values[1].as_str())).collect();
    assert_eq!(all, [("a b#c.txt", "3"), ("b/c", "5"), ("b/d", "0")]);
    assert_eq!(dataset.parts(None, 5).await.unwrap().len(), 2);
    let (rows, _) = read(&dataset, &wanted, Some("size > 3"), 1 << 20).await.unwrap();
    assert_eq!(rows.len(), 1);
    fs::remove_file(folder.path().join("b/c")).unwrap();
    let (rows, refused) = read(&dataset, &wanted, None, 1 << 20).await.unwrap();
    assert_eq!((rows.len(), refused.len()), (2, 1));
    fs::write(folder.path().join("b/d"), "changed").unwrap();
    let changed = read(&dataset, &wanted, None, 1 << 20).await.unwrap_err();
    assert!(matches!(changed, DataError::Changed { .. }), "{changed}");
}
