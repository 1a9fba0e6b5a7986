use std::sync::Arc;

use arrow::array::{
    Array, AsArray, FixedSizeListArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use serde_json::{Value, json};
use vespid_dataset::Format;
use vespid_types::{Shape, Signature, Tensor};

use super::*;
use crate::spec::JobSpec;

fn job(more: &Value) -> JobSpec {
    let mut job = json!({"model": "m", "input": {"url": "in"}, "output": {"url": "out"}});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    JobSpec::from_json(job.to_string().as_bytes()).unwrap()
}

fn signature() -> Signature {
    serde_json::from_value(json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}, {"name": "t", "datatype": "BYTES", "shape": [-1]}],
    }))
    .unwrap()
}

fn plan(job: &JobSpec, signature: &Signature, schema: &Schema, output: Format) -> Result<Mapping, String> {
    let columns = Columns { schema, format: Format::Parquet, partitions: &[] };
    Mapping::plan(MappingOptions { choices: job.into(), signature, columns, output })
        .map_err(|error| error.to_string())
}

/// Rows of two columns of numbers, a list of two and a text.
fn rows() -> RecordBatch {
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let fields = vec![
        Field::new("a", DataType::Float64, true),
        Field::new("b", DataType::Int64, true),
        Field::new("l", DataType::FixedSizeList(Arc::clone(&item), 2), true),
        Field::new("s", DataType::Utf8, true),
    ];
    let values = Arc::new(Float32Array::from_iter_values((0..8_u8).map(f32::from)));
    RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        vec![
            Arc::new(Float64Array::from(vec![Some(1.0), None, Some(1e300), Some(f64::INFINITY)])),
            Arc::new(Int64Array::from(vec![5, 6, 7, 8])),
            Arc::new(FixedSizeListArray::try_new(item, 2, values, None).unwrap()),
            Arc::new(StringArray::from(vec!["p", "q", "r", "s"])),
        ],
    )
    .unwrap()
}

fn numbers(call: &Call) -> Vec<f32> {
    call.inputs[0]
        .tensor
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

#[test]
fn a_list_is_a_tensor_as_it_is() {
    let batch = rows();
    let job = job(&json!({"inputs": {"x": "l"}, "keep": ["s"]}));
    let mapping = plan(&job, &signature(), &batch.schema(), Format::Parquet).unwrap();
    // What is read is what is wanted.
    let read = batch.project(&[2, 3]).unwrap();
    let (calls, faults) = mapping.calls(&read).unwrap();
    assert_eq!((calls.len(), faults), (1, vec![]));
    assert_eq!(&calls[0].inputs[0].tensor.shape()[..], [4, 2]);
    assert_eq!(numbers(&calls[0]), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let values = read.column(0).as_fixed_size_list().values().as_primitive::<Float32Type>().values().as_ptr();
    assert_eq!(calls[0].inputs[0].tensor.data().as_ptr(), values.cast(), "it is not copied");
    // And of rows amid a batch.
    let (calls, _) = mapping.calls(&read.slice(1, 2)).unwrap();
    assert_eq!(numbers(&calls[0]), [2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn columns_are_put_together_and_rows_that_do_not_fit_are_told() {
    let batch = rows();
    let job = job(&json!({"inputs": {"x": ["b", "a"]}, "outputs": {"y": "score"}, "keep": ["s"]}));
    let mapping = plan(&job, &signature(), &batch.schema(), Format::Parquet).unwrap();
    let read = batch.project(&[1, 0, 3]).unwrap();
    let (calls, faults) = mapping.calls(&read).unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!((&calls[0].rows[..], numbers(&calls[0])), (&[0, 3][..], vec![5.0, 1.0, 8.0, f32::INFINITY]));
    let told: Vec<_> = faults.iter().map(|fault| (fault.row, fault.column.as_str())).collect();
    assert_eq!(told, [(1, "a"), (2, "a")]);
    assert!(faults[0].message.contains("no value") && faults[1].message.contains("is no FP32"), "{faults:?}");

    let y = Tensor::new(Datatype::Fp32, Shape::from([2].as_slice()), vec![0_u8; 8].into()).unwrap();
    let outputs = [NamedTensor { name: "y".to_owned(), tensor: y }];
    let columns = mapping.columns(2, &outputs).unwrap();
    let written = mapping.rows(&read, vec![(vec![0, 3], columns)]).unwrap();
    let kept: Vec<_> = written.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!((kept, written.schema().field(1).name().as_str()), (vec!["p", "s"], "score"));
    assert!(mapping.columns(3, &outputs).unwrap_err().to_string().contains("for 3 rows"));
    assert!(mapping.columns(2, &[]).unwrap_err().to_string().contains("'y': the model did not give it"));
}

#[test]
fn lists_of_several_lengths_are_calls_of_their_own() {
    let signature: Signature = serde_json::from_value(json!({
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, -1]}, {"name": "z", "datatype": "FP64", "shape": [-1, 2, -1]}],
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1]}],
    }))
    .unwrap();
    let lists = |lengths: &[usize]| {
        let rows = lengths.iter().map(|length| Some((0..*length).map(|index| Some(index as f64))));
        ListArray::from_iter_primitive::<Float64Type, _, _>(rows)
    };
    let (x, p, q) = (lists(&[1, 2, 1, 2]), lists(&[1, 1, 1, 1]), lists(&[1, 1, 2, 1]));
    let field = |name: &str| Field::new(name, x.data_type().clone(), true);
    let schema = Arc::new(Schema::new(vec![field("x"), field("p"), field("q")]));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(x.clone()), Arc::new(p), Arc::new(q)])
            .unwrap();
    let mapping =
        plan(&job(&json!({"inputs": {"z": ["p", "q"]}})), &signature, &schema, Format::Parquet).unwrap();
    let (calls, faults) = mapping.calls(&batch).unwrap();
    assert_eq!(calls.iter().map(|call| call.rows.clone()).collect::<Vec<_>>(), [vec![0], vec![1, 3]]);
    assert_eq!(&calls[1].inputs[0].tensor.shape()[..], [2, 2]);
    assert_eq!(
        faults.iter().map(|fault| (fault.row, fault.column.as_str())).collect::<Vec<_>>(),
        [(2, "p, q")]
    );
}

#[test]
fn what_does_not_fit_is_told_before_any_row() {
    let (schema, signature) = (rows().schema(), signature());
    for (more, format, expected) in [
        (json!({}), Format::Parquet, "inputs.x: there is no column 'x'; there are 'a', 'b', 'l', 's'"),
        (
            json!({"inputs": {"x": "s"}}),
            Format::Parquet,
            "column 's' is Utf8; the model takes FP32 of shape [2]",
        ),
        (json!({"inputs": {"x": "a"}}), Format::Parquet, "name the 2 columns"),
        (json!({"inputs": {"x": ["a"]}}), Format::Parquet, "1 columns do not make a tensor of shape [2]"),
        (
            json!({"inputs": {"x": "l", "w": "a"}}),
            Format::Parquet,
            "inputs.w: the model has no such input; it has 'x'",
        ),
        (
            json!({"inputs": {"x": "l"}, "outputs": {"v": "v"}}),
            Format::Parquet,
            "outputs.v: the model has no such output",
        ),
        (
            json!({"inputs": {"x": "l"}, "outputs": {"y": "a"}}),
            Format::Parquet,
            "two columns would be named 'a'",
        ),
        (json!({"inputs": {"x": "l"}, "keep": ["n"]}), Format::Parquet, "keep: there is no column 'n'"),
    ] {
        let error = plan(&job(&more), &signature, &schema, format).unwrap_err();
        assert!(error.contains(expected), "{more}: {error}");
    }
}
