use vespid_types::Extent;

use super::*;

fn signature(datatype: Datatype, shape: &[i64]) -> Signature {
    let shape = shape.iter().map(|n| Extent::from_signed(*n).unwrap()).collect();
    Signature {
        inputs: vec![TensorSpec { name: "x".into(), datatype, shape, optional: false }],
        outputs: vec![],
    }
}

fn one(argument: &str, datatype: Datatype, shape: &[i64]) -> Result<Tensor, String> {
    read(&[argument.to_owned()], &signature(datatype, shape))
        .map(|mut tensors| tensors.remove(0).tensor)
        .map_err(|failure| failure.to_string())
}

#[test]
fn floats_take_the_signatures_shape() {
    let tensor = one("x=5.1, 3.5,1.4,0.2;6.2,2.9,4.3,-1e-3", Datatype::Fp32, &[-1, 4]).unwrap();
    assert_eq!(**tensor.shape(), [2, 4]);
    let floats: Vec<f32> =
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(floats, [5.1, 3.5, 1.4, 0.2, 6.2, 2.9, 4.3, -1e-3]);
}

#[test]
fn every_datatype_is_read() {
    for (datatype, text, bytes) in [
        (Datatype::Bool, "true,0", vec![1, 0]),
        (Datatype::Uint8, "255", vec![255]),
        (Datatype::Uint16, "258", vec![2, 1]),
        (Datatype::Uint32, "1", vec![1, 0, 0, 0]),
        (Datatype::Uint64, "18446744073709551615", vec![255; 8]),
        (Datatype::Int8, "-1", vec![255]),
        (Datatype::Int16, "-2", vec![254, 255]),
        (Datatype::Int32, "-1", vec![255; 4]),
        (Datatype::Int64, "9007199254740993", vec![1, 0, 0, 0, 0, 0, 32, 0]),
        (Datatype::Fp16, "1", vec![0, 0x3c]),
        (Datatype::Bf16, "1", vec![0x80, 0x3f]),
        (Datatype::Fp64, "1", vec![0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
        (Datatype::Bytes, "ab", vec![2, 0, 0, 0, b'a', b'b']),
    ] {
        let tensor = one(&format!("x={text}"), datatype, &[-1]).unwrap();
        assert_eq!(tensor.data().as_ref(), bytes, "{datatype}");
    }
}

#[test]
fn files_are_elements_or_raw_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
    let argument = format!("x=@{}", path.display());
    let element = one(&argument, Datatype::Bytes, &[-1]).unwrap();
    assert_eq!((&**element.shape(), element.data().len()), (&[1][..], 12));
    let raw = one(&argument, Datatype::Int32, &[-1]).unwrap();
    assert_eq!((&**raw.shape(), raw.data().len()), (&[2][..], 8));
    let both = one(&format!("{argument},text"), Datatype::Bytes, &[-1]).unwrap();
    assert_eq!(**both.shape(), [2]);
}

#[test]
fn a_shape_can_be_written_out() {
    let tensor = one("x[1,2,2]=1,2,3,4", Datatype::Int32, &[-1, -1, -1]).unwrap();
    assert_eq!(**tensor.shape(), [1, 2, 2]);
    assert!(one("x[0,2]=", Datatype::Int32, &[-1, 2]).unwrap().is_empty());
    assert!(one("x[1,3]=1,2", Datatype::Int32, &[-1, -1]).unwrap_err().contains("[1, 3]"));
}

#[test]
fn what_is_wrong_is_named() {
    let fails = |argument: &str, datatype, part: &str| {
        let message = one(argument, datatype, &[-1, 2]).unwrap_err();
        assert!(message.contains(part), "{message}");
    };
    fails("x=1,b", Datatype::Fp32, "'b' is not a value of FP32");
    fails("x=1,300", Datatype::Uint8, "'300' is not a value of UINT8");
    fails("x=1,", Datatype::Int32, "'' is not a value");
    fails("x=1,2;3", Datatype::Int32, "differ in length");
    fails("x=1,2,3", Datatype::Int32, "3 values given for shape [-1, 2]");
    fails("y=1,2", Datatype::Int32, "no input 'y'");
    fails("x", Datatype::Int32, "not NAME=VALUES");
}
