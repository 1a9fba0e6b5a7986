use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use vespid_types::{Parameter, copied_bytes};

use super::*;
use crate::grpc::proto::{InferParameter, InferTensorContents, infer_parameter::ParameterChoice};

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn typed(datatype: &str, shape: &[i64], contents: InferTensorContents) -> InferInputTensor {
    InferInputTensor { contents: Some(contents), ..input("x", datatype, shape) }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    let raw_input_contents = raw.iter().map(|data| Bytes::from_static(data)).collect();
    ModelInferRequest { inputs, raw_input_contents, ..ModelInferRequest::default() }
}

fn refusal(request: ModelInferRequest) -> (ErrorCode, String) {
    let error = decode(request).err().expect("a refusal");
    (error.code(), error.message().to_owned())
}

#[track_caller]
fn assert_refused(request: ModelInferRequest, message: &str) {
    assert_eq!(refusal(request), (ErrorCode::InvalidArgument, message.to_owned()));
}

fn parameter(value: i64) -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) }
}

#[test]
fn raw_contents_become_tensors_as_they_are() {
    let read = decode(ModelInferRequest {
        id: "7".into(),
        parameters: [("p".to_owned(), parameter(3))].into(),
        ..request(
            vec![input("a", "INT32", &[2]), input("b", "BYTES", &[1]), input("c", "FP16", &[0, 3])],
            &[&[1, 0, 0, 0, 2, 0, 0, 0], b"\x02\0\0\0hi", b""],
        )
    })
    .unwrap();
    assert_eq!(read.id.as_deref(), Some("7"));
    assert_eq!(read.parameters["p"], Parameter::Int(3));
    let shapes: Vec<_> = read.inputs.iter().map(|input| input.tensor.shape().to_vec()).collect();
    assert_eq!(shapes, [vec![2], vec![1], vec![0, 3]]);
    assert_eq!(read.inputs[1].tensor.elements().contents().next(), Some(&b"hi"[..]));
    assert!(read.outputs.is_empty());
}

#[test]
fn raw_contents_lie_in_the_message() {
    let data = vec![7_u8; 1 << 20];
    let sent = ModelInferRequest {
        raw_input_contents: vec![Bytes::from(data.clone()), Bytes::from(data)],
        ..request(vec![input("a", "UINT8", &[1 << 20]), input("b", "INT8", &[1 << 20])], &[])
    };
    let message = Bytes::from(sent.encode_to_vec());
    let span = message.as_ptr_range();
    let read = ModelInferRequest::decode(message.clone()).unwrap();
    let before = copied_bytes();
    let inputs = decode(read).unwrap().inputs;
    // What is noted is what the transport did before.
    assert!(copied_bytes() - before >= 2 << 20);
    for input in inputs {
        let data = input.tensor.data().as_ptr_range();
        assert!(span.start <= data.start && data.end <= span.end, "{} was copied", input.name);
    }
}

#[test]
fn typed_contents_become_the_same_tensors() {
    let none = InferTensorContents::default;
    for (datatype, contents, expected) in [
        ("BOOL", InferTensorContents { bool_contents: vec![true, false], ..none() }, &[1, 0][..]),
        ("INT8", InferTensorContents { int_contents: vec![-128, 127], ..none() }, &[128, 127]),
        ("INT16", InferTensorContents { int_contents: vec![-2, 258], ..none() }, &[254, 255, 2, 1]),
        (
            "INT32",
            InferTensorContents { int_contents: vec![1, -1], ..none() },
            &[1, 0, 0, 0, 255, 255, 255, 255],
        ),
        ("UINT8", InferTensorContents { uint_contents: vec![0, 255], ..none() }, &[0, 255]),
        ("UINT16", InferTensorContents { uint_contents: vec![1, 65535], ..none() }, &[1, 0, 255, 255]),
        (
            "UINT32",
            InferTensorContents { uint_contents: vec![1, u32::MAX], ..none() },
            &[1, 0, 0, 0, 255, 255, 255, 255],
        ),
        (
            "FP32",
            InferTensorContents { fp32_contents: vec![1.0, -0.0], ..none() },
            &[0, 0, 128, 63, 0, 0, 0, 128],
        ),
        (
            "BYTES",
            InferTensorContents { bytes_contents: vec![Bytes::from_static(b"hi"), Bytes::new()], ..none() },
            b"\x02\0\0\0hi\0\0\0\0",
        ),
    ] {
        let read = decode(request(vec![typed(datatype, &[2], contents)], &[])).unwrap();
        assert_eq!(read.inputs[0].tensor.data(), expected, "{datatype}");
    }
    for (datatype, contents) in [
        ("INT64", InferTensorContents { int64_contents: vec![i64::MIN], ..none() }),
        ("UINT64", InferTensorContents { uint64_contents: vec![1 << 63], ..none() }),
        ("FP64", InferTensorContents { fp64_contents: vec![-0.0], ..none() }),
    ] {
        let read = decode(request(vec![typed(datatype, &[], contents)], &[])).unwrap();
        assert_eq!(read.inputs[0].tensor.data()[..], [0, 0, 0, 0, 0, 0, 0, 128], "{datatype}");
    }
}

#[test]
fn typed_contents_that_do_not_fit_are_named() {
    let refused = |datatype, shape: &[i64], contents, message: &str| {
        assert_refused(
            request(vec![typed(datatype, shape, contents)], &[]),
            &format!("inputs[0] 'x': {message}"),
        );
    };
    let ints = |values: &[i32]| InferTensorContents { int_contents: values.to_vec(), ..Default::default() };
    refused("INT8", &[2], ints(&[1, 128]), "contents.int_contents[1]: 128 is out of range for INT8");
    refused("INT16", &[1], ints(&[-32769]), "contents.int_contents[0]: -32769 is out of range for INT16");
    refused("INT32", &[2, 2], ints(&[1]), "contents.int_contents holds 1 value; shape [2, 2] has 4");
    refused("FP32", &[1], ints(&[1]), "contents.int_contents: the elements of FP32 are in fp32_contents");
    refused("FP16", &[1], ints(&[1]), "contents: FP16 has no field: send it in raw_input_contents");
    let both = InferTensorContents { fp32_contents: vec![1.0], ..ints(&[1]) };
    refused("FP32", &[1], both, "contents.int_contents: the elements of FP32 are in fp32_contents");
    refused(
        "INT32",
        &[1 << 40, 1 << 40],
        ints(&[1]),
        "shape [1099511627776, 1099511627776] has more elements than can be addressed",
    );
}

#[test]
fn raw_and_typed_contents_are_not_mixed() {
    let contents = InferTensorContents { int_contents: vec![1], ..InferTensorContents::default() };
    let inputs = || vec![input("a", "INT32", &[1]), typed("INT32", &[1], contents.clone())];
    let mixed =
        "inputs[1] 'x': both contents and raw_input_contents are given: leave one out, for all inputs";
    assert_refused(request(inputs(), &[&[0; 4], &[0; 4]]), mixed);
    assert_refused(request(inputs(), &[&[0; 4]]), mixed);
    // Empty contents are as good as none.
    let empty = typed("INT32", &[1], InferTensorContents::default());
    assert!(decode(request(vec![empty], &[&[0; 4]])).is_ok());
}

#[test]
fn there_is_one_raw_content_for_each_input() {
    let inputs = || vec![input("a", "INT32", &[1]), input("b", "INT32", &[1])];
    assert_refused(
        request(inputs(), &[&[0; 4]]),
        "inputs[1] 'b': it has no entry in raw_input_contents: give one for each input",
    );
    assert_refused(
        request(inputs(), &[&[0; 4], &[0; 4], &[0; 4]]),
        "raw_input_contents: 3 for 2 inputs: give one for each, in the order of the inputs",
    );
    assert_refused(
        request(inputs(), &[]),
        "inputs[0] 'a': no data: give the elements in raw_input_contents, or in contents.int_contents",
    );
    assert_refused(
        request(inputs(), &[&[0; 3], &[0; 4]]),
        "inputs[0] 'a': 3 bytes of data; INT32 of shape [1] takes 4",
    );
    assert!(decode(request(vec![input("a", "FP32", &[0])], &[])).is_ok());
}

#[test]
fn shapes_and_datatypes_are_checked() {
    let refused = |datatype, shape: &[i64]| refusal(request(vec![input("a", datatype, shape)], &[&[0; 4]])).1;
    assert!(
        refused("INT32", &[1, -1])
            .ends_with("'a': shape[1]: expected a number of elements, 0 or more, got -1")
    );
    assert!(refused("INT32", &[1; 65]).ends_with("shape: more than 64 dimensions"));
    assert!(refused("int32", &[1]).contains("unknown datatype 'int32'"));
    assert!(refused("INT32", &[i64::MAX, i64::MAX]).contains("more elements than can be addressed"));
}

#[test]
fn shared_memory_and_repeated_outputs_are_refused() {
    let region = Messages::from([("shared_memory_region".to_owned(), parameter(0))]);
    let shared = InferInputTensor { parameters: region.clone(), ..input("a", "INT32", &[1]) };
    let refused = refusal(request(vec![shared], &[]));
    let message =
        "inputs[0] 'a': parameters.shared_memory_region is not supported: send tensors in the message";
    assert_eq!(refused, (ErrorCode::Unsupported, message.to_owned()));
    let output = |name: &str, parameters| InferRequestedOutputTensor { name: name.to_owned(), parameters };
    let outputs = |outputs| ModelInferRequest { outputs, ..ModelInferRequest::default() };
    let refused = refusal(outputs(vec![output("y", region)]));
    assert!(refused.1.starts_with("outputs[0] 'y': parameters.shared_memory_region is not supported"));
    let twice = vec![output("y", Messages::new()), output("y", Messages::new())];
    assert_refused(outputs(twice), "outputs: 'y' is asked for twice");
    assert_refused(request(vec![InferInputTensor::default(); 1025], &[]), "inputs: more than 1024 entries");
}

proptest! {
    #[test]
    fn damaged_messages_are_read_or_refused(
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8),
        end in any::<Index>(),
    ) {
        let contents = InferTensorContents { int_contents: vec![1, 2], ..InferTensorContents::default() };
        let mut message = ModelInferRequest {
            parameters: [("timeout".to_owned(), parameter(5))].into(),
            ..request(vec![input("a", "INT32", &[2]), typed("INT8", &[2], contents)], &[&[0; 8]])
        }
        .encode_to_vec();
        for (place, byte) in damage {
            *place.get_mut(&mut message) = byte;
        }
        message.truncate(end.index(2 * message.len()));
        if let Ok(message) = ModelInferRequest::decode(&message[..]) {
            let _ = decode(message);
        }
    }
}
