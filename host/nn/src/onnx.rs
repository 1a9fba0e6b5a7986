//! The inputs and outputs that an ONNX file declares.
//!
//! Contract: names, datatypes and shapes as `ValueInfoProto` gives them (onnx.proto, IR version 3 and later); inputs
//! that are initializers with a default are left out. Symbolic and missing dimensions become -1.

use rten_onnx::onnx::{DataType, ModelProto, ValueInfoProto};
use vespid_types::{Datatype, Extent, Signature, TensorSpec};

use crate::NnError;

/// Reads the signature of an ONNX model.
///
/// # Errors
/// [`NnError::Load`] where the file is damaged or an input or output is not a tensor of a known rank and datatype.
pub(crate) fn signature(file: &[u8]) -> Result<Signature, NnError> {
    let model = ModelProto::parse_buf(file)
        .map_err(|error| NnError::Load { message: format!("the file is not an ONNX model: {error}") })?;
    let Some(graph) = model.graph else {
        return Err(NnError::Load { message: "the ONNX model holds no graph".to_owned() });
    };
    let has_default = |name: &Option<String>| graph.initializer.iter().any(|constant| constant.name == *name);
    let inputs = graph
        .input
        .iter()
        .filter(|input| !has_default(&input.name))
        .map(tensor_spec)
        .collect::<Result<_, _>>()?;
    let outputs = graph.output.iter().map(tensor_spec).collect::<Result<_, _>>()?;
    Ok(Signature { inputs, outputs })
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
