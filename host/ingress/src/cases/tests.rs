use vespid_types::{Shape, Tensor};

use super::*;

fn target() -> ModelRef {
    ModelRef { name: "m".parse().unwrap(), version: None }
}

fn response(outputs: Vec<(&str, Tensor)>) -> Result<Response, Error> {
    let outputs =
        outputs.into_iter().map(|(name, tensor)| NamedTensor { name: name.to_owned(), tensor }).collect();
    let (model, version) = ("m".parse().unwrap(), "1".parse().unwrap());
    Ok(Response { model, version, id: None, parameters: Parameters::new(), outputs })
}

fn floats(shape: &[u64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(Datatype::Fp32, Shape::from(shape), data.into()).unwrap()
}

fn texts(values: &[&str]) -> Tensor {
    Tensor::from_elements(Shape::from(&[values.len() as u64][..]), values).unwrap()
}

const REQUEST: &str = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [0.5]}]}"#;

fn case(rest: &str) -> Case {
    Case::parse(format!("{{\"request\": {REQUEST}{rest}}}").as_bytes()).unwrap()
}

fn shown(case: &Case, answer: &Result<Response, Error>) -> Vec<String> {
    case.check(answer).iter().map(ToString::to_string).collect()
}

#[test]
fn a_request_is_read_as_one_that_comes_in() {
    let request = case("").request(target(), Path::new(".")).unwrap();
    assert_eq!(request.inputs, [NamedTensor { name: "x".into(), tensor: floats(&[1], &[0.5]) }]);
    let bad = Case::parse(br#"{"request": {"inputs": [{"name": "x"}]}}"#).unwrap();
    let error = bad.request(target(), Path::new(".")).unwrap_err();
    assert!(error.message().starts_with("request: ") && error.message().contains("inputs[0]"), "{error}");
}

#[test]
fn files_stand_in_the_place_of_data() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), b"\xff\0").unwrap();
    fs::write(folder.path().join("b"), b"").unwrap();
    let read = |input: &str| {
        let text = format!(
            r#"{{"request": {{"inputs": [{input}, {{"name": "y", "datatype": "INT8", "shape": [2], "files": ["a"]}}]}}}}"#
        );
        let case = Case::parse(text.as_bytes()).unwrap();
        case.request(target(), folder.path()).map_err(|error| error.message().to_owned())
    };
    let request = read(r#"{"name": "x", "datatype": "BYTES", "shape": [2], "files": ["a", "b"]}"#).unwrap();
    let elements: Vec<&[u8]> = request.inputs[0].tensor.elements().contents().collect();
    assert_eq!(elements, [&b"\xff\0"[..], b""]);
    assert_eq!(request.inputs[1].tensor.data(), &b"\xff\0"[..]);
    for (input, expected) in [
        (r#"{"name": "x", "datatype": "BYTES", "shape": [1], "files": ["c"]}"#, "inputs[0]: files"),
        (r#"{"name": "x", "datatype": "BYTES", "shape": [1], "files": ["../a"]}"#, "plain relative path"),
        (r#"{"name": "x", "datatype": "BYTES", "shape": [2], "files": ["a"]}"#, "shape [2] has 2"),
        (
            r#"{"name": "x", "datatype": "BYTES", "shape": [1], "files": ["a"], "data": ["a"]}"#,
            "leave one out",
        ),
        (r#"{"name": "x", "datatype": "BYTES", "shape": [1], "files": 1}"#, "\"files\": [...]"),
    ] {
        let error = read(input).unwrap_err();
        assert!(error.contains(expected), "{input}: {error}");
    }
}

#[test]
fn answers_are_held_against_the_case() {
    let case = case(
        r#", "tolerance": 1e-3, "response": {"outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4000]},
            {"name": "z", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}"#,
    );
    let y = |values: &[f32]| floats(&[2, 2], values);
    let good = response(vec![("z", texts(&["a", "b"])), ("y", y(&[1.0009, 2.0, 3.0, 4003.0]))]);
    assert_eq!(case.check(&good), []);
    let off = response(vec![("y", y(&[1.0, 2.0, 3.5, 4005.0])), ("z", texts(&["a", "c"]))]);
    assert_eq!(
        shown(&case, &off),
        [
            "output 'y'[1][0]: expected 3, got 3.5 (tolerance 1e-3); 2 of 4 values differ",
            "output 'z'[1]: expected \"b\", got \"c\"",
        ]
    );
    let other = response(vec![("y", floats(&[4], &[1.0, 2.0, 3.0, 4.0])), ("w", texts(&["a"]))]);
    let differences = shown(&case, &other);
    assert_eq!(differences[0], "output 'y': expected FP32 [2, 2], got FP32 [4]");
    assert_eq!(differences[1], "output 'z' is missing in the answer");
    assert!(differences[2].starts_with("output 'w' is in the answer and not in the case"), "{differences:?}");
    let failed = Err(Error::invalid("x is too large"));
    assert_eq!(shown(&case, &failed), ["expected an answer, got INVALID_ARGUMENT: x is too large"]);
}

#[test]
fn failures_can_be_expected() {
    let case = case(r#", "error": {"code": "INVALID_ARGUMENT", "contains": "too large"}"#);
    assert_eq!(case.check(&Err(Error::invalid("x is too large"))), []);
    let shown = |answer: &Result<Response, Error>| shown(&case, answer).remove(0);
    assert_eq!(
        shown(&Err(Error::invalid("y"))),
        "expected INVALID_ARGUMENT with 'too large', got INVALID_ARGUMENT: y"
    );
    assert!(shown(&Err(Error::internal("too large"))).contains("got INTERNAL"));
    assert!(shown(&response(vec![])).ends_with("got an answer"));
}

#[test]
fn numbers_that_are_none_are_equal() {
    let case = case(r#", "response": {"outputs": []}"#);
    let Case { tolerance, .. } = case;
    let expected = |value| Expected::Response {
        outputs: vec![NamedTensor { name: "y".into(), tensor: floats(&[1], &[value]) }],
        parameters: Parameters::new(),
    };
    assert_eq!(tolerance, None);
    for (value, got, same) in [
        (f32::NAN, f32::NAN, true),
        (f32::NAN, 1.0, false),
        (1.0, f32::NAN, false),
        (f32::INFINITY, f32::INFINITY, true),
        (f32::INFINITY, f32::MAX, false),
        (0.0, f32::INFINITY, false),
        (0.0, -0.0, true),
    ] {
        let answer = response(vec![("y", floats(&[1], &[got]))]);
        assert_eq!(compare::check(&expected(value), &answer, 1e-5).is_empty(), same, "{value} {got}");
    }
}

#[test]
fn what_is_recorded_is_what_is_expected_then() {
    let case = case(r#", "tolerance": 0.5"#);
    assert_eq!(shown(&case, &response(vec![])), ["neither 'response' nor 'error' is recorded yet"]);
    for answer in [
        response(vec![("y", floats(&[2], &[0.1, 1e-9])), ("z", texts(&["\"é\n"]))]),
        response(vec![]),
        Err(Error::invalid("\"x\" is too large")),
    ] {
        let text = case.record(&answer).unwrap();
        let recorded = Case::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(recorded.check(&answer), [], "{text}");
        assert_eq!((recorded.tolerance(), recorded.request.as_str()), (0.5, REQUEST));
        assert_eq!(recorded.record(&answer).unwrap(), text);
    }
    let nan = response(vec![("y", floats(&[1], &[f32::NAN]))]);
    assert!(case.record(&nan).is_err());
}

#[test]
fn what_is_no_case_is_refused() {
    for (text, expected) in [
        ("{", "not a case"),
        ("{}", "missing field `request`"),
        (r#"{"request": {}, "responce": {}}"#, "unknown field `responce`"),
        (r#"{"request": {}, "response": {"outputs": []}, "error": {"code": "INTERNAL"}}"#, "leave one out"),
        (
            r#"{"request": {}, "error": {"code": "WRONG"}}"#,
            "error.code: 'WRONG' is none of INVALID_ARGUMENT,",
        ),
        (r#"{"request": {}, "tolerance": -1}"#, "tolerance"),
        (
            r#"{"request": {}, "response": {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}}"#,
            "response: outputs[0] 'y': data holds 1 value, not 2",
        ),
    ] {
        let error = Case::parse(text.as_bytes()).unwrap_err();
        assert!(error.message().contains(expected), "{text}: {error}");
    }
}
