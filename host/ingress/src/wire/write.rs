//! JSON, written straight from values into a buffer.
//!
//! Contract: as `encode` has it: floats with the fewest digits that read back as the same value, and what JSON cannot hold
//! is refused. Cost: no value is held between a tensor's bytes and the text. Left out on purpose: indentation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::{bf16, f16};
use vespid_types::{Datatype, Error, ErrorCode, NamedTensor, Parameter, Tensor};

use super::fault::name;

/// How a tensor's data is written.
pub(super) struct Style {
    /// Nested in arrays as the shape is, a single value where it has no dimension; else the values alone, without brackets.
    pub(super) nested: bool,
    /// Whether BYTES that are no text are written as `{"b64": ...}`; they are refused otherwise.
    pub(super) base64: bool,
    /// What to do about a value that cannot be written.
    pub(super) remedy: &'static str,
}

impl Style {
    /// That of an answer to `infer`.
    pub(super) const INFER: Self = Self {
        nested: false,
        base64: false,
        remedy: "ask for the output with the parameter binary_data: true",
    };
}

pub(super) fn put_data(json: &mut Vec<u8>, output: &NamedTensor, style: &Style) -> Result<(), Error> {
    let NamedTensor { name: output, tensor } = output;
    let extents = style.nested.then_some(&tensor.shape()[..]);
    put_values(json, tensor, extents, style)
        .map_err(|what| Error::invalid(format!("output '{}': {what}: {}", name(output), style.remedy)))
}

fn put_values(
    json: &mut Vec<u8>,
    tensor: &Tensor,
    extents: Option<&[u64]>,
    style: &Style,
) -> Result<(), String> {
    let data = tensor.data();
    match tensor.datatype() {
        Datatype::Bool => put_items(json, extents, data.iter(), |json, value| {
            put(json, &[if *value == 0 { "false" } else { "true" }]);
        }),
        Datatype::Uint8 => put_wholes(json, extents, data, u8::from_le_bytes),
        Datatype::Uint16 => put_wholes(json, extents, data, u16::from_le_bytes),
        Datatype::Uint32 => put_wholes(json, extents, data, u32::from_le_bytes),
        Datatype::Uint64 => put_wholes(json, extents, data, u64::from_le_bytes),
        Datatype::Int8 => put_wholes(json, extents, data, i8::from_le_bytes),
        Datatype::Int16 => put_wholes(json, extents, data, i16::from_le_bytes),
        Datatype::Int32 => put_wholes(json, extents, data, i32::from_le_bytes),
        Datatype::Int64 => put_wholes(json, extents, data, i64::from_le_bytes),
        Datatype::Fp16 => return put_floats(json, extents, data, |b| f16::from_le_bytes(b).to_f32()),
        Datatype::Bf16 => return put_floats(json, extents, data, |b| bf16::from_le_bytes(b).to_f32()),
        Datatype::Fp32 => return put_floats(json, extents, data, f32::from_le_bytes),
        Datatype::Fp64 => return put_floats(json, extents, data, f64::from_le_bytes),
        Datatype::Bytes => return put_texts(json, extents, tensor, style.base64),
    }
    Ok(())
}

fn put_wholes<const N: usize, T: itoa::Integer>(
    json: &mut Vec<u8>,
    extents: Option<&[u64]>,
    data: &[u8],
    read: impl Fn([u8; N]) -> T,
) {
    put_items(json, extents, data.as_chunks::<N>().0.iter(), |json, bytes| put_whole(json, read(*bytes)));
}

fn put_floats<const N: usize, F: Float>(
    json: &mut Vec<u8>,
    extents: Option<&[u64]>,
    data: &[u8],
    read: impl Fn([u8; N]) -> F,
) -> Result<(), String> {
    let mut failed = None;
    let values = data.as_chunks::<N>().0.iter().map(|bytes| read(*bytes)).enumerate();
    put_items(json, extents, values, |json, (index, value)| {
        if value.is_finite() {
            put_fraction(json, value);
        } else {
            failed.get_or_insert((index, value));
        }
    });
    match failed {
        None => Ok(()),
        Some((index, value)) => Err(format!("data[{index}] is {value}, which JSON cannot hold")),
    }
}

fn put_texts(
    json: &mut Vec<u8>,
    extents: Option<&[u64]>,
    tensor: &Tensor,
    base64: bool,
) -> Result<(), String> {
    let mut failed = None;
    put_items(json, extents, tensor.elements().contents().enumerate(), |json, (index, element)| {
        match std::str::from_utf8(element) {
            Ok(text) => put_text(json, text),
            Err(_) if base64 => {
                put(json, &["{\"b64\":"]);
                put_base64(json, element);
                put(json, &["}"]);
            }
            Err(_) => {
                failed.get_or_insert(index);
            }
        }
    });
    match failed {
        None => Ok(()),
        Some(index) => Err(format!("data[{index}] is not UTF-8 text, which is all that JSON can hold")),
    }
}

/// A parameter of a response, whose name is for the refusal.
pub(super) fn put_parameter(json: &mut Vec<u8>, key: &str, value: &Parameter) -> Result<(), Error> {
    match value {
        Parameter::Bool(value) => put(json, &[if *value { "true" } else { "false" }]),
        Parameter::Int(value) => put_whole(json, *value),
        Parameter::Double(value) if value.is_finite() => put_fraction(json, *value),
        Parameter::Double(value) => {
            let message = format!("response parameter '{}' is {value}, which JSON cannot hold", name(key));
            return Err(Error::new(ErrorCode::PluginFailed, message));
        }
        Parameter::Text(value) => put_text(json, value),
    }
    Ok(())
}

pub(super) fn put(json: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        json.extend_from_slice(piece.as_bytes());
    }
}

pub(super) fn put_list<T>(
    json: &mut Vec<u8>,
    items: impl Iterator<Item = T>,
    mut put_one: impl FnMut(&mut Vec<u8>, T),
) {
    for (position, item) in items.enumerate() {
        if position > 0 {
            json.push(b',');
        }
        put_one(json, item);
    }
}

/// The items of a tensor: a list without brackets, or nested as `extents` say.
fn put_items<T>(
    json: &mut Vec<u8>,
    extents: Option<&[u64]>,
    items: impl Iterator<Item = T>,
    mut put_one: impl FnMut(&mut Vec<u8>, T),
) {
    let Some(extents) = extents else { return put_list(json, items, put_one) };
    // Nothing is one empty array, however it is nested: a shape such as [1000000000, 0] is not to be written out.
    let mut open = usize::from(!extents.is_empty() && extents.contains(&0));
    json.resize(json.len() + open, b'[');
    for (position, item) in (0_u64..).zip(items) {
        let begin = beginning(extents, position);
        if position > 0 {
            json.resize(json.len() + begin, b']');
            json.push(b',');
        }
        json.resize(json.len() + begin, b'[');
        put_one(json, item);
        open = extents.len();
    }
    json.resize(json.len() + open, b']');
}

/// How many arrays begin with the value at `position`.
fn beginning(extents: &[u64], position: u64) -> usize {
    let mut size: u64 = 1;
    let begins = extents.iter().rev().take_while(|extent| {
        size = size.saturating_mul(**extent);
        position.is_multiple_of(size)
    });
    begins.count()
}

pub(super) fn put_whole(json: &mut Vec<u8>, value: impl itoa::Integer) {
    json.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A number, which is finite.
pub(super) fn put_fraction(json: &mut Vec<u8>, value: impl ryu::Float) {
    json.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
}

pub(super) fn put_text(json: &mut Vec<u8>, text: &str) {
    // Writing a string into memory does not fail; were it to, the JSON would be unreadable rather than wrong.
    let written = serde_json::to_writer(&mut *json, text);
    debug_assert!(written.is_ok());
}

/// A string that is `bytes` in base64.
pub(super) fn put_base64(json: &mut Vec<u8>, bytes: &[u8]) {
    put(json, &["\"", &STANDARD.encode(bytes), "\""]);
}

trait Float: ryu::Float + std::fmt::Display {
    fn is_finite(&self) -> bool;
}

impl Float for f32 {
    fn is_finite(&self) -> bool {
        f32::is_finite(*self)
    }
}

impl Float for f64 {
    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
}

#[cfg(test)]
mod tests {
    use vespid_types::Shape;

    use super::*;

    const NESTED: Style = Style { nested: true, base64: true, remedy: "" };

    fn nested(shape: &[u64]) -> String {
        let count = shape.iter().product::<u64>() as u8;
        let tensor = Tensor::new(Datatype::Uint8, Shape::from(shape), (0..count).collect::<Vec<_>>().into());
        let mut json = Vec::new();
        put_data(&mut json, &NamedTensor { name: "y".into(), tensor: tensor.unwrap() }, &NESTED).unwrap();
        String::from_utf8(json).unwrap()
    }

    #[test]
    fn data_is_nested_as_its_shape() {
        assert_eq!(nested(&[]), "0");
        assert_eq!(nested(&[3]), "[0,1,2]");
        assert_eq!(nested(&[2, 3]), "[[0,1,2],[3,4,5]]");
        assert_eq!(nested(&[2, 1, 2]), "[[[0,1]],[[2,3]]]");
        for shape in [&[0][..], &[0, 3], &[2, 0], &[1 << 40, 0]] {
            assert_eq!(nested(shape), "[]", "{shape:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_base64_where_that_is_agreed() {
        let tensor = Tensor::from_elements(Shape::from(&[2][..]), &[&b"a"[..], b"\xff"]).unwrap();
        let output = NamedTensor { name: "y".into(), tensor };
        let mut json = Vec::new();
        put_data(&mut json, &output, &NESTED).unwrap();
        assert_eq!(json, br#"["a",{"b64":"/w=="}]"#);
        assert!(put_data(&mut json, &output, &Style { base64: false, ..NESTED }).is_err());
    }
}
