//! What an ONNX file declares: its inputs and outputs, and whether it takes batches.
//!
//! Contract: names, datatypes and shapes as `ValueInfoProto` gives them (onnx.proto, IR version 3 and later); inputs
//! that are initializers with a default are left out. Symbolic and missing dimensions become -1. A file that keeps
//! tensors outside of itself is refused: it would make a library read whatever file it names.

use std::collections::HashSet;

use rten_onnx::onnx::{
    AttributeProto, DataLocation, DataType, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use rten_onnx::protobuf::DecodeMessage;
use vespid_types::{BackendName, Datatype, Encoding, Extent, Signature, TensorSpec};

use crate::NnError;
use crate::backend::Batching;
use crate::growth::{self, Growth};
use crate::protobuf::{Bounded, check_end};

/// Branches in loops in branches: more than any exporter writes, and few enough for what loads them to recurse.
const MAX_DEPTH: usize = 16;

/// What an ONNX model declares.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) signature: Signature,
    pub(crate) batching: Batching,
    /// The output of a `Resize` by cubic interpolation, which a library may take for another one.
    pub(crate) cubic: Option<String>,
    /// Inputs whose values are the extents of what the graph makes.
    pub(crate) growth: Growth,
}

/// Refuses, for a backend that reads ONNX, what is not.
///
/// # Errors
/// [`NnError::UnsupportedEncoding`].
pub(crate) fn check_encoding(backend: BackendName, encoding: Encoding) -> Result<(), NnError> {
    let remedy = "it reads ONNX; leave `backend` out, or export the graph as ONNX";
    match encoding {
        Encoding::Onnx => Ok(()),
        Encoding::Openvino => Err(NnError::UnsupportedEncoding { backend, encoding, remedy }),
    }
}

/// Reads what an ONNX model declares. What this has read is safe to be read by `rten`.
///
/// # Errors
/// [`NnError::Load`] where the file is damaged, keeps tensors outside of itself, or an input or output is not a tensor of a
/// known rank and datatype.
pub(crate) fn describe(file: &[u8]) -> Result<Described, NnError> {
    let refuse = |error: String| NnError::Load { message: format!("the file is not an ONNX model: {error}") };
    check_end(file).map_err(|error| refuse(error.to_string()))?;
    let model = ModelProto::decode(Bounded::new(file)).map_err(|error| refuse(error.to_string()))?;
    let Some(graph) = model.graph else {
        return Err(NnError::Load { message: "the ONNX model holds no graph".to_owned() });
    };
    if depth(&graph) > MAX_DEPTH {
        return Err(refuse(format!("graphs lie in graphs more than {MAX_DEPTH} deep")));
    }
    if let Some(name) = external(&graph) {
        return Err(NnError::Load {
            message: format!(
                "the tensor '{name}' is kept in another file: export the graph with its weights inside"
            ),
        });
    }
    let defaults: HashSet<&Option<String>> =
        graph.initializer.iter().map(|constant| &constant.name).collect();
    let inputs: Vec<_> = graph.input.iter().filter(|input| !defaults.contains(&input.name)).collect();
    let specs = inputs.iter().map(|input| tensor_spec(input)).collect::<Result<_, _>>()?;
    let outputs = graph.output.iter().map(tensor_spec).collect::<Result<_, _>>()?;
    let signature = Signature { inputs: specs, outputs };
    // Before anything looks each of them up among the others.
    signature.check_size().map_err(|message| NnError::Load { message })?;
    let growth = growth::of(&graph)?;
    let batching = batching(inputs.into_iter().chain(&graph.output));
    let cubic = cubic(&graph).map(str::to_owned);
    Ok(Described { signature, batching, cubic, growth })
}

/// Whether several calls can be one run, as the first dimensions tell. A name such as `batch` says that rows are
/// independent; `sequence` would say the opposite, and no name nothing.
fn batching<'a>(values: impl Iterator<Item = &'a ValueInfoProto>) -> Batching {
    let mut known: Option<&str> = None;
    let mut proven = true;
    for value in values {
        let name = value.name.as_deref().unwrap_or_default();
        let impossible = |what: &str| Batching::Impossible { why: format!("'{name}' {what}") };
        let tensor = value.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let Some(first) = tensor.and_then(|tensor| tensor.shape.as_ref()).and_then(|shape| shape.dim.first())
        else {
            return impossible("has no dimension");
        };
        if let Some(extent) = first.dim_value.filter(|extent| *extent >= 0) {
            return impossible(&format!("has a fixed first dimension of {extent}"));
        }
        let own = first.dim_param.as_deref().unwrap_or_default();
        proven &= names_rows(own) && known.is_none_or(|known| known == own);
        known = Some(own);
    }
    if proven { Batching::Plain } else { Batching::Unproven }
}

/// Whether a dimension of this name counts rows of a batch, as exporters name them.
fn names_rows(dimension: &str) -> bool {
    let dimension = dimension.to_ascii_lowercase();
    dimension.starts_with("batch") || matches!(&*dimension, "n" | "b" | "bs")
}

/// The name of a tensor whose data lies in another file.
fn external(graph: &GraphProto) -> Option<&str> {
    let outside = |tensor: &&TensorProto| {
        tensor.data_location == Some(DataLocation::EXTERNAL) || !tensor.external_data.is_empty()
    };
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let constants = attributes().filter_map(|attribute| attribute.t.as_ref());
    let mut tensors = graph.initializer.iter().chain(constants);
    let found = tensors.find(outside).map(|tensor| tensor.name.as_deref().unwrap_or_default());
    found.or_else(|| attributes().filter_map(|attribute| attribute.g.as_ref()).find_map(external))
}

/// The output of a node that resizes by cubic interpolation.
fn cubic(graph: &GraphProto) -> Option<&str> {
    let is_mode = |attribute: &AttributeProto| {
        attribute.name.as_deref() == Some("mode") && attribute.s.as_deref() == Some("cubic")
    };
    let resizes =
        |node: &&NodeProto| node.op_type.as_deref() == Some("Resize") && node.attribute.iter().any(is_mode);
    let found = graph.node.iter().find(resizes);
    let within =
        || graph.node.iter().flat_map(|node| &node.attribute).filter_map(|attribute| attribute.g.as_ref());
    let found = found.map(|node| node.output.first().map(String::as_str).unwrap_or_default());
    found.or_else(|| within().find_map(cubic))
}

/// How many graphs lie in each other.
fn depth(graph: &GraphProto) -> usize {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    1 + attributes.filter_map(|attribute| attribute.g.as_ref()).map(depth).max().unwrap_or(0)
}

fn tensor_spec(value: &ValueInfoProto) -> Result<TensorSpec, NnError> {
    let name = value.name.clone().unwrap_or_default();
    let bad = |what: &str| NnError::Load { message: format!("'{name}' {what}") };
    let tensor = value
        .r#type
        .as_ref()
        .and_then(|kind| kind.tensor_type.as_ref())
        .ok_or_else(|| bad("is not a tensor (a scikit-learn graph needs the option zipmap = False)"))?;
    let elem_type = tensor.elem_type.ok_or_else(|| bad("has no datatype"))?;
    let datatype = datatype(elem_type)
        .ok_or_else(|| bad(&format!("has the ONNX datatype {}, which has no counterpart", elem_type.0)))?;
    let shape = tensor.shape.as_ref().ok_or_else(|| bad("has no shape: export the graph with its rank"))?;
    let shape = shape
        .dim
        .iter()
        .map(|dim| dim.dim_value.and_then(Extent::from_signed).unwrap_or(Extent::Any))
        .collect();
    Ok(TensorSpec { name, datatype, shape, optional: false })
}

fn datatype(elem_type: DataType) -> Option<Datatype> {
    Some(match elem_type {
        DataType::FLOAT => Datatype::Fp32,
        DataType::UINT8 => Datatype::Uint8,
        DataType::INT8 => Datatype::Int8,
        DataType::UINT16 => Datatype::Uint16,
        DataType::INT16 => Datatype::Int16,
        DataType::INT32 => Datatype::Int32,
        DataType::INT64 => Datatype::Int64,
        DataType::STRING => Datatype::Bytes,
        DataType::BOOL => Datatype::Bool,
        DataType::FLOAT16 => Datatype::Fp16,
        DataType::DOUBLE => Datatype::Fp64,
        DataType::UINT32 => Datatype::Uint32,
        DataType::UINT64 => Datatype::Uint64,
        DataType::BFLOAT16 => Datatype::Bf16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rten_onnx::onnx::{Dimension, TensorShapeProto, TypeProto, TypeProtoTensor};

    use super::*;

    /// A field that holds a message or bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 0x7f {
            field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        field.push(u8::try_from(length).unwrap());
        field.extend_from_slice(content);
        field
    }

    /// A model with this many graphs, each in a node of the one around it.
    fn nested(graphs: usize) -> Vec<u8> {
        let innermost = Vec::new();
        let outermost = (1..graphs).fold(innermost, |graph, _| field(1, &field(5, &field(6, &graph))));
        field(7, &outermost)
    }

    fn refusal(file: &[u8]) -> String {
        describe(file).unwrap_err().to_string()
    }

    #[test]
    fn graphs_in_graphs_are_followed_to_a_limit() {
        assert_eq!(describe(&nested(MAX_DEPTH)).unwrap().signature, Signature::default());
        assert!(refusal(&nested(MAX_DEPTH + 1)).contains("more than 16 deep"));
        assert!(refusal(&nested(20_000)).contains("nested too deeply"));
        let types = (0..20_000).fold(Vec::new(), |kind, _| field(4, &field(1, &kind)));
        assert!(refusal(&field(7, &field(11, &field(2, &types)))).contains("nested too deeply"));
    }

    #[test]
    fn only_a_name_for_rows_shows_that_a_graph_takes_batches() {
        let value = |name: &str, dimension: Option<&str>, extent: Option<i64>| ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto {
                tensor_type: Some(TypeProtoTensor {
                    elem_type: Some(DataType::FLOAT),
                    shape: Some(TensorShapeProto {
                        dim: vec![Dimension { dim_value: extent, dim_param: dimension.map(str::to_owned) }],
                    }),
                }),
                ..Default::default()
            }),
        };
        let of = |names: [Option<&str>; 2]| {
            batching([value("x", names[0], None), value("y", names[1], None)].iter())
        };
        for name in ["batch", "Batch_Size", "N", "n"] {
            assert_eq!(of([Some(name), Some(name)]), Batching::Plain, "{name}");
        }
        for names in [
            [Some("batch"), Some("batch_out")],
            [Some("batch"), None],
            [None, None],
            [Some("sequence"), Some("sequence")],
            [Some("unk__1"), Some("unk__2")],
        ] {
            assert_eq!(of(names), Batching::Unproven, "{names:?}");
        }
        let fixed = [value("x", Some("batch"), None), value("y", None, Some(1))];
        assert_eq!(
            batching(fixed.iter()),
            Batching::Impossible { why: "'y' has a fixed first dimension of 1".to_owned() }
        );
    }

    #[test]
    fn half_a_model_is_none() {
        let model = [field(2, b"producer"), field(7, &field(2, b"name"))].concat();
        assert!(describe(&model).is_ok());
        for length in (1..model.len()).filter(|length| *length != 10) {
            assert!(describe(&model[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_length_beyond_the_file_is_not_believed() {
        // 2^62 bytes, in the model itself and in a tensor within it.
        let huge = [&[0x80; 8][..], &[0x40, 1]].concat();
        let raw_data = [&[9 << 3 | 2], &huge[..]].concat();
        for file in [
            [&[7 << 3 | 2], &huge[..]].concat(),
            [&[2 << 3 | 2], &huge[..]].concat(),
            [&[99 << 3 & 0x7f | 2], &huge[..]].concat(),
            // A number that goes on.
            vec![0x80; 100],
            field(7, &field(1, &[0x80; 100])),
            field(7, &field(5, &raw_data)),
        ] {
            assert!(refusal(&file).contains("not an ONNX model"), "{file:?}");
        }
    }
}
