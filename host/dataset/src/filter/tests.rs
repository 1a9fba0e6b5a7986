use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int64Array,
};
use arrow::array::{
    LargeStringArray, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray, UInt8Array,
};
use arrow::datatypes::Int32Type;

use super::Filter;

/// Five rows: of each column the last is null.
fn batch() -> RecordBatch {
    let words = [Some("apple"), Some("Banana"), Some("10"), Some("2.5"), None];
    let dictionary: DictionaryArray<Int32Type> = words.into_iter().collect();
    let columns: [(&str, ArrayRef); 12] = [
        ("n", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), Some(-4), None]))),
        ("m", Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(4), Some(-4), None]))),
        ("u", Arc::new(UInt8Array::from(vec![Some(0), Some(1), Some(255), Some(7), None]))),
        ("f", Arc::new(Float32Array::from(vec![Some(0.1), Some(-0.0), Some(f32::NAN), Some(5.0), None]))),
        ("s", Arc::new(StringArray::from(words.to_vec()))),
        ("large", Arc::new(LargeStringArray::from(words.to_vec()))),
        ("view", Arc::new(StringViewArray::from(words.to_vec()))),
        ("dictionary", Arc::new(dictionary)),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), Some(false), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(1), Some(365), Some(20_000), None]))),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(0),
                Some(1),
                Some(86_400_000_000),
                Some(-1),
                None,
            ])),
        ),
        (
            "two words",
            Arc::new(
                Decimal128Array::from(vec![Some(150), Some(250), Some(-5), Some(0), None])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn wanted(condition: &str) -> Result<Vec<usize>, String> {
    let batch = batch();
    let filter = Filter::parse(condition).map_err(|error| error.to_string())?;
    filter.check(&batch.schema()).map_err(|error| error.to_string())?;
    let rows = filter.evaluate(&batch).map_err(|error| error.to_string())?;
    assert_eq!((rows.len(), rows.null_count()), (5, 0), "{condition}");
    Ok((0..5).filter(|row| rows.value(*row)).collect())
}

use arrow::array::Array;

#[test]
fn conditions_choose_rows() {
    let table: &[(&str, &[usize])] = &[
        ("n = 2", &[1]),
        ("2 = n", &[1]),
        ("n <> 2", &[0, 2, 3]),
        ("n != 2", &[0, 2, 3]),
        ("n < 2", &[0, 3]),
        ("2 >= n", &[0, 1, 3]),
        ("n > 1.5", &[1, 2]),
        ("n = -4", &[3]),
        ("n = 1.5", &[]),
        ("n = '3'", &[2]),
        ("n = m", &[0, 3]),
        ("n < m", &[2]),
        ("u > 254", &[2]),
        ("u < 300", &[0, 1, 2, 3]),
        ("u > -1", &[0, 1, 2, 3]),
        ("f = 0.1", &[0]),
        ("f = 0", &[1]),
        ("f > 4", &[2, 3]),
        ("s = 'apple'", &[0]),
        ("large = 'apple'", &[0]),
        ("view = 'apple'", &[0]),
        ("dictionary = 'apple'", &[0]),
        ("dictionary = view", &[0, 1, 2, 3]),
        ("s > 3", &[2]),
        ("dictionary <= 2.5", &[3]),
        ("s LIKE '%an%'", &[1]),
        ("view LIKE 'b%'", &[]),
        ("dictionary ILIKE 'b%'", &[1]),
        ("large NOT LIKE '%a%'", &[2, 3]),
        ("ok", &[0, 2]),
        ("NOT ok", &[1, 3]),
        ("ok = FALSE", &[1, 3]),
        ("ok IS NULL", &[4]),
        ("s IS NOT NULL", &[0, 1, 2, 3]),
        ("n IN (1, 3, 9)", &[0, 2]),
        ("n NOT IN (1, 3)", &[1, 3]),
        ("n NOT IN (1, NULL)", &[]),
        ("n IN (1, NULL)", &[0]),
        ("n BETWEEN 1 AND 2", &[0, 1]),
        ("n NOT BETWEEN 1 AND 2", &[2, 3]),
        ("n = NULL", &[]),
        ("NOT (n = NULL)", &[]),
        ("n = 1 OR n IS NULL", &[0, 4]),
        ("n > 0 AND s = 'apple' OR m = 4", &[0, 2]),
        ("n > 0 AND (s = 'apple' OR m = 4)", &[0, 2]),
        ("TRUE", &[0, 1, 2, 3, 4]),
        ("NULL", &[]),
        ("day = DATE '1970-01-02'", &[1]),
        ("day > '1970-01-02'", &[2, 3]),
        ("day < TIMESTAMP '1970-01-02 10:00:00'", &[0, 1]),
        ("at >= TIMESTAMP '1970-01-01 00:00:00.000001'", &[1, 2]),
        ("at >= TIMESTAMP(6) '1970-01-01 00:00:00.000001'", &[1, 2]),
        ("at = '1970-01-02T00:00:00'", &[2]),
        ("\"two words\" = 1.5", &[0]),
        ("\"two words\" > 2.499", &[1]),
        ("\"two words\" < 0", &[2]),
    ];
    for (condition, rows) in table {
        assert_eq!(wanted(condition).as_deref(), Ok(*rows), "{condition}");
    }
}

#[test]
fn what_cannot_be_is_named() {
    let deep = format!("{}n = 1{}", "(".repeat(5_000), ")".repeat(5_000));
    // The parser would read each argument twice.
    let nested = format!("{}1{}", "EB.NE (W := ".repeat(200), ")".repeat(200));
    let chain = format!("n = 1{}", " = 1".repeat(10_000));
    let nots = format!("{} ok", "NOT ".repeat(1_500));
    let long = format!("s = '{}'", "x".repeat(70_000));
    let table: &[(&str, &str)] = &[
        ("", "EOF"),
        ("n =", "EOF"),
        ("n = 1 n", "'n' is not expected"),
        ("n = 1; DROP TABLE x", "is not expected"),
        ("upper(s) = 'A'", "function upper"),
        ("n + 1 = 2", "operator +"),
        ("n IN (SELECT 1)", "a subquery"),
        ("n = ALL (1)", "ALL"),
        ("n = [1]", "'['"),
        (&nested, "function NE"),
        ("CASE WHEN ok THEN 1 END = 1", "CASE"),
        ("CAST(n AS TEXT) = '1'", "CAST"),
        ("s LIKE m", "has to be text"),
        ("s LIKE 'a!%' ESCAPE '!'", "ESCAPE"),
        ("1 = 1", "has to be a column"),
        ("'text'", "is no condition"),
        ("n", "has to be Boolean"),
        ("a.b = 1", "double quotes"),
        ("nothing = 1", "no column 'nothing'"),
        ("n = 'x'", "column 'n' is Int64: it cannot be compared with 'x'"),
        ("n = TRUE", "cannot be compared with true"),
        ("ok = 1", "cannot be compared with 1"),
        ("day = 20000", "cannot be compared with 20000"),
        ("day = 'soon'", "cannot be compared with 'soon'"),
        ("at = '1970-01-01 00:00:00.0000001'", "finer"),
        ("n = s", "cannot be compared"),
        ("n LIKE '1%'", "LIKE is for text"),
        (&deep, "words and operators"),
        (&chain, "words and operators"),
        (&nots, "is not expected"),
        (&long, "bytes"),
    ];
    for (condition, reason) in table {
        let error = wanted(condition).unwrap_err();
        assert!(error.starts_with("where: ") && error.contains(reason), "{condition:.80}: {error}");
    }
}

#[test]
fn bounds_rule_groups_out() {
    let least: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(10), None]));
    let greatest: ArrayRef = Arc::new(Int64Array::from(vec![Some(9), Some(19), None]));
    let bounds = |name: &str| (name == "n").then(|| (Arc::clone(&least), Arc::clone(&greatest)));
    let table = [
        ("n = 12", [false, true, true]),
        ("n < 10", [true, false, true]),
        ("n > 9.5", [false, true, true]),
        ("n <> 3", [true, true, true]),
        ("NOT n < 10", [true, true, true]),
        ("n BETWEEN 20 AND 30", [false, false, true]),
        ("n IN (3, 40)", [true, false, true]),
        ("n = 12 OR other = 1", [true, true, true]),
        ("n = 12 AND other = 1", [false, true, true]),
        ("FALSE", [false, false, false]),
    ];
    for (condition, wanted) in table {
        assert_eq!(Filter::parse(condition).unwrap().possible(3, &bounds), wanted, "{condition}");
    }
}
