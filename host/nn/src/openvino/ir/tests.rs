use super::*;

/// Written by `cases.py` beside them, with weights of eight bytes each.
const PORTS: &str = include_str!("../../../tests/cases/openvino/ports.xml");
const LOOP: &str = include_str!("../../../tests/cases/openvino/loop.xml");
const WEIGHTS: usize = 8;

fn read(file: &str) -> Described {
    describe(file.as_bytes(), WEIGHTS).unwrap()
}

fn refusal(file: &str) -> String {
    describe(file.as_bytes(), WEIGHTS).unwrap_err().to_string()
}

/// The case with something else in place of a part of it, wherever that stands.
fn with(from: &str, to: &str) -> String {
    assert!(PORTS.contains(from), "{from}");
    PORTS.replace(from, to)
}

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    let shape = shape.iter().map(|extent| Extent::from_signed(*extent).unwrap()).collect();
    TensorSpec { name: name.to_owned(), datatype, shape, optional: false }
}

#[test]
fn inputs_and_outputs_stand_in_the_file_s_order() {
    let Described { signature, batching, ports } = read(PORTS);
    let inputs = [
        spec("named", Datatype::Fp32, &[-1, -1]),
        spec("alone", Datatype::Int64, &[-1, 3]),
        spec("with,comma", Datatype::Fp32, &[-1, 3]),
    ];
    let outputs = [
        spec("first", Datatype::Fp32, &[-1, -1]),
        spec("middle", Datatype::Fp32, &[-1, 1]),
        spec("left", Datatype::Fp32, &[-1, 1]),
        spec("negative", Datatype::Int64, &[-1, 3]),
    ];
    assert_eq!((&signature.inputs[..], &signature.outputs[..]), (&inputs[..], &outputs[..]));
    assert_eq!(batching, Batching::Unproven, "one input has bounds");
    assert_eq!(ports.outputs[0], Port::Named("first".to_owned()));
}

#[test]
fn layers_name_what_has_no_name_of_its_own() {
    let file = with(" output_names=\"", " was=\"").replace(" names=\"", " was=\"");
    let Described { signature, ports, .. } = read(&file);
    let names = |specs: &[TensorSpec]| specs.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&signature.inputs), ["named", "alone", "bounded"]);
    assert_eq!(names(&signature.outputs), ["last", "middle", "left", "negative"]);
    assert_eq!(ports.outputs, [0, 1, 2, 3].map(Port::At));
    // As versions before 2025 write it: the port that leads to the output has its name.
    let before = with(" output_names=\"", " was=\"");
    assert_eq!(names(&read(&before).signature.outputs), ["first", "middle", "left", "negative"]);
}

#[test]
fn first_dimensions_tell_whether_calls_can_be_one_run() {
    let open = with("1..16,3", "?,3");
    assert_eq!(read(&open).batching, Batching::Unproven);
    let fixed = open.replace("shape=\"?,?\"", "shape=\"4,?\"");
    let why = "'named' has a fixed first dimension of 4".to_owned();
    assert_eq!(read(&fixed).batching, Batching::Impossible { why });
    for (bounds, expected) in [("-1,3", -1), ("..16,3", -1), ("2..,3", -1), (" 7 , 3", 7)] {
        let shape = read(&with("1..16,3", bounds)).signature.inputs.remove(2).shape;
        assert_eq!(shape, [Extent::from_signed(expected).unwrap(), Extent::Fixed(3)], "{bounds}");
    }
    assert_eq!(read(LOOP).batching, Batching::Unproven, "what is fixed in a body is the body's affair");
}

#[test]
fn what_cannot_be_served_is_named() {
    for (from, to, expected) in [
        (
            "element_type=\"i64\"",
            "element_type=\"i8\"",
            "'alone' has datatype INT8, which the openvino backend",
        ),
        (
            "precision=\"FP32\"",
            "precision=\"U4\"",
            "'first' has OpenVINO's datatype U4, which has no counterpart",
        ),
        ("element_type=\"f32\" ", "", "'named' has no element_type"),
        ("<data shape=\"?,?\" element_type=\"f32\" />", "", "'named' has no shape"),
        ("\"?,?\"", "\"...\"", "'named' is a scalar or has no known rank"),
        ("\"?,?\"", "\"\"", "'named' is a scalar or has no known rank"),
        ("\"?,?\"", "\"?,x\"", "'named' has the dimension 'x'"),
        ("\"?,?\"", "\"?,-2\"", "'named' has the dimension '-2'"),
        ("\"?,?\"", "\"?,1..x\"", "'named' has the dimension '1..x'"),
        ("\"?,?\"", "\"?,99999999999999999999\"", "which cannot be read"),
        ("\"aa,named,zz\"", "\"alone\"", "two inputs have the name 'alone'"),
        ("to-layer=\"8\"", "to-layer=\"99\"", "nothing leads to the output 'last'"),
        ("from-port=\"3\"", "from-port=\"9\"", "nothing leads to the output 'middle'"),
        ("version=\"11\"", "version=\"10\"", "its IR version is 10, not 11"),
        ("<net ", "<graph ", "not an OpenVINO model"),
        ("size=\"8\"", "size=\"9\"", "does not lie within the 8 bytes of weights"),
        ("offset=\"0\"", "offset=\"18446744073709551615\"", "does not lie within"),
        ("offset=\"0\"", "offset=\"-1\"", "does not lie within"),
        ("type=\"Parameter\"", "type=\"Parameter&#0;\"", "not an OpenVINO model"),
        ("<net ", "<!DOCTYPE net [<!ENTITY a \"b\">]><net ", "not an OpenVINO model"),
    ] {
        let error = refusal(&with(from, to));
        assert!(error.contains(expected), "{from} -> {to}: {error}");
    }
    let body = refusal(&LOOP.replace("size=\"8\"", "size=\"12\""));
    assert!(body.contains("does not lie within"), "{body}");
    assert!(describe(b"\xff", 0).unwrap_err().to_string().contains("not an OpenVINO model"));
}

#[test]
fn what_lies_too_deep_is_refused() {
    let nested = |depth: usize| {
        let (open, close) = ("<layer>".repeat(depth), "</layer>".repeat(depth));
        format!("<net version=\"11\"><layers>{open}{close}</layers></net>")
    };
    // The document, <net> and <layers> are around them.
    assert_eq!(read(&nested(MAX_DEPTH - 3)).signature, Signature::default());
    assert!(refusal(&nested(MAX_DEPTH - 2)).contains("more than 64 deep"));
    assert!(refusal(&nested(1_000_000)).contains("more than 64 deep"));
}

#[test]
fn half_a_model_is_none() {
    for length in 0..PORTS.trim_end().len() {
        assert!(describe(&PORTS.as_bytes()[..length], WEIGHTS).is_err(), "{length}");
    }
}
