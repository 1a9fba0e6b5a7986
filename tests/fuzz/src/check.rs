//! What holds for more than one target.

use std::sync::Once;

use bytes::Bytes;
use vespid_ingress::wire::{OutputFormat, decode, encode};
use vespid_types::{
    Error, ErrorCode, ModelName, ModelRef, NamedTensor, Parameter, Parameters, Request, Response, Signature,
    Version,
};

/// More than any refusal says: it goes into logs and headers of answers.
const LONGEST_REFUSAL: usize = 2000;

/// The input is to blame for a refusal, and not the server.
pub(crate) fn is_clients(code: ErrorCode) {
    let clients = [
        ErrorCode::InvalidArgument,
        ErrorCode::NotFound,
        ErrorCode::PermissionDenied,
        ErrorCode::TooLarge,
        ErrorCode::Unsupported,
    ];
    assert!(clients.contains(&code), "{code} for what a client sent");
}

/// A refusal on the wire.
pub(crate) fn refused(error: &Error) {
    is_clients(error.code());
    let length = error.message().len();
    assert!((1..LONGEST_REFUSAL).contains(&length), "a refusal of {length} bytes: {error}");
}

pub(crate) fn model() -> ModelRef {
    ModelRef { name: name(), version: None }
}

pub(crate) fn name() -> ModelName {
    "m".parse().expect("a name")
}

/// A model of these inputs and outputs, in JSON.
pub(crate) fn signature(json: &str) -> Signature {
    serde_json::from_str(json).expect("a signature")
}

/// The tensors of what was read take a small multiple of its bytes: an element takes 8 bytes at most, and one at least where it came.
pub(crate) fn is_bounded(request: &Request, bytes: usize) {
    let total: usize = request.inputs.iter().map(|input| input.tensor.data().len()).sum();
    assert!(total <= 8 * bytes + 64, "{total} bytes of tensors in {bytes} bytes");
}

/// An answer of what was asked.
pub(crate) fn answer(request: &Request, parameters: Parameters) -> Response {
    let version: Version = "1".parse().expect("a version");
    let outputs = request.inputs.clone();
    Response { model: name(), version, id: request.id.clone(), parameters, outputs }
}

/// What was read is written as REST writes tensors, and read again.
pub(crate) fn reads_back(request: &Request, parameters: &Parameters) {
    for format in [OutputFormat::binary(), OutputFormat::json()] {
        let binary = format == OutputFormat::binary();
        let Ok(body) = encode(&answer(request, parameters.clone()), &format) else {
            assert!(!binary, "an answer in bytes holds every value");
            // JSON has no word for a part of it.
            continue;
        };
        let head = String::from_utf8(body.head.to_vec()).expect("JSON is text");
        // What stands in a text has its quotes escaped.
        let at = head.find(",\"outputs\":[").expect("outputs");
        let head = format!("{},\"inputs\"{}", &head[..at], &head[at + 10..]);
        let length = body.header_length.map(|_| head.len().to_string());
        let mut bytes = head.into_bytes();
        bytes.extend(body.tail.iter().flatten());
        let again = decode(Bytes::from(bytes), length.as_deref(), model(), &Signature::default());
        let (again, _) = again.expect("what was written is read");
        assert_eq!(again.id, request.id);
        assert!(again.parameters.keys().eq(parameters.keys()));
        let same = again.parameters.values().zip(parameters.values()).all(|(one, other)| is_same(one, other));
        assert!(same, "{:?} and {parameters:?}", again.parameters);
        assert_same(&again.inputs, &request.inputs);
    }
}

/// A number of a parameter that is no whole one may be off in its last bit: the reader of JSON is quick, and exact to that bit alone.
fn is_same(one: &Parameter, other: &Parameter) -> bool {
    match (one, other) {
        (Parameter::Double(one), Parameter::Double(other)) => {
            (one - other).abs() <= one.abs() * 2.0 * f64::EPSILON + f64::from_bits(2)
        }
        _ => one == other,
    }
}

/// The same, bit by bit: NaN is what it was, too.
pub(crate) fn assert_same(one: &[NamedTensor], other: &[NamedTensor]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert_eq!(one.name, other.name);
        assert_eq!(one.tensor.datatype(), other.tensor.datatype());
        assert_eq!(one.tensor.shape(), other.tensor.shape());
        assert_eq!(one.tensor.data(), other.tensor.data(), "the elements of '{}'", one.name);
    }
}

/// Lets the process live where the code under test catches a panic, as it does of decoders that are not its own. libFuzzer's own hook
/// would end it. A panic that is not caught ends it still.
pub(crate) fn caught_panics_are_fine() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        // Under libFuzzer that would end the process; else it prints what a target found.
        let told = cfg!(not(feature = "libfuzzer")).then_some(told);
        std::panic::set_hook(Box::new(move |panic| {
            let ours = panic.location().is_some_and(|at| at.file().contains("tests/fuzz"));
            match &told {
                Some(told) if ours => told(panic),
                _ if ours => eprintln!("{panic}"),
                _ => {}
            }
        }));
    });
}
