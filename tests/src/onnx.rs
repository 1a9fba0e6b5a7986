//! ONNX files field by field, right and wrong: what an exporter would not write.
//!
//! Numbers of fields are those of onnx.proto.

/// Datatypes of elements.
pub const FLOAT: u64 = 1;
/// 64-bit integers.
pub const INT64: u64 = 7;
/// Truth values.
pub const BOOL: u64 = 9;
/// Floats of 64 bits.
pub const DOUBLE: u64 = 11;

/// A field that holds a number.
#[must_use]
pub fn number(field: u8, value: u64) -> Vec<u8> {
    [tag(field, 0), varint(value)].concat()
}

/// A field that holds a message, a text or bytes.
#[must_use]
pub fn field(field: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [tag(field, 2), varint(content.len() as u64), content.to_vec()].concat()
}

fn tag(field: u8, kind: u8) -> Vec<u8> {
    varint(u64::from(field) << 3 | u64::from(kind))
}

/// A number as protobuf and WebAssembly have it (LEB128).
pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A model of a graph.
#[must_use]
pub fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    model_with(graph, &[])
}

/// The same with further fields.
#[must_use]
pub fn model_with(graph: &[Vec<u8>], more: &[u8]) -> Vec<u8> {
    let opset = field(8, number(2, 17));
    [number(1, 8), opset, field(7, [field(2, "hostile"), graph.concat()].concat()), more.to_vec()].concat()
}

/// A node of a graph.
#[must_use]
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    field(1, node_of("", operator, inputs, outputs, attributes))
}

/// What a node holds.
#[must_use]
pub fn node_of(
    domain: &str,
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[Vec<u8>],
) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
    let outputs: Vec<u8> = outputs.iter().flat_map(|name| field(2, name)).collect();
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| field(5, attribute)).collect();
    [inputs, outputs, field(4, operator), attributes, field(7, domain)].concat()
}

/// An attribute that is a number.
#[must_use]
pub fn attribute(name: &str, value: u64) -> Vec<u8> {
    [field(1, name), number(3, value), number(20, 2)].concat()
}

/// An attribute that is a tensor.
#[must_use]
pub fn constant(name: &str, tensor: &[u8]) -> Vec<u8> {
    [field(1, name), field(5, tensor), number(20, 4)].concat()
}

/// An attribute that is a graph.
#[must_use]
pub fn branch(name: &str, graph: &[Vec<u8>]) -> Vec<u8> {
    let graph = [field(2, name), graph.concat()].concat();
    [field(1, name), field(6, graph), number(20, 5)].concat()
}

/// An initializer of 64-bit integers.
#[must_use]
pub fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    field(5, integers_of(name, &[values.len() as u64], values))
}

/// What a tensor of 64-bit integers holds.
#[must_use]
pub fn integers_of(name: &str, shape: &[u64], values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [dims(shape), number(2, INT64), field(8, name), field(9, raw)].concat()
}

/// What a tensor holds whose data is said to be in another file.
#[must_use]
pub fn outside(name: &str, path: &str) -> Vec<u8> {
    let location = field(13, [field(1, "location"), field(2, path)].concat());
    [dims(&[4]), number(2, FLOAT), field(8, name), location, number(14, 1)].concat()
}

fn dims(shape: &[u64]) -> Vec<u8> {
    shape.iter().flat_map(|extent| number(1, *extent)).collect()
}

/// An input of a graph. `None` stands for any extent.
#[must_use]
pub fn input(name: &str, datatype: u64, shape: &[Option<u64>]) -> Vec<u8> {
    field(11, value(name, datatype, shape))
}

/// An output of a graph.
#[must_use]
pub fn output(name: &str, datatype: u64, shape: &[Option<u64>]) -> Vec<u8> {
    field(12, value(name, datatype, shape))
}

fn value(name: &str, datatype: u64, shape: &[Option<u64>]) -> Vec<u8> {
    let dim = |extent: &Option<u64>| field(1, extent.map_or_else(Vec::new, |extent| number(1, extent)));
    let shape: Vec<u8> = shape.iter().flat_map(dim).collect();
    let tensor = [number(1, datatype), field(2, shape)].concat();
    [field(1, name), field(2, field(1, tensor))].concat()
}
