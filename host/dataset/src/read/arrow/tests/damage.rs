//! Files that are other than they say, or no Arrow files at all.

use arrow::ipc::writer::StreamWriter;

use super::*;
use crate::read::testing::damaged;

#[tokio::test]
async fn other_files_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let rows = batch(0..10);
    let mut stream = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
    stream.write(&rows).unwrap();
    stream.finish().unwrap();
    write(&path, 10, 10, None);
    let whole = fs::read(&path).unwrap();
    let cases = [
        (stream.into_inner().unwrap(), "stream format"),
        (b"FEA1 and what follows it".to_vec(), "Feather version 1"),
        (b"PAR1 and what follows it".to_vec(), "not begin with ARROW1"),
        (b"ARROW1".to_vec(), "6 bytes"),
        (whole[..whole.len() - 4].to_vec(), "cut off"),
    ];
    for (bytes, reason) in cases {
        fs::write(&path, bytes).unwrap();
        let (place, file) = found(&path).await;
        let error = schema(&place, &file).await.unwrap_err();
        assert!(matches!(error, DataError::Broken { .. }) && error.to_string().contains(reason), "{error}");
    }
}

/// Overwrites the number `old`, wherever it stands.
fn replace(bytes: &mut [u8], old: i64, new: i64) -> usize {
    let places: Vec<_> = bytes
        .windows(8)
        .enumerate()
        .filter(|(_, window)| *window == old.to_le_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in &places {
        bytes[*at..at + 8].copy_from_slice(&new.to_le_bytes());
    }
    places.len()
}

#[tokio::test]
async fn lengths_are_checked_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let rows: ArrayRef = Arc::new(Int64Array::from_iter_values((0..4_321).map(|n| n % 7)));
    let rows = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let written = |compression| {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &rows.schema(), options).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        writer.into_inner().unwrap()
    };
    let lz4 = Some(CompressionType::LZ4_FRAME);
    // The rows of the batch and of its column; the bytes of the buffer, stored and as it says that it decompresses to.
    for (compression, old, reason) in
        [(None, 4_321, "rows"), (None, 4_321 * 8, "says that"), (lz4, 4_321 * 8, "when it is decoded")]
    {
        let mut bytes = written(compression);
        assert!(replace(&mut bytes, old, 1 << 50) > 0);
        fs::write(&path, bytes).unwrap();
        let (place, file) = found(&path).await;
        let error = all(&place, &file, &["n"], None, 1).await.unwrap_err();
        assert!(matches!(error, DataError::Broken { .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let names = ["n", "view", "kind", "list", "text"];
    for (compression, least) in [(None, 220), (Some(CompressionType::ZSTD), 220)] {
        write(&path, 60, 20, compression);
        let whole = fs::read(&path).unwrap();
        let mut broken = 0;
        for step in 0..600 {
            fs::write(&path, damaged(&whole, step)).unwrap();
            let (place, file) = found(&path).await;
            match all(&place, &file, &names, Some("n >= 0"), 1).await {
                Ok((numbers, found)) => assert_eq!(numbers.len(), found.num_rows()),
                Err(DataError::Broken { .. }) => broken += 1,
                Err(other) => panic!("{step}: {other}"),
            }
        }
        assert!(broken > least, "{broken}");
    }
}
